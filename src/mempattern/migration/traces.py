"""A trace file as the memory of a VM that is to migrate, and what limits the trust in that."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from mempattern._checks import whole_number
from mempattern.errors import UsageError
from mempattern.interval import Bitmap, Interval
from mempattern.migration.recording import Recording
from mempattern.migration.zeros import spread_zeros, zeros_of
from mempattern.quantities import format_size, parse_pages
from mempattern.trace import TraceReader

MEMORY_SHARE = 0.5
"""Of the machine's memory: what one trace may take."""
_LINE_WORDS = 8


@dataclass(frozen=True, slots=True)
class Facts:
    """What a recording is of, in numbers."""

    n_pages: int
    """Of all regions."""
    page_bytes: int
    """Of a page in all regions."""
    n_regions: int
    """At the trace's end."""
    n_intervals: int
    """In the trace."""
    observed_s: float
    """All intervals together."""
    unseen_s: float
    """Between the intervals: observed by nobody."""
    touched_pages: int
    """Distinct pages written at least once."""
    lost_pages: int
    """Known to be missing from the intervals, at least; one may count in several."""
    period_s: float | None
    """After which the workload repeats itself; None if no period was found."""

    @classmethod
    def of(cls, recording: Recording) -> Self:
        """From what the recording says of itself."""
        return cls(
            n_pages=recording.n_pages,
            page_bytes=recording.page_bytes,
            n_regions=len(recording.regions),
            n_intervals=len(recording),
            observed_s=recording.duration_s,
            unseen_s=recording.unseen_s,
            touched_pages=recording.touched_pages,
            lost_pages=recording.lost_pages,
            period_s=recording.period_s,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Migrant:
    """A recording, its zero pages (a number, if it is only known how many), and notes."""

    recording: Recording
    """All of the trace."""
    zero: int | list[Bitmap] | None
    """How many pages hold only zeros, or a bitmap of them for each region; None: none."""
    notes: tuple[str, ...]
    """Sentences on what limits the trust in it, beside those of `Recording.faults`."""

    def zero_bitmaps(self) -> Sequence[Bitmap] | None:
        """For each region; None where no page is taken to hold only zeros."""
        if isinstance(self.zero, int):
            return spread_zeros(self.recording, self.zero) if self.zero else None
        return self.zero


def read_migrant(
    path: str | os.PathLike[str],
    zero_pages: int | str | None = None,
    memory_share: float = MEMORY_SHARE,
) -> Migrant:
    """The trace of that file. `zero_pages` is how many hold only zeros, or as text also a size; by
    default what the trace tells.

    Raises `TraceError` if the file is no trace or is damaged, `OSError` if it does not open,
    `UsageError` if its intervals are nothing that can migrate, need more than `memory_share` of the
    machine's memory, or have fewer pages than hold only zeros.
    """
    with TraceReader(path) as trace:
        recording = Recording(_Bounded(trace, memory_share))
        meta, dropped = trace.meta, trace.dropped
        is_guest = meta.get("guest") == "1" or trace.provenance.source.startswith("kvm-")
    zero: int | list[Bitmap] | None
    if zero_pages is None:
        zero, note = zeros_of(recording, meta)
    else:
        zero, note = _checked(parse_pages(str(zero_pages), recording.page_bytes), recording)
    notes = [note] if note else []
    if not is_guest:
        notes.append("the trace is not of all the RAM of a guest; this is as if it were")
    if dropped:
        notes.append(f"{dropped} intervals are not in the trace, whose disk did not keep up")
    return Migrant(recording, zero, tuple(notes))


class _Bounded:
    """The intervals of a trace, up to what a recording of them may take."""

    def __init__(self, trace: TraceReader, memory_share: float) -> None:
        self._trace, self._share = trace, memory_share

    def __len__(self) -> int:
        return len(self._trace)

    def __getitem__(self, index: int) -> Interval:
        return self._trace[index]

    def __iter__(self) -> Iterator[Interval]:
        there, taken = _machine_bytes(), 0
        for interval in self._trace:
            taken += sum(map(_kept_bytes, interval.bitmaps.values()))
            if taken > self._share * there:
                raise UsageError(
                    f"the trace takes more than {100 * self._share:.2g} % of this machine's "
                    f"{format_size(there)} of memory: record for a shorter time or in longer "
                    f"intervals"
                )
            yield interval


def _kept_bytes(words: Bitmap) -> int:
    """Of the lines that are not clean."""
    lines = np.bitwise_or.reduceat(words, np.arange(0, words.size, _LINE_WORDS))
    return int(np.count_nonzero(lines)) * _LINE_WORDS * 8


def _machine_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _checked(zero_pages: int, recording: Recording) -> tuple[int, str | None]:
    """Pages that were written hold something."""
    unwritten = recording.n_pages - recording.touched_pages
    if whole_number(zero_pages, 0, recording.n_pages) is None:
        raise UsageError(
            f"{zero_pages} zero pages are more than the {recording.n_pages} pages of the trace"
        )
    if zero_pages <= unwritten:
        return zero_pages, None
    return unwritten, f"{unwritten} pages were never written, and no others are taken to be zero"
