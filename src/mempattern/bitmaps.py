"""What can be asked of a bitmap by itself.

`bitmap` is anything `GroupStats.update` takes for a region of `n_pages` pages; bits past the last
page count nowhere. Each function reads memory once in C, `page_numbers` twice
(csrc/bitmap/bitmap.inc.h, loops.inc.h), on the kernel in use, and releases the GIL.
"""

from __future__ import annotations

import errno
import functools
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from mempattern._memory import AnyBitmap, Bitmap, as_words, lend
from mempattern._native import ffi, lib
from mempattern._results import check
from mempattern.errors import BitmapError, UsageError
from mempattern.regions import GROUP_PAGES, Region, check_group_pages

_SEEN = ffi.typeof("mpat_seen *")
_NUMBER = ffi.typeof("uint64_t *")


@dataclass(frozen=True, slots=True)
class Seen:
    """What one interval did to the VM, or to one region. Whole numbers."""

    dirty_pages: int
    """Pages written in the interval."""
    redirtied_pages: int
    """Of these, pages also written in the interval before."""
    fresh_pages: int
    """Of these, pages never written before."""
    active_groups: int
    """Groups with at least one dirty page."""
    runs: int
    """Maximal runs of consecutive dirty pages, across group edges, within a region."""

    @classmethod
    def of(cls, counts: Any) -> Seen:
        """From the C core's `mpat_seen`."""
        return cls(
            counts.dirty_pages,
            counts.redirtied_pages,
            counts.fresh_pages,
            counts.active_groups,
            counts.runs,
        )


def group_counts(
    bitmap: AnyBitmap,
    n_pages: SupportsIndex,
    group_pages: SupportsIndex = GROUP_PAGES,
    *,
    out: npt.NDArray[np.uint32] | None = None,
) -> npt.NDArray[np.uint32]:
    """Dirty pages in each group of `group_pages` pages: a uint32 array, one entry a group.

    With `out`, an array of that shape and type, the counts go there, which spares the memory of a
    new one. Raises `BitmapError`, `RegionError`, `UsageError` (out), `KernelError`.

    >>> bitmap = np.zeros(16, np.uint64)
    >>> bitmap[8:10] = 0xFF
    >>> mempattern.group_counts(bitmap, n_pages=1024, group_pages=512)
    array([ 0, 16], dtype=uint32)
    """
    region = _region("bitmap", n_pages)
    words = as_words(bitmap, region)
    in_group = check_group_pages(group_pages)
    n_groups = region.n_groups(in_group)
    if out is None:
        counts = np.empty(n_groups, np.uint32)
    else:
        counts = _writable("out", out, np.uint32, n_groups)
    lent, counted = lend(words, region), ffi.from_buffer("uint32_t[]", counts)
    check(lib.mpat_group_counts(lent, region.n_pages, in_group, counted))
    return counts


def seen(
    bitmap: AnyBitmap,
    n_pages: SupportsIndex,
    *,
    previous: AnyBitmap | None = None,
    ever: Bitmap | None = None,
) -> Seen:
    """What the interval of `bitmap` did, after one of `previous` and those that `ever` has in it.

    `previous` is a bitmap as well; `ever`, a writable uint64 array of ceil(n_pages / 64) words, has
    every page written before, and then those of this interval too: `ever |= bitmap`. Without one,
    no page was written before. Groups are of 512 pages. It is what `GroupStats.update` returns, of
    bitmaps that the caller keeps. Raises `BitmapError`, `RegionError`, `UsageError` (ever),
    `KernelError`.
    """
    region = _region("bitmap", n_pages)
    words = as_words(bitmap, region)
    before = None if previous is None else as_words(previous, _region("previous", n_pages))
    if ever is not None:
        _writable("ever", ever, np.uint64, region.n_words)
    counts = ffi.new(_SEEN)
    result = lib.mpat_bitmap_seen(
        lend(words, region),
        ffi.NULL if before is None else lend(before, region),
        ffi.NULL if ever is None else lend(ever, region),
        region.n_pages,
        counts,
    )
    check(result)
    return Seen.of(counts)


def page_numbers(bitmap: AnyBitmap, n_pages: SupportsIndex) -> npt.NDArray[np.int64]:
    """Numbers of the dirty pages, ascending: a new int64 array.

    Raises `BitmapError`, also if the bitmap changed in the middle; `RegionError`, `KernelError`.
    """
    region = _region("bitmap", n_pages)
    words = as_words(bitmap, region)
    lent, counts, n_found = lend(words, region), ffi.new(_SEEN), ffi.new(_NUMBER)
    check(lib.mpat_bitmap_seen(lent, ffi.NULL, ffi.NULL, region.n_pages, counts))
    pages = np.empty(counts.dirty_pages, np.int64)
    room = ffi.from_buffer("int64_t[]", pages)
    result = lib.mpat_bitmap_pages(lent, region.n_pages, room, pages.size, n_found)
    if result == -errno.ENOSPC or (result == 0 and n_found[0] != pages.size):
        raise BitmapError("the bitmap changed while it was read; give a copy that stays as it is")
    check(result)
    return pages


_known = functools.lru_cache(maxsize=64, typed=True)(Region)


def _region(name: str, n_pages: Any) -> Region:
    """What is mostly of few sizes, and takes as long to be checked as a small bitmap to be read."""
    try:
        return _known(name, n_pages)
    except TypeError:  # it has no hash, and so is no number
        return Region(name, n_pages)


def _writable(
    name: str, array: npt.NDArray[Any], dtype: type[np.generic], length: int
) -> npt.NDArray[Any]:
    fits = type(array) is np.ndarray and array.dtype == dtype and array.shape == (length,)
    if not fits or not (array.flags.c_contiguous and array.flags.aligned and array.flags.writeable):
        raise UsageError(
            f"{name} must be a writable, contiguous array of {length} {np.dtype(dtype).name}"
        )
    return array
