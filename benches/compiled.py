"""C of the benches, compiled for this machine with -O3 -march=native."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from cffi import FFI

HERE = Path(__file__).parent


def load(name: str, sources: list[str], declarations: str, libraries: tuple[str, ...] = ()) -> Any:
    """(ffi, lib) of these files, in build/NAME.so.

    Raises `subprocess.CalledProcessError` if they do not compile.
    """
    built = HERE.parent / "build" / f"{name}.so"
    built.parent.mkdir(exist_ok=True)
    made = built.with_suffix(f".{os.getpid()}.so")  # others may run, with the old one
    subprocess.run(
        ["cc", "-O3", "-march=native", "-std=gnu11", "-shared", "-fPIC", "-Wall", "-Wextra",
         f"-I{HERE.parent / 'csrc/include'}", "-o", str(made),
         *(str(HERE / source) for source in sources), *(f"-l{library}" for library in libraries)],
        check=True,
    )  # fmt: skip
    made.replace(built)
    ffi = FFI()
    ffi.cdef(declarations)
    return ffi, ffi.dlopen(str(built))
