"""Lists the operator builders of the CoreML provider in a macOS libonnxruntime.

Reads the symbol table of the Mach-O file (64 bit, little-endian: mach-o/loader.h,
nlist.h), so it runs anywhere:

    python coreml.py FOLDER/onnxruntime/capi/libonnxruntime.VERSION.dylib > coreml-VERSION.txt
"""
import re
import struct
import sys

b = open(sys.argv[1], "rb").read()
commands, offset = struct.unpack_from("<I", b, 16)[0], 32
names = set()
for _ in range(commands):
    kind, size = struct.unpack_from("<2I", b, offset)
    if kind == 2:  # LC_SYMTAB
        symbols, count, strings, _ = struct.unpack_from("<4I", b, offset + 8)
        for i in range(count):
            at = strings + struct.unpack_from("<I", b, symbols + 16 * i)[0]
            names.add(b[at : b.index(b"\0", at)].decode("latin-1"))
    offset += size
print("# Made by target/testdata/coreml.py from", re.search(r"libonnxruntime[^/]*$", sys.argv[1])[0])
builders = {m[1] for m in (re.fullmatch(r"__ZTSN11onnxruntime6coreml\d+([A-Za-z]+)OpBuilderE", n) for n in names) if m}
for name in sorted(builders - {"I", "Base"}):
    trivial = any(re.search(rf"coreml\d+{name}OpBuilder9IsTrivial", n) for n in names)
    print(name + (" trivial" if trivial else ""))
