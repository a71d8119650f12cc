"""The last few bitmaps of every region, and the pages that keep coming back in them."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping

import numpy as np

from mempattern._checks import whole_number
from mempattern._memory import word_pointers, words_of_all
from mempattern._native import ffi, lib
from mempattern._results import check
from mempattern.errors import UsageError
from mempattern.interval import Bitmap, Interval
from mempattern.regions import Region, check_regions

_MAX_DEPTH = 255


class DirtyHistory:
    """Remembers the last `depth` intervals (1 to 255) of the regions, `depth` bits a page.

    Give it to `GroupStats(..., history=...)` to have it filled in the same pass over memory, or
    feed it with `update`. One thread at a time; a second one gets `BusyError`.

    Raises `RegionError`, `UsageError` (depth).
    """

    def __init__(self, regions: Iterable[Region], depth: int = 16) -> None:
        self.regions = check_regions(regions)
        checked = whole_number(depth, 1, _MAX_DEPTH)
        if checked is None:
            raise UsageError(f"depth must be a whole number from 1 to {_MAX_DEPTH}, not {depth!r}")
        self.depth = checked
        self._names = frozenset(region.name for region in self.regions)
        out = ffi.new("mpat_history **")
        n_pages = [region.n_pages for region in self.regions]
        check(lib.mpat_history_create(n_pages, len(n_pages), self.depth, out), "this DirtyHistory")
        self.handle = ffi.gc(out[0], lib.mpat_history_destroy, lib.mpat_history_bytes(out[0]))

    def __len__(self) -> int:
        """Intervals remembered now: at most `depth`."""
        return int(lib.mpat_history_length(self.handle))

    @property
    def n_bytes(self) -> int:
        """Memory held, in bytes."""
        return int(lib.mpat_history_bytes(self.handle))

    def update(self, bitmaps: Interval | Mapping[str, object]) -> None:
        """Append one interval, as `GroupStats.update` takes it.

        Raises `UsageError` if a `GroupStats` fills this history, `BitmapError`, `RegionError`,
        `BusyError`.
        """
        words = words_of_all(bitmaps, self.regions, self._names)
        pointers, _buffers = word_pointers(words, self.regions)
        result = lib.mpat_history_update(self.handle, pointers)
        if result == -errno.EPERM:
            raise UsageError("this history is filled by its GroupStats; update that instead")
        check(result, "this DirtyHistory")

    def hot_pages(self, at_least: int) -> dict[str, Bitmap]:
        """Of each region, the pages dirty in at least `at_least` remembered intervals: a bitmap,
        a new uint64 array of `region.n_words` words.

        `at_least` is 1 to `depth`; intervals not seen yet count as clean. Raises `UsageError`,
        `BusyError`.
        """
        if whole_number(at_least, 1, self.depth) is None:
            raise UsageError(f"at_least must be from 1 to the depth {self.depth}, not {at_least!r}")
        hot: dict[str, Bitmap] = {}
        for number, region in enumerate(self.regions):
            words = np.empty(region.n_words, np.uint64)
            out = ffi.from_buffer("uint64_t[]", words)
            result = lib.mpat_history_hot_pages(self.handle, number, at_least, out)
            check(result, "this DirtyHistory")
            hot[region.name] = words
        return hot
