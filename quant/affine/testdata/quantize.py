"""mx.quantize on the CPU.

argv: type, bits, group, k, and 1 to give values back too. stdin: float32
little-endian, [rows, k]. stdout: words, scales, biases, and where asked for the
values that mx.dequantize gives in float32.
"""
import sys

import mlx.core as mx
import numpy as np

mx.set_default_device(mx.cpu)
kind, bits, group, k, back = sys.argv[1], *map(int, sys.argv[2:6])
dtype = {"BF16": mx.bfloat16, "F16": mx.float16, "F32": mx.float32}[kind]
x = mx.array(np.frombuffer(sys.stdin.buffer.read(), "<f4").reshape(-1, k)).astype(dtype)
words, scales, biases = mx.quantize(x, group_size=group, bits=bits)
out = sys.stdout.buffer
out.write(np.array(words).astype("<u4").tobytes())
for a in (scales, biases):
    raw = a if kind == "F32" else a.view(mx.uint16)
    out.write(np.array(raw).tobytes())
if back:
    w = mx.dequantize(words, scales.astype(mx.float32), biases.astype(mx.float32), group, bits)
    out.write(np.array(w).astype("<f4").tobytes())
