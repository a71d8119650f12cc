"""Access statistics of page groups, from interval to interval."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt

from mempattern._checks import positive_seconds
from mempattern._intervals import lend_all
from mempattern._memory import view
from mempattern._native import ffi, lib
from mempattern._results import check
from mempattern.bitmaps import Seen
from mempattern.errors import RegionError, UsageError
from mempattern.history import DirtyHistory, HeldHistory
from mempattern.interval import AnyBitmap, Interval
from mempattern.regions import GROUP_PAGES, Region, check_group_pages, check_regions, origins

_SEEN = ffi.typeof("mpat_seen[]")
_N_COUNTS = 5  # of eight bytes each


_NOTHING = Seen(0, 0, 0, 0, 0)


def _sum(parts: list[Seen]) -> Seen:
    if len(parts) == 1:
        return parts[0]
    return Seen(
        sum(part.dirty_pages for part in parts),
        sum(part.redirtied_pages for part in parts),
        sum(part.fresh_pages for part in parts),
        sum(part.active_groups for part in parts),
        sum(part.runs for part in parts),
    )


class Groups:
    """One region's statistics: arrays of shape (n_groups,), one entry a group.

    They are read-only views of the C core's memory: nothing is copied, and the next update
    changes them in place. Copy what must stay. Once `GroupStats.follow` has moved to other regions
    they stay as they are, and updates no longer show in them: ask `GroupStats.groups` again.
    """

    def __init__(self, handle: Any, number: int, region: Region) -> None:
        self._handle = handle
        self._number = number
        self.region = region
        out = ffi.new("mpat_groups *")
        check(lib.mpat_stats_groups(handle, number, out))
        n_groups = int(out.n_groups)

        def array(field: str, dtype: str) -> npt.NDArray[Any]:
            return view(handle, getattr(out, field), dtype, n_groups)

        self.n_groups = n_groups
        self.dirty: npt.NDArray[np.uint32] = array("dirty", "<u4")
        """Pages written in this interval."""
        self.redirtied: npt.NDArray[np.uint32] = array("redirtied", "<u4")
        """Of these, pages also written in the interval before."""
        self.fresh: npt.NDArray[np.uint32] = array("fresh", "<u4")
        """Of these, pages never written before."""
        self.touched: npt.NDArray[np.uint32] = array("touched", "<u4")
        """Distinct pages ever dirty."""
        self.active_intervals: npt.NDArray[np.uint32] = array("active_intervals", "<u4")
        """Intervals in which the group had a dirty page."""
        self.streak: npt.NDArray[np.uint32] = array("streak", "<u4")
        """Intervals in a row up to this one in which it had; 0 if not active now."""
        self.last_active: npt.NDArray[np.int32] = array("last_active", "<i4")
        """Index of the last such interval, from 0; -1 if none."""
        self.dirty_total: npt.NDArray[np.uint64] = array("dirty_total", "<u8")
        """Sum of `dirty` over all intervals."""

    @property
    def write_rate(self) -> npt.NDArray[np.float64]:
        """Pages/s: the mean of the intervals' rates over the time observed, weighted by
        2**(-age / half_life_s). A new array, since rates decay and the core stores only sums.

        Raises `BusyError`.
        """
        rates = np.empty(self.n_groups, np.float64)
        out = ffi.from_buffer("double[]", rates)
        _check(lib.mpat_stats_write_rate(self._handle, self._number, out))
        return rates


class _Held(NamedTuple):
    """The C object and the regions it has; replaced as one, so that no thread sees half of it."""

    handle: Any
    regions: tuple[Region, ...]
    numbers: dict[str, int]
    names: frozenset[str]
    groups: dict[str, Groups]
    """Made when they are asked for: of thousands of regions few are written to."""

    @classmethod
    def own(cls, pointer: Any, regions: tuple[Region, ...], history: Any) -> _Held:
        def destroy(stats: Any, _history: Any = history) -> None:  # which must outlive the stats
            lib.mpat_stats_destroy(stats)

        handle = ffi.gc(pointer, destroy, lib.mpat_stats_bytes(pointer))
        numbers = {region.name: number for number, region in enumerate(regions)}
        return cls(handle, regions, numbers, frozenset(numbers), {})


class GroupStats:
    """Statistics over groups of `group_pages` pages of the given regions.

    Each region's groups are counted from its start; the last group may be short. `half_life_s` is
    the half-life of `Groups.write_rate`. A `history` of the same regions, not yet used, is filled
    by each update in the same pass over memory.

    One thread at a time; a second one gets `BusyError` and changes nothing. Updates release the
    GIL.

    Raises `RegionError` (regions, group_pages), `UsageError` (half_life_s of less than a
    nanosecond, history), `OutOfMemoryError`.

    >>> ram = mempattern.Region("ram", n_pages=1024)
    >>> stats = mempattern.GroupStats([ram])
    >>> bitmap = np.zeros(ram.n_words, np.uint64)
    >>> bitmap[0] = 0b0111
    >>> stats.update({"ram": bitmap}, duration_s=0.1).dirty_pages
    3
    >>> bitmap[0] = 0b1100
    >>> stats.update({"ram": bitmap}, duration_s=0.1)
    Seen(dirty_pages=2, redirtied_pages=1, fresh_pages=1, active_groups=1, runs=1)
    >>> stats.groups("ram").touched
    array([4, 0], dtype=uint32)
    """

    def __init__(
        self,
        regions: Iterable[Region],
        group_pages: SupportsIndex = GROUP_PAGES,
        *,
        half_life_s: float = 10.0,
        history: DirtyHistory | None = None,
    ) -> None:
        checked = check_regions(regions)
        self.group_pages: int = check_group_pages(group_pages)
        self.half_life_s: float = positive_seconds("half_life_s", half_life_s)
        if self.half_life_s < 1e-9:
            raise UsageError(f"half_life_s must be at least 1e-9 (a nanosecond), not {half_life_s}")
        self.history = history
        if history is not None:
            _check_history(history, checked)
        self.n_intervals: int = 0
        """Intervals counted so far."""
        self._held = self._create(checked)
        self._active: dict[str, Seen] = {}

    def _create(self, regions: tuple[Region, ...]) -> _Held:
        out = ffi.new("mpat_stats **")
        n_pages = [region.n_pages for region in regions]
        history = ffi.NULL if self.history is None else self.history.held.handle
        result = lib.mpat_stats_create(
            n_pages, len(n_pages), self.group_pages, self.half_life_s, history, out
        )
        if result == -errno.EINVAL and self.history is not None:
            raise UsageError(
                "this history has seen intervals or has its GroupStats already; make a new one"
            )
        _check(result)
        return _Held.own(out[0], regions, history)

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions, as last followed."""
        return self._held.regions

    def update(
        self, bitmaps: Interval | Mapping[str, AnyBitmap], duration_s: float | None = None
    ) -> Seen:
        """Count one interval, and say what it did to the whole VM.

        `bitmaps` is an `Interval`, or a mapping with one bitmap for each region: a uint64 array of
        `region.n_words` words, or any buffer of as many bytes or of ceil(n_pages / 8), read-only or
        not (only what is not contiguous or not 8-byte aligned is copied). Bits past `n_pages` are
        ignored. The buffers must not change during the call, and may be reused afterwards.
        `duration_s` is the interval's length in seconds; an `Interval` knows its own.

        Raises `BitmapError`, `RegionError`, `UsageError`, `BusyError`, and `KernelError` if
        MEMPATTERN_KERNEL names a kernel that cannot run here; nothing is counted then.
        """
        if duration_s is None:
            if not isinstance(bitmaps, Interval):
                raise UsageError("duration_s is needed with bare bitmaps: how long was it?")
            duration_s = bitmaps.duration_s
        else:
            duration_s = positive_seconds("duration_s", duration_s)
        held = self._held
        pointers, words = lend_all(bitmaps, held.regions, held.names)
        seen = ffi.new(_SEEN, len(words))
        result = lib.mpat_stats_update(held.handle, pointers, duration_s, seen)
        if result != 0:
            _check(result)
        self.n_intervals += 1
        counts = memoryview(ffi.buffer(seen)).cast("Q")
        self._active = {
            held.regions[number].name: Seen(*counts[_N_COUNTS * number :][:_N_COUNTS].tolist())
            for number, n_dirty in enumerate(counts[::_N_COUNTS].tolist())
            if n_dirty
        }
        return _sum(list(self._active.values()))

    def follow(self, regions: Iterable[Region]) -> None:
        """Go on with these regions: larger ones, more of them, or in another order.

        Every region there was must be there by its name, with the same page size, and may reach
        further down, by a multiple of `group_pages` pages, and further up. All statistics are then
        what they would be had it been so from the first interval on, with the new pages clean; the
        history, if there is one, follows too. Nothing is done if nothing changed, so that
        `stats.follow(interval.regions)` may come before every update. `Groups` handed out before
        stay valid, as they are.

        Raises `RegionError` for any other change, `BusyError`; nothing changes then.
        """
        held = self._held
        if regions is held.regions:
            return
        checked = check_regions(regions)
        if checked == held.regions:
            return
        moved = origins(held.regions, checked, self.group_pages)
        out = ffi.new("mpat_stats **")
        history = ffi.new("mpat_history **")
        n_pages = [region.n_pages for region in checked]
        followed = ffi.NULL if self.history is None else history
        _check(lib.mpat_stats_follow(held.handle, n_pages, len(n_pages), moved, followed, out))
        if self.history is None:
            self._held = _Held.own(out[0], checked, ffi.NULL)
        else:
            held_history = HeldHistory.own(history[0], checked)
            self._held = _Held.own(out[0], checked, held_history.handle)
            self.history.held = held_history

    def groups(self, region_name: str) -> Groups:
        """The region's arrays. Raises `RegionError` for a name that is not ours."""
        held = self._held
        try:
            number = held.numbers[region_name]
        except (KeyError, TypeError):  # TypeError: it has no hash
            raise self._unknown(region_name) from None
        groups = held.groups.get(region_name)
        if groups is None:
            groups = Groups(held.handle, number, held.regions[number])
            groups = held.groups.setdefault(region_name, groups)
        return groups

    def seen(self, region_name: str) -> Seen:
        """What the last interval did to one region. Raises `RegionError`."""
        if not isinstance(region_name, str) or region_name not in self._held.names:
            raise self._unknown(region_name)
        return self._active.get(region_name, _NOTHING)

    @property
    def active(self) -> Mapping[str, Seen]:
        """What the last interval did to each region that it dirtied, by name, in their order."""
        return MappingProxyType(self._active)

    @property
    def n_bytes(self) -> int:
        """Memory held by the statistics in bytes, without a history given to them."""
        return int(lib.mpat_stats_bytes(self._held.handle))

    def _unknown(self, region_name: str) -> RegionError:
        return RegionError(f"no region {region_name!r}; there are {sorted(self._held.names)}")


def _check_history(history: DirtyHistory, regions: tuple[Region, ...]) -> None:
    if not isinstance(history, DirtyHistory):
        raise UsageError(f"history must be a DirtyHistory, not {type(history).__name__}")
    if history.regions != regions:
        raise UsageError("the history has other regions than the statistics; give both the same")


def _check(result: int) -> None:
    if result == -errno.EOVERFLOW:
        raise UsageError(
            "more time or more than 2**31 - 1 intervals than a GroupStats counts; make a new one"
        )
    check(result, "this GroupStats")
