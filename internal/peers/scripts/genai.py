"""onnxruntime-genai as a peer, through its Python API: the speed protocol (speed.go).

argv: model folder, JSON list of prompt ids, tokens to generate, threads.
The cache is made for prompt and answer, not for the model's whole context, which
is genai's default and takes far more memory.
"""
import json
import pathlib
import sys
import time

import numpy as np
import onnxruntime_genai as og

folder, prompt, n, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
ids = np.array(json.loads(pathlib.Path(prompt).read_text()), np.int32)
og.disable_telemetry_events()


def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024


def once(model, report):
    params = og.GeneratorParams(model)
    params.set_search_options(do_sample=False, max_length=len(ids) + n, min_length=0, batch_size=1)
    g = og.Generator(model, params)
    out = []
    start = time.perf_counter()
    g.append_tokens(ids)
    g.generate_next_token()
    out.append(int(g.get_next_tokens()[0]))
    first = time.perf_counter()
    while len(out) < n and not g.is_done():
        g.generate_next_token()
        out.append(int(g.get_next_tokens()[0]))
    end = time.perf_counter()
    report |= {"prefill_seconds": first - start, "decode_seconds": end - first, "decoded": len(out) - 1, "peak_rss": peak(), "ids": out}
    return first, report


begin = time.perf_counter()
config = og.Config(folder)
config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
model = og.Model(config)
loaded = time.perf_counter()
first, report = once(model, {})
print(json.dumps(report | {"load_seconds": loaded - begin, "first_token_seconds": first - begin}), flush=True)
for _ in sys.stdin:
    print(json.dumps(once(model, {})[1]), flush=True)
