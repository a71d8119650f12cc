"""A caller's function made machine code, or one sentence that says why it cannot be."""

# Numba has types for a part of itself.
# pyright: reportPrivateImportUsage=false, reportAttributeAccessIssue=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, NoReturn

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import get_itemsize, populate_array

from mempattern.errors import UsageError


def compile_user(function: Callable[..., Any], arguments: dict[str, Any]) -> tuple[Any, Any]:
    """The caller's function as a compiled one that takes arguments of these Numba types, and the
    type of its result, which is a number. It releases the GIL and checks its indices.

    Raises `UsageError` if it takes other arguments, returns no number, or does not compile.
    """
    if not inspect.isfunction(function):
        raise UsageError(f"only a Python function can be compiled, not {function!r}")
    _check_parameters(function, tuple(arguments))
    if numba.config.DISABLE_JIT:
        raise UsageError(
            f"{function.__name__} cannot be compiled while NUMBA_DISABLE_JIT is set; "
            f"to debug it, call it as a plain Python function"
        )
    signature = tuple(arguments.values())
    try:
        # Unchecked, an index past a short last group would read a stranger's memory.
        compiled = numba.njit(signature, nogil=True, boundscheck=True)(function)
    except Exception as error:  # what Numba raises is not only its own
        _refuse(function, error)
    result = types.unliteral(compiled.overloads[signature].signature.return_type)
    if not isinstance(result, (types.Integer, types.Boolean, types.Float)):
        raise UsageError(f"{function.__name__} must return a number, not {result}")
    return compiled, result


def compile_loop(loop: Callable[..., None], *arguments: Any) -> Any:
    """Our loop around a compiled function."""
    return numba.njit(arguments, nogil=True)(loop)


def numba_type(name: str, dtype: np.dtype[Any]) -> Any:
    """Raises `UsageError` for a dtype that Numba does not know."""
    try:
        return numba.from_dtype(dtype)
    except Exception:
        raise UsageError(f"{name} has dtype {dtype}, which Numba does not compile") from None


def read_only(dtype: Any) -> Any:
    """The type of a contiguous array of one dimension that is not written to."""
    return types.Array(dtype, 1, "C", readonly=True)


@intrinsic  # type: ignore[untyped-decorator]
def part(typing_context: Any, array: Any, begin: Any, length: Any) -> Any:
    """array[begin : begin + length] of a contiguous array that outlives it, unchecked.

    Numba's own slice clips the range, and counts a reference to the array: for a group of 512 pages
    that takes longer than counting them. With an item's size that is no constant, so does the rest.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_struct = context.make_array(array)
        whole = array_struct(context, builder, arguments[0])
        view = array_struct(context, builder)
        item_bytes = context.get_constant(types.intp, get_itemsize(context, array))
        populate_array(
            view,
            data=builder.gep(whole.data, [arguments[1]]),
            shape=cgutils.pack_array(builder, [arguments[2]]),
            strides=cgutils.pack_array(builder, [item_bytes]),
            itemsize=item_bytes,
            meminfo=None,
        )
        return view._getvalue()

    return array(array, types.intp, types.intp), generate


def _check_parameters(function: Callable[..., Any], names: tuple[str, ...]) -> None:
    try:
        inspect.signature(function).bind(*names)
    except TypeError:
        raise UsageError(
            f"{function.__name__} must take the arguments ({', '.join(names)}), "
            f"not {inspect.signature(function)}"
        ) from None


def _refuse(function: Callable[..., Any], error: Exception) -> NoReturn:
    """Of Numba's many lines, the one that says it."""
    text = str(error)
    cause = re.search(r"Numba\w*Error: (.+)", text)  # the cause of "no implementation found"
    lines = [line for line in text.splitlines() if line.strip()] or [type(error).__name__]
    first = lines[1 if lines[0].startswith("Failed in") and len(lines) > 1 else 0]
    reason = re.split(r" Raised from |, defined at ", cause[1] if cause else first)[0].strip(" .")
    line = getattr(getattr(error, "loc", None), "line", None)
    where = "" if line is None else f" (line {line})"
    raise UsageError(
        f"{function.__name__} does not compile in Numba's nopython mode: {reason}{where}"
    ) from None
