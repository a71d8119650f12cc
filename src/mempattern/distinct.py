"""Distinct pages by the length of the window: D(t), measured from interval to interval."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt

from mempattern._checks import positive_seconds
from mempattern._intervals import lend_all
from mempattern._native import ffi, lib
from mempattern._results import check
from mempattern.curve import DirtyCurve
from mempattern.errors import RegionError, UsageError
from mempattern.interval import AnyBitmap, Interval
from mempattern.regions import GROUP_PAGES, Region, check_group_pages, check_regions, origins

_GAP = 0.1  # of the interval's duration, between it and the one before


@dataclass(frozen=True, slots=True)
class Windows:
    """Distinct pages dirtied in the windows of one length."""

    window_s: float
    """Their mean duration, in seconds."""
    pages: float
    """Mean of the distinct pages, each counted as one, whatever its size."""
    n_windows: int
    """Windows seen."""


@dataclass(frozen=True, slots=True, eq=False)
class GroupCurves:
    """D(t) of each group of one region; one row a window length, in the order of the lengths in
    intervals.
    """

    window_s: npt.NDArray[np.float64]
    """(n_lengths,): mean duration of the windows, in seconds."""
    n_windows: npt.NDArray[np.int64]
    """(n_lengths,): windows seen."""
    pages: npt.NDArray[np.float64]
    """(n_lengths, n_groups): mean of the distinct pages dirtied in a window."""
    std: npt.NDArray[np.float64]
    """(n_lengths, n_groups): their standard deviation; 0 for one window."""


class _Held(NamedTuple):
    """The C object and the regions it has; replaced as one, so that no thread sees half of it."""

    handle: Any
    regions: tuple[Region, ...]
    numbers: dict[str, int]
    names: frozenset[str]

    @classmethod
    def own(cls, pointer: Any, regions: tuple[Region, ...]) -> _Held:
        handle = ffi.gc(pointer, lib.mpat_distinct_destroy, lib.mpat_distinct_bytes(pointer))
        numbers = {region.name: number for number, region in enumerate(regions)}
        return cls(handle, regions, numbers, frozenset(numbers))


class DistinctPages:
    """Counts the distinct pages dirtied in windows of 1, 2, 3, 4, 6, 8, 12, ... intervals.

    The windows of one length follow one another without overlap; each is the OR of its intervals'
    bitmaps, so that a page counts once a window however often it was written. Counts are kept for
    the VM, each region and each group of `group_pages` pages. The lengths are 2**j and 3 * 2**j, up
    to 2**20; memory for a length, one bit a page and 16 bytes a group (24 where it is a line of 512
    pages, of which at first 8 are backed), is reserved when it is reached. Who wants no groups
    saves their time and memory by `group_pages` as large as it gets, 2**32 - 64.

    One thread at a time; a second one gets `BusyError` and changes nothing. Updates release the
    GIL.

    Raises `RegionError` (regions, group_pages), `OutOfMemoryError`.

    >>> ram = mempattern.Region("ram", n_pages=64)
    >>> distinct = mempattern.DistinctPages([ram])
    >>> for word in (0b0011, 0b0110, 0b0011, 0b0110):
    ...     distinct.update({"ram": np.array([word], np.uint64)}, duration_s=0.1)
    >>> curve = distinct.curve()
    >>> curve.window_s.round(1), curve.pages
    (array([0.1, 0.2, 0.3, 0.4]), array([2., 3., 3., 3.]))
    """

    def __init__(self, regions: Iterable[Region], group_pages: SupportsIndex = GROUP_PAGES) -> None:
        checked = check_regions(regions)
        self.group_pages: int = check_group_pages(group_pages)
        self.n_intervals: int = 0
        """Intervals counted."""
        self._end_ns: int | None = None  # of the last one, if it was an Interval
        out = ffi.new("mpat_distinct **")
        n_pages = [region.n_pages for region in checked]
        _check(lib.mpat_distinct_create(n_pages, len(n_pages), self.group_pages, out))
        self._held = _Held.own(out[0], checked)

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions, as last followed."""
        return self._held.regions

    @property
    def n_bytes(self) -> int:
        """Memory held, in bytes; what no dirty page has needed is mostly not backed."""
        return int(lib.mpat_distinct_bytes(self._held.handle))

    def update(
        self, bitmaps: Interval | Mapping[str, AnyBitmap], duration_s: float | None = None
    ) -> None:
        """Count one interval; the arguments are those of `GroupStats.update`.

        Bare bitmaps are taken to begin where those before them ended; say so with `break_off` if
        they do not. An `Interval` knows: if it begins more than a tenth of its duration before or
        after the end of the last one, the open windows are dropped and new ones begin with it. An
        `Interval` with lost pages is not counted at all, as its pages are too few, and drops the
        open windows; those that were complete stay in any case.

        Raises `BitmapError`, `RegionError`, `UsageError`, `BusyError`, `OutOfMemoryError` (a new
        length), and `KernelError` if MEMPATTERN_KERNEL names a kernel that cannot run here; the
        interval is not counted then.
        """
        interval = bitmaps if isinstance(bitmaps, Interval) else None
        if duration_s is not None:
            duration_s = positive_seconds("duration_s", duration_s)
        elif interval is None:
            raise UsageError("duration_s is needed with bare bitmaps: how long was it?")
        else:
            duration_s = interval.duration_s
        held = self._held
        pointers, _words = lend_all(bitmaps, held.regions, held.names)
        if interval is not None and (interval.lost_pages or self._misses(interval)):
            self.break_off()
            if interval.lost_pages:
                return
        _check(lib.mpat_distinct_update(held.handle, pointers, duration_s))
        self.n_intervals += 1
        self._end_ns = None if interval is None else interval.end_ns

    def update_all(self, intervals: Iterable[Interval]) -> None:
        """Count intervals one after another, as `update` would, in fewer passes over memory: up to
        16 go through together, and what is not open after them is never stored.

        Raises as `update`: `RegionError` before any is counted, the others after those before a
        break; `n_intervals` says how many those are.
        """
        held = self._held
        lent = [(each, lend_all(each, held.regions, held.names)[1]) for each in intervals]
        joined: list[tuple[Interval, list[Any]]] = []
        for interval, bitmaps in lent:
            if interval.lost_pages or self._misses(interval):
                self._join(held, joined)
                joined = []
                self.break_off()
            if not interval.lost_pages:
                joined.append((interval, bitmaps))
                self._end_ns = interval.end_ns
        self._join(held, joined)

    def _join(self, held: _Held, joined: list[tuple[Interval, list[Any]]]) -> None:
        if not joined:
            return
        pointers = ffi.new("uint64_t *[]", [words for _, bitmaps in joined for words in bitmaps])
        durations_s = [interval.duration_s for interval, _ in joined]
        _check(lib.mpat_distinct_update_all(held.handle, pointers, durations_s, len(joined)))
        self.n_intervals += len(joined)

    def _misses(self, interval: Interval) -> bool:
        """Does it begin elsewhere than where the last one ended?"""
        if self._end_ns is None:
            return False
        return abs(interval.start_ns - self._end_ns) > _GAP * (interval.end_ns - interval.start_ns)

    def break_off(self) -> None:
        """The next interval does not begin where the last one ended: drop the open windows.

        Raises `BusyError`.
        """
        _check(lib.mpat_distinct_break(self._held.handle))
        self._end_ns = None

    def follow(self, regions: Iterable[Region]) -> None:
        """Go on with these regions, as `GroupStats.follow` does: all is then as if they had been so
        from the first interval on, with the new pages clean; open windows stay open.

        Raises `RegionError` for any change but growth, `BusyError`, `OutOfMemoryError`; nothing
        changes then.
        """
        held = self._held
        if regions is held.regions:
            return
        checked = check_regions(regions)
        if checked == held.regions:
            return
        moved = origins(held.regions, checked, self.group_pages)
        out = ffi.new("mpat_distinct **")
        n_pages = [region.n_pages for region in checked]
        _check(lib.mpat_distinct_follow(held.handle, n_pages, len(n_pages), moved, out))
        self._held = _Held.own(out[0], checked)

    def windows(self) -> tuple[Windows, ...]:
        """What was counted of the whole VM, by the length of the windows in intervals: the means
        that `curve` starts from. Nothing before the first interval. Raises `BusyError`.
        """
        if not self.n_intervals:
            return ()
        return tuple(
            Windows(window.duration_s, window.pages, window.n_windows)
            for window in self._windows(self._held, -1)
        )

    def curve(self, region_name: str | None = None) -> DirtyCurve:
        """D(t) of one region, or of the whole VM, as measured up to now.

        Raises `RegionError` for a name that is not ours, or if the VM's regions have pages of
        different sizes (ask for each region's curve then); `UsageError` before the first interval
        was counted; `BusyError`.
        """
        held = self._held
        if region_name is None:
            regions, number = held.regions, -1
            if len({region.page_bytes for region in regions}) > 1:
                raise RegionError(
                    "the regions have pages of different sizes, which cannot be added up; ask for "
                    "the curve of each region"
                )
        else:
            number = self._number(held, region_name)
            regions = (held.regions[number],)
        windows = self._windows(held, number)
        window_s = np.array([window.duration_s for window in windows])
        # Not always in order already: breaks may leave some lengths to slow intervals alone.
        window_s, order = np.unique(window_s, return_index=True)
        return DirtyCurve(
            window_s=window_s,
            pages=np.array([window.pages for window in windows])[order],
            std=np.array([window.pages_std for window in windows])[order],
            n_windows=np.array([window.n_windows for window in windows])[order],
            n_pages=sum(region.n_pages for region in regions),
            page_bytes=regions[0].page_bytes,
        )

    def groups(self, region_name: str) -> GroupCurves:
        """D(t) of each group of the region. Raises `RegionError`, `UsageError` before the first
        interval was counted, `BusyError`.
        """
        held = self._held
        number = self._number(held, region_name)
        windows = self._windows(held, number)
        shape = len(windows), held.regions[number].n_groups(self.group_pages)
        pages, std = np.empty(shape), np.empty(shape)
        for row in range(len(windows)):
            means, deviations = (ffi.from_buffer("double[]", array[row]) for array in (pages, std))
            _check(lib.mpat_distinct_groups(held.handle, row, number, means, deviations))
        return GroupCurves(
            window_s=np.array([window.duration_s for window in windows]),
            n_windows=np.array([window.n_windows for window in windows]),
            pages=pages,
            std=std,
        )

    def _number(self, held: _Held, region_name: str) -> int:
        if not isinstance(region_name, str) or region_name not in held.numbers:
            raise RegionError(f"no region {region_name!r}; there are {sorted(held.names)}")
        return held.numbers[region_name]

    def _windows(self, held: _Held, number: int) -> list[Any]:
        n_lengths = int(lib.mpat_distinct_windows(held.handle))
        if n_lengths == 0:
            raise UsageError("no interval was counted yet, so there is no curve; update first")
        windows = [ffi.new("mpat_window *") for _ in range(n_lengths)]
        for row, window in enumerate(windows):
            _check(lib.mpat_distinct_window(held.handle, row, number, window))
        return windows


def _check(result: int) -> None:
    if result == -errno.EOVERFLOW:
        raise UsageError("more than 1e100 seconds were counted; make a new DistinctPages")
    check(result, "this DistinctPages")
