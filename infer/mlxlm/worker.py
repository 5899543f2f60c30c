"""Evaluates token ids with mlx-lm for another process; see doc.go for the frames.

argv: the model's folder. Frames come on standard input and go to standard
output; whatever else is printed goes to standard error.
"""
import json
import os
import struct
import sys

out = os.fdopen(os.dup(1), "wb", buffering=0)
os.dup2(2, 1)  # prints of the packages must not get among the frames
inp = sys.stdin.buffer


def send(kind, data):
    head = struct.pack("<cI", kind, len(data))
    for part in (head, data):
        view = memoryview(part)
        while len(view):
            view = view[out.write(view):]


def receive():
    head = inp.read(5)
    if len(head) < 5:
        sys.exit(0)  # the other process is gone, or has closed the session
    kind, size = struct.unpack("<cI", head)
    data = inp.read(size)
    if len(data) < size:
        sys.exit(0)
    return kind, data


def main():
    import pathlib

    import mlx.core as mx
    import numpy as np
    from mlx_lm import __version__ as version
    from mlx_lm.models.cache import KVCache, can_trim_prompt_cache, make_prompt_cache, trim_prompt_cache
    from mlx_lm.utils import load_model

    model, config = load_model(pathlib.Path(sys.argv[1]))
    cache, held = make_prompt_cache(model), 0
    text = config.get("text_config") or config
    device = "Metal" if "gpu" in str(mx.default_device()).lower() else "CPU"
    # Windows and states can be taken back at the start or not at all.
    trims = all(type(c) is KVCache for c in cache)
    send(b"H", json.dumps({"mlx_lm": version, "device": device, "vocab": text.get("vocab_size", 0), "trims": trims}).encode())

    def logits(ids, every):
        """[rows, vocab] float32: of every id, else of the last one."""
        if not every and len(ids) > 1:
            # All but the last are evaluated for the cache alone.
            model(mx.array(ids[:-1])[None], cache=cache)
            mx.eval([c.state for c in cache])
            ids = ids[-1:]
        rows = model(mx.array(ids)[None], cache=cache)[0]
        rows = rows.astype(mx.float32)
        mx.eval(rows)
        return np.ascontiguousarray(np.array(rows, copy=False), dtype="<f4")

    while True:
        kind, data = receive()
        try:
            if kind == b"E":
                ids = np.frombuffer(data[1:], "<i4").astype(np.int32)
                rows = logits(ids, data[0] != 0)
                held += len(ids)
                send(b"L", rows.tobytes())
            elif kind == b"T":
                keep = struct.unpack("<I", data)[0]
                if keep < held:
                    if keep > 0 and can_trim_prompt_cache(cache):
                        held -= trim_prompt_cache(cache, held - keep)
                    if keep != held:  # it cannot be taken back
                        cache, held = make_prompt_cache(model), 0
                send(b"K", struct.pack("<I", held))
            else:
                send(b"X", f"unknown request {kind!r}".encode())
        except Exception as e:  # whatever it is, the other side must hear of it
            cache, held = make_prompt_cache(model), 0
            send(b"X", f"{type(e).__name__}: {e}".encode())


try:
    main()
except SystemExit:
    raise
except BaseException as e:
    send(b"X", f"{type(e).__name__}: {e}".encode())
    sys.exit(1)
