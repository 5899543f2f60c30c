"""Answers of folders, as mlx-lm loads them.

argv: number of greedy tokens, prompt, file of a text, most tokens of it. stdin:
JSON list of folders. stdout: for each, a JSON line {greedy: ids, gaps: how far
the best two logits lay apart, nll: mean over the text's tokens, tokens, logits:
of the last position of the text}. The text is taken in windows of 512.
"""
import json
import pathlib
import sys

import mlx.core as mx
import numpy as np
from mlx_lm import load
from mlx_lm.models.cache import make_prompt_cache

mx.set_default_device(mx.cpu)
count, prompt, file, most = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
for folder in json.load(sys.stdin):
    model, tokenizer = load(folder)
    x, cache = tokenizer.encode(prompt), make_prompt_cache(model)
    greedy, gaps = [], []
    while len(greedy) < count:
        logits = np.array(model(mx.array([x]), cache=cache)[0, -1].astype(mx.float32))
        best = int(logits.argmax())
        two = np.partition(logits, -2)[-2:]
        greedy.append(best)
        gaps.append(float(two[1] - two[0]))
        x = [best]
    ids = tokenizer.encode(pathlib.Path(file).read_text())[:most]
    nll, seen, last = 0.0, 0, []
    for at in range(0, len(ids) - 1, 511):
        window = ids[at : at + 512]
        logits = np.array(model(mx.array([window]))[0].astype(mx.float32)).astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        nll -= logp[np.arange(len(window) - 1), window[1:]].sum()
        seen += len(window) - 1
        last = logp[-1, :64].tolist()
    print(json.dumps(dict(greedy=greedy, gaps=gaps, nll=nll / max(seen, 1), tokens=seen, last=last)))
