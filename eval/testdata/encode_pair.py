"""Token ids of context and continuation as lm_eval/api/model.py, _encode_pair,
of lm-evaluation-harness 0.4.13 makes them for a causal model.

argv: tokenizer.json. stdin: JSON [[context, continuation], ...]. stdout: JSON
[[context ids, continuation ids], ...].
"""
import json
import sys

from tokenizers import Tokenizer

tok = Tokenizer.from_file(sys.argv[1])


def encode(text):
    return tok.encode(text, add_special_tokens=True).ids


out = []
for context, continuation in json.load(sys.stdin):
    spaces = len(context) - len(context.rstrip())
    if spaces > 0:
        continuation = context[-spaces:] + continuation
        context = context[:-spaces]
    whole, first = encode(context + continuation), encode(context)
    out.append([first, whole[len(first):]])
json.dump(out, sys.stdout)
