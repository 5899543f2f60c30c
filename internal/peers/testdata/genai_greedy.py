"""Greedy tokens of onnxruntime-genai.

argv: tokens to generate, model folders. stdin: JSON list of prompt ids. stdout:
JSON list with the list of ids of each folder; one may end early, at an end token.
"""
import json
import sys

import numpy as np
import onnxruntime_genai as og

og.disable_telemetry_events()
n, prompt, answers = int(sys.argv[1]), json.load(sys.stdin), []
for folder in sys.argv[2:]:
    model = og.Model(folder)
    params = og.GeneratorParams(model)
    params.set_search_options(do_sample=False, max_length=len(prompt) + n, min_length=0)
    g = og.Generator(model, params)
    g.append_tokens(np.array(prompt, np.int32))
    out = []
    while len(out) < n and not g.is_done():
        g.generate_next_token()
        out.append(int(g.get_next_tokens()[0]))
    answers.append(out)
print(json.dumps(answers))
