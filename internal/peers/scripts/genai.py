"""onnxruntime-genai as a peer, through its Python API.

argv: mode, model folder, then by mode
  logits WINDOW THREADS    stdin: int32 token ids; stdout: float32 logits [ids, vocab], each
                           window of ids a sequence of its own
  speed PROMPT N THREADS   the speed protocol (speed.go); PROMPT a JSON list of ids
The cache is made for prompt and answer, not for the model's whole context, which
is genai's default and takes far more memory.
"""
import json
import pathlib
import sys
import time

import numpy as np
import onnxruntime_genai as og


def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024


def load(folder, threads, **options):
    config = og.Config(folder)
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": int(threads)} | options}}}))
    return og.Model(config)


def generator(model, length):
    params = og.GeneratorParams(model)
    params.set_search_options(do_sample=False, max_length=length, min_length=0, batch_size=1)
    return og.Generator(model, params)


def logits(folder, window, threads):
    ids, window = np.frombuffer(sys.stdin.buffer.read(), "<i4").copy(), int(window)  # read-only ones are refused
    # Threads that wait for work without working would hinder whoever reads the rows.
    model = load(folder, threads, **{"session.intra_op.allow_spinning": "0"})
    for at in range(0, len(ids), window):
        part = ids[at:at + window]
        g = generator(model, window + 1)
        g.append_tokens(part)
        rows = np.asarray(g.get_output("logits"), np.float32)
        if rows.shape[:2] != (1, len(part)):
            sys.exit(f"logits of shape {rows.shape} for {len(part)} tokens")
        sys.stdout.buffer.write(np.ascontiguousarray(rows).data)


def speed(folder, prompt, n, threads):
    ids, n = np.array(json.loads(pathlib.Path(prompt).read_text()), np.int32), int(n)

    def once(report):
        g = generator(model, len(ids) + n)
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
    model = load(folder, threads)
    loaded = time.perf_counter()
    first, report = once({})
    print(json.dumps(report | {"load_seconds": loaded - begin, "first_token_seconds": first - begin}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(once({})[1]), flush=True)


og.disable_telemetry_events()
{"logits": logits, "speed": speed}[sys.argv[1]](*sys.argv[2:])
