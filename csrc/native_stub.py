"""Writes the stub of the cffi module `mempattern._native`, as that was built: `make stub`.

The module itself says which functions, structs and constants there are; of the headers, which
declare them, come the names of the parameters and what is const.
"""

import re
import sys
import textwrap

from cffi_build import HEADERS, declarations

from mempattern._native import ffi, lib

HEAD = '''\
"""The C core, as cffi gives it to Python. Made by `make stub` from the headers: do not edit.

A class named as a C type is there for type checkers only. That of a struct stands for a pointer
to one, whose fields Python reads through it; that of a number for an int or a float.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Generic, Literal, TypeVar, overload, type_check_only

from numpy.typing import NDArray
from typing_extensions import Buffer

_T = TypeVar("_T")
_Data = TypeVar("_Data", bound=CData)
_Buffer = Buffer | NDArray[Any]  # an array is a Buffer only from Python 3.12 on

@type_check_only
class CData:
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@type_check_only
class Null(CData): ...

@type_check_only
class Pointer(CData, Generic[_T]):
    def __getitem__(self, index: int, /) -> _T: ...
    def __setitem__(self, index: int, value: _T, /) -> None: ...

@type_check_only
class Array(Pointer[_T]):
    """C memory whose length is known."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[_T]: ...

@type_check_only
class CType(Generic[_T]): ...
'''

FFI = """\
@type_check_only
class FFI:
    NULL: Final[Null]
    def gc(
        self, cdata: _Data, destructor: Callable[[_Data], object], size: int = 0
    ) -> _Data: ...
    def string(self, cdata: Pointer[char], maxlen: int = -1) -> bytes: ...
    def buffer(self, cdata: CData, size: int = -1) -> memoryview: ...
"""

TAIL = """\
ffi: Final[FFI]
lib: Final[Lib]
"""

FLOATS = ("float", "double")
STRUCTS = ffi.list_types()[1]


def plain(ctype):
    return ctype.cname.removeprefix("struct ")


def is_struct(ctype):
    return ctype.kind == "struct"


def fields(ctype):
    """None of an opaque struct, which cffi must not be asked about: it would abort."""
    try:
        ffi.sizeof(ctype)
    except ffi.error:
        return []
    return ctype.fields


def data(ctype):
    """What Python gets of this type: from a function, a field or an element."""
    if ctype.kind == "void":
        return "None"
    if ctype.kind == "enum":
        return "int"
    if ctype.kind == "pointer":
        item = ctype.item
        if item.kind == "void":
            return "CData"
        return plain(item) if is_struct(item) else f"Pointer[{data(item)}]"
    if ctype.kind == "array":
        return f"Array[{data(ctype.item)}]"
    return plain(ctype)


def result(ctype):
    if ctype.kind == "primitive":
        return "float" if ctype.cname in FLOATS else "int"
    return data(ctype)


def argument(ctype, is_const):
    """What Python may give for a parameter of this type; a list only where C just reads."""
    if ctype.kind != "pointer":
        return result(ctype)
    item = ctype.item
    taken = [data(ctype), "Null"]
    if is_struct(item) and fields(item):
        taken.insert(1, f"Array[{plain(item)}]")
    if is_const and item.kind != "void":
        if item.cname in ("char", "uint8_t"):
            taken.append("bytes")
        elif is_struct(item) and fields(item):
            taken.append("Sequence[tuple[int, ...]]")
        elif not is_struct(item):
            taken.append(f"Sequence[{result(item)}]")
    return " | ".join(taken)


def function(name, text):
    ctype = ffi.typeof(getattr(lib, name))
    (written,) = re.findall(rf"\b{name}\(([^;]*)\);", text)
    parameters = [one.strip() for one in written.split(",")] if ctype.args else []
    names = [re.findall(r"\w+", said)[-1] for said in parameters]
    arguments = [
        f"{given}: {argument(ctype, said.startswith('const'))}"
        for given, said, ctype in zip(names, parameters, ctype.args, strict=True)
    ]
    listed = ", ".join([*arguments, "/"] if arguments else [])
    return f"@staticmethod\ndef {name}({listed}) -> {result(ctype.result)}: ..."


def struct(name):
    lines = [f"{field}: {result(each.type)}" for field, each in fields(ffi.typeof(name))]
    return f"@type_check_only\nclass {name}(CData):\n" + textwrap.indent(
        "\n".join(lines) or "...", "    "
    )


def overloads(name, parameters, pairs):
    """One for each C type that the string names."""
    return "\n".join(
        f'@overload\ndef {name}(self, cdecl: Literal["{cdecl}"]{parameters}) -> {given}: ...'
        for cdecl, given in pairs
    )


def stub():
    text = "".join(map(declarations, HEADERS))
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    names = dir(lib)
    functions = [name for name in names if callable(getattr(lib, name))]
    numbers = sorted({"char", *re.findall(r"\b(?:u?int\d+_t|size_t|double)\b", text)})
    opaque = [name for name in STRUCTS if not fields(ffi.typeof(name))]
    whole = [name for name in STRUCTS if name not in opaque]

    arrays = [(f"{name}[]", f"Array[{name}]") for name in [*numbers, *whole]]
    arrays += [(f"{name} *[]", f"Array[Pointer[{name}]]") for name in numbers]
    objects = [(f"{name} *", f"Pointer[{name}]") for name in numbers]
    objects += [(f"{name} **", f"Pointer[Pointer[{name}]]") for name in numbers]
    objects += [(f"{name} *", name) for name in whole]
    objects += [(f"{name} **", f"Pointer[{name}]") for name in opaque]
    typed = "@overload\ndef {}(self, cdecl: CType[_T]{}) -> {}: ..."
    init, buffer = ", init: object = ...", ", python_buffer: _Buffer"
    types = [(cdecl, f"CType[{given}]") for cdecl, given in arrays + objects]
    addresses = [("uintptr_t", "int")] + [one for one in objects if not one[0].endswith("**")]
    ffi_methods = [
        typed.format("new", init, "_T"),
        overloads("new", init, arrays + objects),
        overloads("typeof", "", types),
        typed.format("from_buffer", buffer, "_T"),
        "@overload\ndef from_buffer(self, cdecl: _Buffer) -> Any: ...",
        overloads("from_buffer", buffer, arrays[: len(numbers)]),
        overloads("cast", ", value: CData | int", addresses),
    ]
    constants = [f"{name}: Final = {getattr(lib, name)}" for name in names if name not in functions]
    return "\n".join(
        [
            HEAD,
            *(
                f"@type_check_only\nclass {name}({kind}): ...\n"
                for name in numbers
                for kind in ["bytes" if name == "char" else "float" if name in FLOATS else "int"]
            ),
            *(struct(name) + "\n" for name in STRUCTS),
            FFI + textwrap.indent("\n".join(ffi_methods), "    ") + "\n",
            "@type_check_only\nclass Lib:",
            textwrap.indent("\n".join(constants), "    "),
            *(textwrap.indent(function(name, text), "    ") for name in functions),
            "",
            TAIL,
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(stub())
