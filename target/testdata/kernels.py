"""Prints the kernels that an ONNX Runtime wheel registers for one provider.

One line each: domain/operator, first and last operator-set version ("-" for
open), and the element types of every type variable. Kernels that differ in one
variable alone are one line. Lines that begin with "function" name operators that
ONNX defines by others, which ONNX Runtime expands where it has no kernel.

    python kernels.py CPUExecutionProvider  > ../data/kernels/cpu-VERSION.txt
    python kernels.py CUDAExecutionProvider > ../data/kernels/cuda-VERSION.txt

The second one wants onnxruntime-gpu. It loads the provider, so without a GPU
stubs.sh in this folder makes the CUDA and TensorRT libraries it links, with
functions that do nothing; registering kernels calls none that matters.
"""
import sys

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

SHORT = {
    "float": "f32", "float16": "f16", "bfloat16": "bf16", "double": "f64", "bool": "bool", "string": "text",
    "float8e4m3fn": "f8e4m3fn", "float8e4m3fnuz": "f8e4m3fnuz", "float8e5m2": "f8e5m2",
    "float8e5m2fnuz": "f8e5m2fnuz", "float8e8m0": "f8e8m0", "float4e2m1": "f4e2m1",
    "complex64": "c64", "complex128": "c128",
}
for bits in (2, 4, 8, 16, 32, 64):
    SHORT[f"int{bits}"], SHORT[f"uint{bits}"] = f"i{bits}", f"u{bits}"


def short(types):
    return frozenset(SHORT[t[7:-1]] for t in types if t.startswith("tensor(") and t[7:-1] in SHORT)


def merge(rows):
    """Joins rows that differ in the types of one variable alone."""
    rows = set(rows)
    before = None
    while rows != before:
        before = rows
        for i in range(max(len(r) for r in rows)):
            joined = {}
            for r in sorted(rows, key=lambda r: [(v, sorted(ts)) for v, ts in r]):
                if i < len(r):
                    joined.setdefault((r[:i], r[i][0], r[i + 1:]), set()).update(r[i][1])
                else:
                    joined[r, None, None] = None
            rows = {k[0] if v is None else k[0] + ((k[1], frozenset(v)),) + k[2] for k, v in joined.items()}
    return rows


def main(provider):
    groups = {}
    for k in state.get_all_opkernel_def():
        if k.provider != provider or k.domain not in ("", "com.microsoft"):
            continue
        row = tuple((v, short(ts)) for v, ts in sorted(k.type_constraints.items()))
        if any(not ts for _, ts in row):
            continue  # sequences, optionals and sparse tensors
        groups.setdefault((k.domain or "ai.onnx", k.op_name) + tuple(k.version_range), []).append(row)
    print(f"# Made by target/testdata/kernels.py. {provider} of ONNX Runtime {onnxruntime.__version__}.")
    for (domain, op, since, until), rows in sorted(groups.items()):
        last = "-" if until == 2**31 - 1 else until
        for line in sorted(" ".join(f"{v}={','.join(sorted(ts))}" for v, ts in row) for row in merge(rows)):
            print(f"{domain}/{op} {since} {last} {line}".rstrip())
    if provider != "CPUExecutionProvider":
        return
    import onnx.defs
    for s in sorted(onnx.defs.get_all_schemas_with_history(), key=lambda s: (s.name, s.since_version)):
        if s.domain == "" and (s.has_function or s.has_context_dependent_function):
            print(f"function ai.onnx/{s.name} {s.since_version}")


main(sys.argv[1])
