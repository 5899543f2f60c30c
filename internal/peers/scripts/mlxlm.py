"""mlx-lm as a peer, through its Python API; on Linux it computes on the CPU.

argv: mode, model folder, then by mode
  logits WINDOW            stdin: int32 token ids; stdout: float32 logits [ids, vocab], each
                           window of ids a sequence of its own
  speed PROMPT N           the speed protocol (speed.go); PROMPT a JSON list of ids
"""
import json
import pathlib
import sys
import time

import mlx.core as mx
import numpy as np
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model


def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024


def logits(folder, window):
    model, _ = load_model(pathlib.Path(folder))
    ids, window = np.frombuffer(sys.stdin.buffer.read(), "<i4").tolist(), int(window)
    for at in range(0, len(ids), window):
        rows = model(mx.array(ids[at:at + window])[None], cache=make_prompt_cache(model))[0].astype(mx.float32)
        sys.stdout.buffer.write(np.ascontiguousarray(np.array(rows)).data)


def speed(folder, prompt, n):
    ids, n = mx.array(json.loads(pathlib.Path(prompt).read_text())), int(n)

    def once(report):
        out, first, start = [], None, time.perf_counter()
        for token, _ in generate_step(ids, model, max_tokens=n):
            first = first or time.perf_counter()
            out.append(int(token))
        end = time.perf_counter()
        report |= {"prefill_seconds": first - start, "decode_seconds": end - first, "decoded": len(out) - 1, "peak_rss": peak(), "ids": out}
        return first, report

    loading = time.perf_counter()
    model, _ = load_model(pathlib.Path(folder))
    loaded = time.perf_counter()
    first, report = once({})
    print(json.dumps(report | {"load_seconds": loaded - loading, "first_token_seconds": first - loading}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(once({})[1]), flush=True)


{"logits": logits, "speed": speed}[sys.argv[1]](*sys.argv[2:])
