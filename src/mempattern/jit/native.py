"""What compiled code may call: the C core's counts, and the instruction that counts bits."""

# Numba has types for a part of itself.
# pyright: reportArgumentType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
from __future__ import annotations

from typing import Any

import numba
from numba import types
from numba.core.typing import cffi_utils
from numba.extending import intrinsic

from mempattern import _native
from mempattern.errors import KernelError, UsageError

cffi_utils.register_module(_native)
_ffi = _native.ffi
_group_counts = _native.lib.mpat_group_counts


def group_counts(words: Any, n_pages: int, group_pages: int, out: Any) -> None:
    """out[g] = dirty pages in group g of `group_pages` pages, by the C core's kernel in use.

    As `mempattern.group_counts`, but for compiled code (a reducer's, a policy's, your own `njit`
    functions'): `words` is a contiguous uint64 array of at least `n_pages` bits, of which those
    past `n_pages` are ignored, and `out` a contiguous uint32 array of at least as many entries as
    there are groups. `group_pages` is a multiple of 64. Raises `UsageError`, `KernelError`.
    """
    pages, step = numba.int64(n_pages), numba.int64(group_pages)
    if pages < 1 or pages > words.size * 64:
        raise UsageError("n_pages must be at least 1, and at most the bits of the words")
    if step < 64 or step % 64 != 0 or step >= 1 << 32:
        raise UsageError("group_pages must be a positive multiple of 64 below 2**32")
    if (pages - 1) // step >= out.size:
        raise UsageError("out must have an entry for each group")
    out[0] = 0  # which does not compile for a read-only array
    if _group_counts(_ffi.from_buffer(words), pages, step, _ffi.from_buffer(out)) != 0:
        raise KernelError("MEMPATTERN_KERNEL names a kernel that cannot run here")


@intrinsic  # type: ignore[untyped-decorator]
def _population(typing_context: Any, word: Any) -> Any:
    if not isinstance(word, types.Integer):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.cast(builder, builder.ctpop(arguments[0]), word, types.int64)

    return types.int64(word), generate


def popcount(word: int) -> int:
    """The bits set in an integer, such as the dirty pages of a bitmap's word: an int64.

    For compiled code, since Numba has no `numpy.bitwise_count`.
    """
    return _population(word)  # type: ignore[no-any-return]


group_counts = numba.njit(nogil=True)(group_counts)
popcount = numba.njit(popcount)
