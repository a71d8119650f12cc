"""Memory shared with the C core: bitmaps going in, arrays coming out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from mempattern._native import ffi, lib
from mempattern.errors import BitmapError, OutOfMemoryError
from mempattern.regions import Region

if TYPE_CHECKING:
    from typing_extensions import Buffer

Bitmap = npt.NDArray[np.uint64]
"""Little-endian 64-bit words; bit i of word w is page 64*w + i, as KVM writes it."""

AnyBitmap: TypeAlias = "Bitmap | npt.NDArray[np.uint8] | Buffer"
"""What is taken as one: words, or bytes, or whatever has the buffer protocol."""

_UINT64 = np.dtype("<u8")
_UINT8 = np.dtype("u1")
_WORDS = ffi.typeof("uint64_t[]")


class _Lender:
    """Keeps the owner of C memory alive for as long as an array over it is."""

    __slots__ = ("__array_interface__", "owner")

    def __init__(self, owner: object, address: int, dtype: str, length: int) -> None:
        self.owner = owner
        self.__array_interface__ = {
            "version": 3,
            "data": (address, True),
            "typestr": dtype,
            "shape": (length,),
        }


def view(owner: object, pointer: Any, dtype: str, length: int) -> npt.NDArray[Any]:
    """A read-only array over C memory that belongs to `owner`. Nothing is copied."""
    return np.asarray(_Lender(owner, int(ffi.cast("uintptr_t", pointer)), dtype, length))


class BitmapPool:
    """Guard-paged bitmaps of one size, reused once no array over them is left.

    A collection needs a new bitmap each time, and at 8 MiB a fresh one would cost two thousand page
    faults. One is filled while the one before is still looked at; what a reader held beyond that is
    given back to the system.
    """

    def __init__(self, n_pages: int) -> None:
        self._n_pages = n_pages
        self._n_words = int(lib.mpat_bitmap_words(n_pages))
        self._free: list[Any] = []
        self._most_free = 2

    def take(self) -> tuple[Any, Bitmap]:
        """A pointer for C to write to, and the read-only array of the same memory."""
        pointer = self._free.pop() if self._free else self._allocate()
        owner = ffi.gc(pointer, self._give_back)
        return pointer, view(owner, pointer, "<u8", self._n_words)

    def close(self) -> None:
        """Free what is free, and from now on what becomes so."""
        self._most_free = 0
        self._free.clear()

    def _give_back(self, pointer: Any) -> None:
        if len(self._free) < self._most_free:
            self._free.append(pointer)

    def _allocate(self) -> Any:
        n_pages = self._n_pages
        out = ffi.new("uint64_t **")
        if lib.mpat_bitmap_alloc(n_pages, out):
            raise OutOfMemoryError(f"there is no memory for a bitmap of {n_pages} pages")
        return ffi.gc(out[0], lambda pointer: lib.mpat_bitmap_free(pointer, n_pages))


def as_words(bitmap: object, region: Region) -> Bitmap:
    """Any bitmap of the region as an aligned, contiguous uint64 array.

    Takes uint64 arrays and buffers of exactly `region.n_words` words, and byte arrays and buffers
    (uint8, bytes, bytearray, mmap, memoryview) of as many bytes or of ceil(n_pages / 8). Copies
    only what is not contiguous, not 8-byte aligned, or ends within a word.
    """
    if (
        type(bitmap) is np.ndarray  # the usual case by itself: few steps, as they may all be cold
        and bitmap.dtype == _UINT64
        and bitmap.shape == (region.n_words,)
        and bitmap.flags.c_contiguous
        and bitmap.flags.aligned
    ):
        return bitmap
    return _converted(bitmap, region)


def _converted(bitmap: object, region: Region) -> Bitmap:
    if isinstance(bitmap, np.ma.MaskedArray):
        raise BitmapError(
            f"region {region.name!r}: a masked array was given; say which bits count with .filled()"
        )
    if type(bitmap) is np.ndarray:
        array = bitmap
    elif isinstance(bitmap, np.ndarray):  # a subclass may say of itself what it likes
        array = np.ndarray.view(cast("npt.NDArray[Any]", bitmap), np.ndarray)
    else:
        try:
            array = np.asarray(memoryview(bitmap))  # type: ignore[arg-type]
        except (TypeError, ValueError, BufferError):
            raise BitmapError(
                f"region {region.name!r}: a bitmap must be an array or have the buffer protocol, "
                f"and {type(bitmap).__name__} has not"
            ) from None
    if array.ndim != 1:
        raise BitmapError(
            f"region {region.name!r}: a bitmap must have one dimension, not {array.ndim}"
        )
    if array.dtype == _UINT64:
        expected = f"{region.n_words} words"
        fits = array.size == region.n_words
    elif array.dtype == _UINT8:
        least = -(-region.n_pages // 8)
        expected = f"{region.n_words * 8} bytes (or {least}, without the padding)"
        fits = array.size in (region.n_words * 8, least)
    else:
        raise BitmapError(f"region {region.name!r}: {_wrong_dtype(array.dtype)}")
    if not fits:
        raise BitmapError(
            f"region {region.name!r}: a bitmap of {region.n_pages} pages has {expected}, "
            f"not {array.size}"
        )
    if array.dtype == _UINT8:
        array = _bytes_to_words(array, region.n_words)
    elif not (array.flags.c_contiguous and array.flags.aligned):
        array = array.copy()
    return array


def _bytes_to_words(array: npt.NDArray[np.uint8], n_words: int) -> Bitmap:
    whole = array.size == n_words * 8
    if whole and array.flags.c_contiguous and array.ctypes.data % 8 == 0:
        return array.view(np.uint64)
    words = np.zeros(n_words, np.uint64)
    words.view(np.uint8)[: array.size] = array
    return words


def _wrong_dtype(dtype: np.dtype[Any]) -> str:
    if dtype.newbyteorder("=") == _UINT64:
        return "the bitmap is big-endian; KVM's are little-endian: convert with .astype('<u8')"
    if dtype == np.bool_:
        return (
            "the bitmap has one bool a page; pack it with numpy.packbits(bitmap, bitorder='little')"
        )
    return f"a bitmap has dtype uint64 or uint8, not {dtype}; view it as one of these"


def lend(words: Bitmap, region: Region) -> Any:
    """What `as_words` gave as C's `uint64_t[]`, which keeps it alive.

    Raises `BitmapError` if it was shrunk since.
    """
    lent = ffi.from_buffer(_WORDS, words)
    if len(lent) < region.n_words:
        raise BitmapError(f"region {region.name!r}: the bitmap was resized in the middle")
    return lent
