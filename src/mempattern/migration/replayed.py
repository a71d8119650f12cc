"""A recording as the memory of a VM that migrates: page by page, by the C core."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from mempattern._checks import whole_number
from mempattern._memory import as_words, lend
from mempattern._native import ffi, lib
from mempattern._results import check
from mempattern.errors import UsageError
from mempattern.interval import Bitmap
from mempattern.migration.memory import CHUNK_PAGES, Sent
from mempattern.migration.recording import Recording

_POINTERS = ffi.typeof("uint64_t *[]")


class ReplayedMemory:
    """The pages of a recording, exactly, by the C core (`mpat_precopy`).

    A migration starts `starts_s[seed % len(starts_s)]` into the recording. `zero[r]` is a bitmap of
    region r's pages that hold only zeros; those written in the recording do not.
    `chunk_pages` is 0 where a sync clears the log itself (TCG, a dirty ring, KVM before Linux 5.2).

    Raises `UsageError` for a chunk of another size than a multiple of 64 pages, or unless there is
    one bitmap of zero pages for each region; `BitmapError` for what is none.
    """

    def __init__(
        self,
        recording: Recording,
        starts_s: Sequence[float],
        zero: Sequence[Bitmap] | None = None,
        *,
        chunk_pages: int = CHUNK_PAGES,
    ) -> None:
        self.recording = recording
        self.page_bytes, self.n_pages = recording.page_bytes, recording.n_pages
        self._starts_s, self._later_s = starts_s, 0.0
        regions = recording.regions
        if whole_number(chunk_pages, 0, 1 << 52) is None or chunk_pages % 64:
            raise UsageError(f"chunk_pages must be 0 or a multiple of 64, not {chunk_pages!r}")
        if zero is not None and len(zero) != len(regions):
            raise UsageError(
                f"there must be a bitmap of zero pages for each of the {len(regions)} regions, "
                f"not {len(zero)} in all"
            )
        self._zero, self._kept = ffi.NULL, []
        if zero is not None:
            self._kept = [
                lend(as_words(words, region) & ~ever, region)
                for words, region, ever in zip(zero, regions, recording.ever, strict=True)
            ]
            self._zero = ffi.new(_POINTERS, self._kept)
        sizes = [region.n_pages for region in regions]
        # When a page was written matters where the log is fetched, and where a chunk is cleared: a
        # single one by the first page that is sent after a sync.
        self._has_chunks = chunk_pages != 0 and (len(sizes) > 1 or sizes[0] > chunk_pages)
        out = ffi.new("mpat_precopy **")
        check(lib.mpat_precopy_create(sizes, len(sizes), chunk_pages, out), "this migration")
        self._handle = ffi.gc(out[0], lib.mpat_precopy_destroy, lib.mpat_precopy_bytes(out[0]))
        self._sent = ffi.new("mpat_sent *")
        self._count = ffi.new("uint64_t *")

    @contextmanager
    def started_later(self, wait_s: float) -> Iterator[None]:
        """Within, migrations start so much later than `starts_s`."""
        self._later_s = wait_s
        try:
            yield
        finally:
            self._later_s = 0.0

    def start(self, seed: int) -> None:
        check(lib.mpat_precopy_start(self._handle, self._zero), "this migration")
        self.pending_pages = self.n_pages
        self._seed = seed
        start_s = float(self._starts_s[seed % len(self._starts_s)]) + self._later_s
        while start_s >= self.recording.duration_s:
            start_s -= self.recording.duration_s - self.recording.loop_s
        self._interval = int(np.searchsorted(self.recording.edges_s, start_s, "right")) - 1
        self._into_s = start_s - self.recording.edges_s[self._interval]
        self._turn = 0
        self._unwritten_s, self._is_cleared = 0.0, False

    def run(self, duration_s: float) -> None:
        self._unwritten_s += duration_s

    def _catch_up(self) -> None:
        """Write what the guest wrote while it ran."""
        edges, duration_s = self.recording.edges_s, self._unwritten_s
        self._unwritten_s = 0.0
        while duration_s > 0:
            i = self._interval
            length = edges[i + 1] - edges[i]
            step = min(duration_s, length - self._into_s)
            self._write(self._into_s / length, min((self._into_s + step) / length, 1.0))
            duration_s -= step
            self._into_s += step
            if self._into_s >= length * (1 - 1e-9):
                self._go_to(i + 1)

    def _go_to(self, interval: int) -> None:
        self._interval, self._into_s = interval, 0.0
        if interval == len(self.recording):
            self._interval = int(np.searchsorted(self.recording.edges_s, self.recording.loop_s))
            self._turn += 1

    def _write(self, start: float, end: float) -> None:
        i, bitmaps = self._interval, self.recording.bitmaps
        end = 1.0 if end > 1 - 1e-9 else end
        seed = ((self._seed << 40) + (self._turn << 24) + i) % (1 << 64)
        check(lib.mpat_precopy_write(self._handle, bitmaps[i][0], bitmaps[i - 1][0], start, end,
                                     seed), "this migration")  # fmt: skip

    def sync(self) -> float:
        self._catch_up()
        check(lib.mpat_precopy_sync(self._handle, self._count), "this migration")
        self.pending_pages, self._is_cleared = self._count[0], False
        return self.pending_pages

    def send(self, duration_s: float, page_s: float, zero_page_s: float) -> Sent:
        if self._has_chunks or not self._is_cleared:
            self._catch_up()
        sent = self._sent
        check(lib.mpat_precopy_send(self._handle, duration_s, page_s, zero_page_s, sent),
              "this migration")  # fmt: skip
        self.pending_pages -= sent.pages
        self._is_cleared |= sent.pages > 0
        return Sent(sent.pages, sent.zero_pages, sent.cost)
