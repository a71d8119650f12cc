"""A trace as guest time that goes on after its end."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mempattern._memory import lend
from mempattern._native import ffi, lib
from mempattern._results import check
from mempattern.bitmaps import group_counts
from mempattern.errors import BitmapError, UsageError
from mempattern.interval import Bitmap, Interval
from mempattern.migration.alike import alike, period_of
from mempattern.migration.observed import Observed
from mempattern.regions import Region, origins

_POINTERS = ffi.typeof("uint64_t *[]")
_FEW = 20
_GAP = 0.02
_UNEVEN = 10.0
_PARTS = 1024
"""Of a region, to tell one moment of a recording from another."""
ROUNDED_S = 1e-9
"""Edges are sums of whole nanoseconds: what is nearer is the same moment."""


class Intervals(Protocol):
    """A list of intervals, or a `TraceReader`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Interval: ...

    def __iter__(self) -> Iterator[Interval]: ...


class Recording:
    """The intervals of a trace as guest time to replay, in the newest interval's regions.

    They are read one by one, and what is kept of them are the lines of 512 pages that are not
    clean. `edges_s` are their ends, of shape (n_intervals + 1,), from 0 on; time that nobody
    observed is left out. `alike_s` are the moments at which it looked most as it does at its end:
    where a migration that starts now may start. `period_s` is how far they are apart; None if that
    tells no period. After its end the recording goes on at `loop_s`, the first of them, so that a
    loop is long, and with a period at the best of the first ones, so that a sweep or a phase goes
    on as it would have.
    `dirty_pages` are those of each interval, of shape (n_intervals,), and `touched_pages` the
    distinct ones of all; `ever` has their bitmap for each region. `lost_pages` and `unseen_s` are
    known to be missing from it. Immutable: any number of threads may replay it at once.

    Raises `UsageError` for no interval, for intervals that are not in the order of their times, or
    regions of unlike page sizes; `BitmapError` for a bitmap that changes meanwhile;
    `OutOfMemoryError`.
    """

    def __init__(self, intervals: Intervals) -> None:
        if not len(intervals):
            raise UsageError("the trace has no interval; record for some seconds first")
        self.regions: tuple[Region, ...] = intervals[len(intervals) - 1].regions
        """Those of the newest interval, which all others are read in."""
        self.page_bytes: int = _page_bytes(self.regions)
        """Of a page in all regions."""
        self.n_pages: int = sum(region.n_pages for region in self.regions)
        """Of all regions."""
        self.handle: Any = _create(self.regions)
        """The C object."""
        self._lost_pages, by_part = self._read(intervals)
        durations_s = (self._end_ns - self._start_ns) / 1e9
        self.edges_s: npt.NDArray[np.float64] = np.concatenate(([0.0], np.cumsum(durations_s)))
        span_s = int(self._end_ns[-1] - self._start_ns[0]) / 1e9
        self.unseen_s: float = max(round(span_s - float(self.edges_s[-1]), 9), 0.0)
        self.lost_pages: int = sum(self._lost_pages)
        self._n_lossy = int(np.count_nonzero(self._lost_pages))
        self._longest_s, self._usual_s = float(durations_s.max()), float(np.median(durations_s))
        self.dirty_pages: npt.NDArray[np.float64] = by_part.sum(axis=1)
        runs = alike(self.edges_s, by_part)
        self.alike_s: npt.NDArray[np.float64] = np.concatenate(
            [run.moments_s for run in runs] or [np.zeros(1)]
        )
        self.period_s: float | None = period_of(runs, self.duration_s)
        self.loop_s: float = float(self.alike_s[0]) if self.period_s is None else runs[0].best_s
        loop = int(np.searchsorted(self.edges_s, self.loop_s))
        check(lib.mpat_recording_seal(self.handle, loop), "this recording")
        self.ever: list[Bitmap] = [np.zeros(region.n_words, np.uint64) for region in self.regions]
        check(lib.mpat_recording_ever(self.handle, lent(self.ever)), "this recording")
        self.touched_pages: int = int(_volumes(self.ever, self.regions).sum())
        for array in (self.edges_s, self.alike_s, self.dirty_pages, *self.ever):
            array.flags.writeable = False

    def _read(self, intervals: Intervals) -> tuple[list[int], npt.NDArray[np.float64]]:
        """Take them in; returns the lost pages and the dirty ones by part, interval by interval."""
        times_ns: list[tuple[int, int]] = []
        volumes: list[npt.NDArray[np.uint32]] = []
        lost_pages: list[int] = []
        before = 0
        for interval in intervals:
            if times_ns and interval.start_ns < times_ns[-1][1]:
                raise UsageError(
                    f"interval {interval.index} begins before interval {before} ends; give the "
                    f"intervals of one source in their order"
                )
            before, self._provenance = interval.index, interval.provenance
            words = _placed(interval, self.regions)
            _add(self.handle, words, self.regions, interval.duration_s)
            volumes.append(_volumes(words, self.regions))
            times_ns.append((interval.start_ns, interval.end_ns))
            lost_pages.append(interval.lost_pages)
        self._start_ns, self._end_ns = np.array(times_ns, np.int64).T
        return lost_pages, np.array(volumes, np.float64)

    def __len__(self) -> int:
        return len(self.edges_s) - 1

    def __getitem__(self, number: int) -> Interval:
        """As it was recorded, in the newest regions. Raises `IndexError`."""
        if not 0 <= number < len(self):
            raise IndexError(f"no interval {number!r}; the recording has {len(self)}")
        bitmaps = [np.empty(region.n_words, np.uint64) for region in self.regions]
        check(lib.mpat_recording_read(self.handle, number, lent(bitmaps)), "this recording")
        return Interval(
            number, int(self._start_ns[number]), int(self._end_ns[number]), self.regions,
            {region.name: words for region, words in zip(self.regions, bitmaps, strict=True)},
            self._provenance, self._lost_pages[number],
        )  # fmt: skip

    def __iter__(self) -> Iterator[Interval]:
        return (self[number] for number in range(len(self)))

    def until(self, at_s: float) -> Recording | None:
        """The intervals that are over at that moment; None if there is none."""
        n_intervals = int(np.searchsorted(self.edges_s, at_s + ROUNDED_S, "right")) - 1
        return Recording(_First(self, n_intervals)) if n_intervals > 0 else None

    @property
    def nbytes(self) -> int:
        """Bytes that its pages take."""
        return int(lib.mpat_recording_bytes(self.handle))

    def faults(self) -> list[str]:
        """Sentences on what limits the trust in it."""
        found: list[str] = []
        if self.observed.is_coarse:
            found.append(
                f"the trace has pages of {self.page_bytes >> 20} MiB, and QEMU sends only the "
                f"4 KiB of them that are written, so that less is written than is forecast"
            )
        if len(self) < _FEW:
            n = len(self)
            seen = f"{n} intervals were" if n > 1 else "1 interval was"
            found.append(f"only {seen} observed; observe for longer")
        if self.lost_pages:
            found.append(
                f"at least {self.lost_pages} pages are missing from the trace, so that more is "
                f"written than is forecast"
            )
        if self.unseen_s > _GAP * self.duration_s:
            found.append(
                f"{self.unseen_s:.1f} s between the intervals were not observed, and are left out"
            )
        if self._longest_s > _UNEVEN * self._usual_s:
            found.append(
                f"intervals take {self._usual_s:.2g} s, but one took {self._longest_s:.2g} s, and "
                f"when in it a page was written is not known"
            )
        return found

    @property
    def observed(self) -> Observed:
        """How much it is that was observed."""
        return Observed(
            durations_s=np.diff(self.edges_s),
            dirty_pages=self.dirty_pages,
            n_intervals=len(self.dirty_pages),
            duration_s=float(self.edges_s[-1]),
            dirtied_pages=float(self.dirty_pages.sum()),
            touched_pages=self.touched_pages,
            n_pages=self.n_pages,
            lost_pages=self.lost_pages,
            n_lossy=self._n_lossy,
            unseen_s=self.unseen_s,
            page_bytes=self.page_bytes,
        )

    @property
    def starts_s(self) -> list[float]:
        """Moments for a migration to start at: of those in `alike_s`, the ones after which at least
        half as much was recorded as after the first."""
        latest = (self.loop_s + self.duration_s) / 2
        return [float(start_s) for start_s in self.alike_s if start_s <= latest]

    @property
    def duration_s(self) -> float:
        """All intervals together; time between them, which nobody observed, is left out."""
        return float(self.edges_s[-1])


class _First:
    """The first intervals of a recording, which are made one by one."""

    def __init__(self, recording: Recording, n_intervals: int) -> None:
        self._recording, self._n_intervals = recording, n_intervals

    def __len__(self) -> int:
        return self._n_intervals

    def __getitem__(self, index: int) -> Interval:
        return self._recording[index]

    def __iter__(self) -> Iterator[Interval]:
        return itertools.islice(self._recording, self._n_intervals)


def _page_bytes(regions: tuple[Region, ...]) -> int:
    sizes = {region.page_bytes for region in regions}
    if len(sizes) > 1:
        raise UsageError(
            f"the regions have pages of {sorted(sizes)} bytes, and a migration has one size; "
            f"give the regions of each by themselves"
        )
    return sizes.pop()


def _create(regions: tuple[Region, ...]) -> Any:
    out = ffi.new("mpat_recording **")
    sizes = [region.n_pages for region in regions]
    check(lib.mpat_recording_create(sizes, len(sizes), out), "this recording")
    return ffi.gc(out[0], lib.mpat_recording_destroy, lib.mpat_recording_bytes(out[0]))


def _add(handle: Any, words: list[Bitmap], regions: tuple[Region, ...], duration_s: float) -> None:
    kept = [lend(one, region) for one, region in zip(words, regions, strict=True)]
    result = lib.mpat_recording_add(handle, ffi.new(_POINTERS, kept), duration_s)
    if result == -errno.ENOSPC:
        raise BitmapError("a bitmap changed while it was read; give copies that stay as they are")
    check(result, "this recording")


def lent(bitmaps: list[npt.NDArray[np.uint64]]) -> Any:
    """Arrays of whole bitmaps for C to write to, which must outlive the call."""
    return ffi.new(_POINTERS, [ffi.cast("uint64_t *", words.ctypes.data) for words in bitmaps])


def _volumes(words: list[Bitmap], regions: tuple[Region, ...]) -> npt.NDArray[np.uint32]:
    """Set bits by part of a region."""
    return np.concatenate([
        group_counts(one, region.n_pages, _part_pages(region))
        for one, region in zip(words, regions, strict=True)
    ])  # fmt: skip


def _part_pages(region: Region) -> int:
    return -(-region.n_pages // (_PARTS * 64)) * 64


def _placed(interval: Interval, regions: tuple[Region, ...]) -> list[Bitmap]:
    """The interval's bitmaps in these regions, which its own have grown to."""
    if interval.regions == regions:
        return [interval.bitmaps[region.name] for region in regions]
    words: list[Bitmap] = []
    for region, (number, page) in zip(regions, origins(interval.regions, regions, 64), strict=True):
        grown = np.zeros(region.n_words, np.uint64)
        if number >= 0:
            old = interval.bitmaps[region.name]
            grown[page // 64 : page // 64 + old.size] = old
            n_past = -interval.regions[number].n_pages % 64  # bits that are no pages
            grown[page // 64 + old.size - 1] &= np.uint64((1 << 64 - n_past) - 1)
        words.append(grown)
    return words
