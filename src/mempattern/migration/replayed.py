"""A recording as the memory of a VM that migrates: page by page, by the C core."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, SupportsIndex

import numpy as np

from mempattern._checks import whole_number
from mempattern._intervals import lend_all
from mempattern._memory import as_words, lend
from mempattern._native import ffi, lib
from mempattern._results import check
from mempattern.errors import MempatternError, UsageError
from mempattern.interval import Bitmap, Interval, Provenance
from mempattern.migration.memory import CHUNK_PAGES, Outstanding, Sent
from mempattern.migration.recording import ROUNDED_S, Recording, lent

_POINTERS = ffi.typeof("uint64_t *[]")
_FOUND = Provenance("replay", granularity="a pass of a replayed migration")
_THIS = "this migration"


class TraceEndError(MempatternError, EOFError):
    """The recording is at its end, and was not to go on after it."""


class ReplayedMemory:
    """The pages of a recording, exactly, by the C core (`mpat_precopy`); a `PageMemory`.

    A migration starts `starts_s[seed % len(starts_s)]` into the recording. `zero[r]` is a bitmap of
    region r's pages that hold only zeros until they are written.
    `chunk_pages` is 0 where a sync clears the log itself (TCG, a dirty ring, KVM before Linux 5.2).
    Unless `loops`, `run` raises `TraceEndError` at the recording's end.

    Raises `UsageError` for a chunk of another size than a multiple of 64 pages, or unless there is
    one bitmap of zero pages for each region; `BitmapError` for what is none.
    """

    def __init__(
        self,
        recording: Recording,
        starts_s: Sequence[float],
        zero: Sequence[Bitmap] | None = None,
        *,
        chunk_pages: SupportsIndex = CHUNK_PAGES,
        loops: bool = True,
    ) -> None:
        self.recording = recording
        self.page_bytes: int = recording.page_bytes
        """The recording's."""
        self.n_pages: int = recording.n_pages
        """The recording's, in all regions."""
        self._starts_s, self._later_s, self._loops = starts_s, 0.0, loops
        regions = recording.regions
        in_chunk = whole_number(chunk_pages, 0, 1 << 52)
        if in_chunk is None or in_chunk % 64:
            raise UsageError(f"chunk_pages must be 0 or a multiple of 64, not {chunk_pages!r}")
        if zero is not None and len(zero) != len(regions):
            raise UsageError(
                f"there must be a bitmap of zero pages for each of the {len(regions)} regions, "
                f"not {len(zero)} in all"
            )
        self._zero: Any = ffi.NULL
        self._kept: list[Any] = []
        if zero is not None:
            self._kept = [
                lend(as_words(words, region), region)
                for words, region in zip(zero, regions, strict=True)
            ]
            self._zero = ffi.new(_POINTERS, self._kept)
        out = ffi.new("mpat_precopy **")
        check(lib.mpat_precopy_create(recording.handle, in_chunk, out), _THIS)
        self._handle = ffi.gc(out[0], lib.mpat_precopy_destroy, lib.mpat_precopy_bytes(out[0]))
        self._sent = ffi.new("mpat_sent *")
        self._count, self._zero_count = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        self.pending_pages: float = self.n_pages
        """Pages that are to be sent, as the last sync or `send` left them."""
        self.deferred_pages: float = 0
        """Of those that are to be sent."""

    @contextmanager
    def started_later(self, wait_s: float) -> Generator[None, None, None]:
        """Within, migrations start so much later than `starts_s`."""
        self._later_s = wait_s
        try:
            yield
        finally:
            self._later_s = 0.0

    def start(self, seed: int) -> None:
        """As `Memory.start`. `seed` picks one of `starts_s` too."""
        self._start_s = float(self._starts_s[seed % len(self._starts_s)]) + self._later_s
        check(lib.mpat_precopy_start(self._handle, self._zero, self._start_s, seed % (1 << 64)),
              _THIS)  # fmt: skip
        self.pending_pages, self.deferred_pages = self.n_pages, 0
        self._ran_s = self._synced_s = self._found_from_s = 0.0
        self._seen = _Seen(self.recording, self._start_s)

    def run(self, duration_s: float) -> None:
        """As `Memory.run`. Raises `TraceEndError` at the recording's end, unless it `loops`."""
        if not self._loops and duration_s:
            at_s = self._start_s + self._ran_s + duration_s
            if at_s > self.recording.duration_s + ROUNDED_S:
                raise TraceEndError(
                    f"the trace ends after {self.recording.duration_s:.1f} s, before the migration "
                    f"does; record for longer, or let it go on from a like moment"
                )
        check(lib.mpat_precopy_run(self._handle, duration_s), _THIS)
        self._ran_s += duration_s

    @property
    def extrapolated_s(self) -> float:
        """Of the guest's time since the migration began, what lies after the recording's end."""
        return self.beyond_end_s(self._ran_s)

    def beyond_end_s(self, ran_s: float) -> float:
        """The same of a migration in which the guest ran for so long."""
        over_s = self._start_s + ran_s - self.recording.duration_s
        return min(max(over_s, 0.0), ran_s)

    def sync(self) -> float:
        """As `Memory.sync`."""
        check(lib.mpat_precopy_sync(self._handle, self._count), _THIS)
        self.pending_pages = self._count[0]
        self.deferred_pages = lib.mpat_precopy_deferred(self._handle)
        self._found_from_s, self._synced_s = self._synced_s, self._ran_s
        return self.pending_pages

    def send(self, duration_s: float, page_s: float, zero_page_s: float) -> Sent:
        """As `Memory.send`."""
        sent = self._sent
        check(lib.mpat_precopy_send(self._handle, duration_s, page_s, zero_page_s, sent), _THIS)
        self.pending_pages -= sent.pages
        return Sent(sent.pages, sent.zero_pages, sent.cost)

    def outstanding(self) -> Outstanding:
        """As `PageMemory.outstanding`."""
        count, zero_count = self._count, self._zero_count
        check(lib.mpat_precopy_outstanding(self._handle, count, zero_count), _THIS)
        return Outstanding(count[0], zero_count[0])

    def found(self) -> Interval:
        """As `PageMemory.found`. Its times are the guest's, since the migration began."""
        regions = self.recording.regions
        bitmaps = [np.empty(region.n_words, np.uint64) for region in regions]
        check(lib.mpat_precopy_found(self._handle, lent(bitmaps)), _THIS)
        start_ns, end_ns = round(self._found_from_s * 1e9), round(self._synced_s * 1e9)
        return Interval(
            0, start_ns, max(end_ns, start_ns + 1), regions,
            {region.name: words for region, words in zip(regions, bitmaps, strict=True)}, _FOUND,
        )  # fmt: skip

    def defer(self, pages: Interval | None) -> None:
        """As `PageMemory.defer`. Raises `RegionError`, `BitmapError`."""
        bitmaps, kept = ffi.NULL, None
        if pages is not None:
            names = frozenset(region.name for region in self.recording.regions)
            bitmaps, kept = lend_all(pages, self.recording.regions, names)
        check(lib.mpat_precopy_defer(self._handle, bitmaps), _THIS)
        del kept
        self.deferred_pages = lib.mpat_precopy_deferred(self._handle)

    def seen(self) -> Iterator[Interval]:
        """As `PageMemory.seen`: the recording's intervals, once the guest has run to their ends."""
        return self._seen.until(self._ran_s)


class _Seen:
    """The recording's intervals as a tracer sees them during a migration that began in it."""

    def __init__(self, recording: Recording, start_s: float) -> None:
        self._recording = recording
        edges_s, loop_s = recording.edges_s, recording.loop_s
        if start_s >= recording.duration_s:
            start_s = loop_s + (start_s - loop_s) % (recording.duration_s - loop_s)
        self._next = int(np.searchsorted(edges_s, start_s - ROUNDED_S))
        self._count = 0
        self._now_s = float(edges_s[self._next]) - start_s
        self._loop = int(np.searchsorted(edges_s, loop_s))

    def until(self, ran_s: float) -> Iterator[Interval]:
        recording = self._recording
        while True:
            if self._next >= len(recording):
                self._next = self._loop
            length_s = recording.edges_s[self._next + 1] - recording.edges_s[self._next]
            if self._now_s + length_s > ran_s:
                return
            start_s, self._now_s = self._now_s, self._now_s + length_s
            start_ns, end_ns = round(start_s * 1e9), round(self._now_s * 1e9)
            seen = replace(recording[self._next], index=self._count, start_ns=start_ns,
                           end_ns=max(end_ns, start_ns + 1))  # fmt: skip
            self._next += 1
            self._count += 1
            yield seen
