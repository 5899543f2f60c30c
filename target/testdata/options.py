"""Prints the option keys and defaults of onnxruntime-gpu's CUDA and TensorRT providers.

Asks the library itself, through its C API, so it wants the libraries the
providers link; stubs.sh makes empty ones:

    LD_LIBRARY_PATH=OUT python options.py FOLDER/onnxruntime/capi/libonnxruntime.so.VERSION > options-VERSION.txt

Further arguments "cuda:key=value" or "tensorrt:key=value" are set instead and
the answer printed.
"""
import ctypes as c
import sys

lib = c.CDLL(sys.argv[1])


class Base(c.Structure):
    _fields_ = [("GetApi", c.CFUNCTYPE(c.c_void_p, c.c_uint32)), ("GetVersionString", c.CFUNCTYPE(c.c_char_p))]


lib.OrtGetApiBase.restype = c.POINTER(Base)
base = lib.OrtGetApiBase().contents
table = c.cast(base.GetApi(24), c.POINTER(c.c_void_p))


def call(index, *args):
    """Calls a function of struct OrtApi that returns an OrtStatus*."""
    status = c.CFUNCTYPE(c.c_void_p, *[type(a) for a in args])(table[index])(*args)
    if status:
        raise ValueError(c.CFUNCTYPE(c.c_char_p, c.c_void_p)(table[2])(status).decode())


env, allocator = c.c_void_p(), c.c_void_p()
call(3, c.c_int(4), c.c_char_p(b"options"), c.pointer(env))  # CreateEnv
call(78, c.pointer(allocator))  # GetAllocatorWithDefaultOptions
CREATE = {"tensorrt": 171, "cuda": 205}  # then Update and GetAsString


def ask(ep, pairs=()):
    options, text = c.c_void_p(), c.c_char_p()
    call(CREATE[ep], c.pointer(options))
    for k, v in pairs:
        keys, values = (c.c_char_p * 1)(k.encode()), (c.c_char_p * 1)(v.encode())
        call(CREATE[ep] + 1, options, c.cast(keys, c.c_void_p), c.cast(values, c.c_void_p), c.c_size_t(1))
    call(CREATE[ep] + 2, options, allocator, c.pointer(text))
    return dict(p.split("=", 1) for p in text.value.decode().split(";") if p)


if len(sys.argv) > 2:
    for arg in sys.argv[2:]:
        ep, pair = arg.split(":", 1)
        try:
            k, v = pair.split("=", 1)
            print(arg, "->", ask(ep, [(k, v)]).get(k))
        except ValueError as e:
            print(arg, "refused:", str(e)[:160])
else:
    print(f"# Made by target/testdata/options.py. ONNX Runtime {base.GetVersionString().decode()}.")
    for ep in sorted(CREATE):
        for k, v in sorted(ask(ep).items()):
            print(f"{ep} {k}={v}")
