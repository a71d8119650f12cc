"""The stub of the cffi module says what that has, and is what the headers make of it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from mempattern._native import ffi, lib

ROOT = Path(__file__).parent.parent
STUB = ast.parse((ROOT / "src/mempattern/_native.pyi").read_text())
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
FUNCTIONS = [name for name in dir(lib) if callable(getattr(lib, name))]


def _stubbed(class_name, kind):
    return [node for node in CLASSES[class_name].body if isinstance(node, kind)]


def test_it_has_the_functions_of_the_core_and_no_others():
    stubbed = [node.name for node in _stubbed("Lib", ast.FunctionDef)]
    assert sorted(stubbed) == sorted(FUNCTIONS)


@pytest.mark.parametrize("function", _stubbed("Lib", ast.FunctionDef), ids=lambda node: node.name)
def test_a_function_takes_and_gives_what_the_c_one_does(function):
    of_c = ffi.typeof(getattr(lib, function.name))
    arguments = function.args.posonlyargs
    assert len(arguments) == len(of_c.args)
    for argument, ctype in zip(arguments, of_c.args, strict=True):
        assert ("Null" in ast.unparse(argument.annotation)) == (ctype.kind == "pointer")
    given = {"void": ("None",), "pointer": ("Pointer", "CData")}
    assert ast.unparse(function.returns).startswith(given.get(of_c.result.kind, ("int",)))


def test_it_has_the_constants_with_their_values():
    stubbed = {
        node.target.id: ast.literal_eval(node.value) for node in _stubbed("Lib", ast.AnnAssign)
    }
    assert stubbed == {name: getattr(lib, name) for name in dir(lib) if name not in FUNCTIONS}


@pytest.mark.parametrize("name", ffi.list_types()[1])  # type: ignore[attr-defined]
def test_a_struct_has_the_fields_of_the_c_one(name):
    stubbed = [node.target.id for node in _stubbed(name, ast.AnnAssign)]
    try:
        made = ffi.new(f"{name} *")
    except TypeError:  # it is opaque
        assert stubbed == []
    else:
        assert sorted(stubbed) == dir(made)


def test_it_is_what_the_headers_make_of_it():
    made = subprocess.run(
        [sys.executable, str(ROOT / "csrc/native_stub.py")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert ast.dump(ast.parse(made.stdout)) == ast.dump(STUB), "make stub writes it anew"
