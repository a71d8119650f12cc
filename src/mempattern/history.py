"""The last few bitmaps of every region, and the pages that keep coming back in them."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, SupportsIndex

import numpy as np

from mempattern._checks import whole_number
from mempattern._intervals import lend_all
from mempattern._native import ffi, lib
from mempattern._results import check
from mempattern.errors import UsageError
from mempattern.interval import AnyBitmap, Bitmap, Interval
from mempattern.regions import Region, check_regions, origins

_MAX_DEPTH = 255
_WORD_PAGES = 64


class HeldHistory(NamedTuple):
    """The C object and the regions it has; replaced as one, so that no thread sees half of it."""

    handle: Any
    regions: tuple[Region, ...]
    names: frozenset[str]

    @classmethod
    def own(cls, pointer: Any, regions: tuple[Region, ...]) -> HeldHistory:
        handle = ffi.gc(pointer, lib.mpat_history_destroy, lib.mpat_history_bytes(pointer))
        return cls(handle, regions, frozenset(region.name for region in regions))


class DirtyHistory:
    """Remembers the last `depth` intervals (1 to 255) of the regions, `depth` bits a page.

    Give it to `GroupStats(..., history=...)` to have it filled in the same pass over memory, or
    feed it with `update`. One thread at a time; a second one gets `BusyError`.

    Raises `RegionError`, `UsageError` (depth), `OutOfMemoryError`.

    >>> ram = mempattern.Region("ram", n_pages=64)
    >>> history = mempattern.DirtyHistory([ram], depth=4)
    >>> for word in (0b011, 0b001, 0b101):
    ...     history.update({"ram": np.array([word], np.uint64)})
    >>> bin(history.hot_pages(at_least=2)["ram"][0])
    '0b1'
    >>> history.distinct_pages(last=3)
    3
    """

    def __init__(self, regions: Iterable[Region], depth: SupportsIndex = 16) -> None:
        checked_regions = check_regions(regions)
        checked = whole_number(depth, 1, _MAX_DEPTH)
        if checked is None:
            raise UsageError(f"depth must be a whole number from 1 to {_MAX_DEPTH}, not {depth!r}")
        self.depth: int = checked
        out = ffi.new("mpat_history **")
        n_pages = [region.n_pages for region in checked_regions]
        check(lib.mpat_history_create(n_pages, len(n_pages), self.depth, out), "this DirtyHistory")
        self.held: HeldHistory = HeldHistory.own(out[0], checked_regions)

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions, as last followed."""
        return self.held.regions

    def __len__(self) -> int:
        """Intervals remembered now: at most `depth`."""
        return int(lib.mpat_history_length(self.held.handle))

    @property
    def n_bytes(self) -> int:
        """Memory held, in bytes."""
        return int(lib.mpat_history_bytes(self.held.handle))

    def update(self, bitmaps: Interval | Mapping[str, AnyBitmap]) -> None:
        """Append one interval, as `GroupStats.update` takes it.

        Raises `UsageError` if a `GroupStats` fills this history, `BitmapError`, `RegionError`,
        `BusyError`.
        """
        held = self.held
        pointers, _words = lend_all(bitmaps, held.regions, held.names)
        result = lib.mpat_history_update(held.handle, pointers)
        if result == -errno.EPERM:
            raise UsageError("this history is filled by its GroupStats; update that instead")
        check(result, "this DirtyHistory")

    def follow(self, regions: Iterable[Region]) -> None:
        """Go on with these regions: larger ones, more of them, or in another order.

        Every region there was must be there by its name, with the same page size, and may reach
        further down, by a multiple of 64 pages, and further up. All is then as if it had been so
        from the first interval on, with the new pages clean. Nothing is done if nothing changed.

        Raises `RegionError` for any other change, `UsageError` if a `GroupStats` fills this history
        (its `follow` takes the history with it), `BusyError`; nothing changes then.
        """
        held = self.held
        if regions is held.regions:
            return
        checked = check_regions(regions)
        if checked == held.regions:
            return
        moved = origins(held.regions, checked, _WORD_PAGES)
        out = ffi.new("mpat_history **")
        n_pages = [region.n_pages for region in checked]
        result = lib.mpat_history_follow(held.handle, n_pages, len(n_pages), moved, out)
        if result == -errno.EPERM:
            raise UsageError("this history is filled by its GroupStats; follow with that instead")
        check(result, "this DirtyHistory")
        self.held = HeldHistory.own(out[0], checked)

    def hot_pages(self, at_least: SupportsIndex) -> dict[str, Bitmap]:
        """Of each region, the pages dirty in at least `at_least` remembered intervals: a bitmap,
        a new uint64 array of `region.n_words` words.

        `at_least` is 1 to `depth`; intervals not seen yet count as clean. Raises `UsageError`,
        `BusyError`.
        """
        least = whole_number(at_least, 1, self.depth)
        if least is None:
            raise UsageError(f"at_least must be from 1 to the depth {self.depth}, not {at_least!r}")
        held = self.held
        hot: dict[str, Bitmap] = {}
        for number, region in enumerate(held.regions):
            words = np.empty(region.n_words, np.uint64)
            out = ffi.from_buffer("uint64_t[]", words)
            result = lib.mpat_history_hot_pages(held.handle, number, least, out)
            check(result, "this DirtyHistory")
            hot[region.name] = words
        return hot

    def distinct_pages(self, last: SupportsIndex) -> int:
        """Distinct pages, over all regions, dirty in at least one of the last `last` intervals.

        `last` is 1 to `depth`; where fewer are remembered, it is these. Raises `UsageError`,
        `BusyError`.
        """
        n_last = whole_number(last, 1, self.depth)
        if n_last is None:
            raise UsageError(f"last must be from 1 to the depth {self.depth}, not {last!r}")
        out = ffi.new("uint64_t *")
        check(lib.mpat_history_distinct_pages(self.held.handle, n_last, out), "this DirtyHistory")
        return int(out[0])
