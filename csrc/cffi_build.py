"""Makes the cffi module `mempattern._native` from the C headers, which are the only declaration.

Run at build time by cffi-gen-src; what it reads lies between "cdef begin" and "cdef end".
"""

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
HEADERS = [HERE / "include/mempattern.h", HERE / "microvm/microvm.h"]


def declarations(header: Path) -> str:
    text = header.read_text()
    begin = text.index("\n", text.index("/* cdef begin"))
    return text[begin : text.index("/* cdef end")].replace("MPAT_API ", "")


ffibuilder = FFI()
for header in HEADERS:
    ffibuilder.cdef(declarations(header))
ffibuilder.set_source(
    "mempattern._native", "".join(f'#include "{header.name}"\n' for header in HEADERS)
)
