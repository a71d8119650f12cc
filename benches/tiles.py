"""The corpus's bitmaps, as they are and tiled to the size of a guest.

A trace's regions lie one behind the other, each from the start of a group on, and so do the tiles.
Each tile is one interval ahead of the one before it, as no two guests do the same at once; after
the trace's last interval its first one comes again. The intervals are those in the middle of the
trace.

The classes are chosen by what these intervals are, so that new traces may take their places:
dense is the trace with the largest share of dirty pages. Of those with a thousandth of dirty pages
or more and less than a twentieth, clustered is the one with the most dirty pages in an active
group, and sparse the one with the fewest.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from peers.work import GROUP_WORDS, N_WINDOWED, Case, Words

from mempattern.migration.recording import Recording
from mempattern.trace import TraceReader

CORPUS = Path(__file__).parent / "data/corpus"
LEAST_SHARE, SPARSE_SHARE = 0.001, 0.05
GIB_WORDS = (1 << 18) // 64


@dataclass(frozen=True, slots=True, eq=False)
class Bitmaps:
    """The intervals in the middle of a trace."""

    name: str
    words: npt.NDArray[np.uint64]
    """(n_intervals, n_words), of whole groups."""

    @property
    def dirty_share(self) -> float:
        """Of the pages of an interval, on average."""
        return int(np.bitwise_count(self.words).sum(dtype=np.uint64)) / (64 * self.words.size)

    @property
    def pages_per_active(self) -> float:
        """Dirty pages of an active group, on average; 0 if none is active."""
        n_active = self.words.reshape(-1, GROUP_WORDS).any(axis=1).sum()
        return 64 * self.words.size * self.dirty_share / max(n_active, 1)


def read(path: Path, n_intervals: int = N_WINDOWED) -> Bitmaps:
    with TraceReader(path) as trace:
        recording = Recording(trace)  # has all intervals in the last one's regions
    first = max(0, (len(recording) - n_intervals) // 2)
    rows = []
    for number in range(first, min(first + n_intervals, len(recording))):
        bitmaps = recording[number].bitmaps
        rows.append(np.concatenate([_padded(bitmaps[r.name]) for r in recording.regions]))
    return Bitmaps(path.stem, np.array(rows))


def _padded(words: Words) -> Words:
    return np.pad(words, (0, -words.size % GROUP_WORDS))


@functools.cache
def corpus(n_intervals: int = N_WINDOWED) -> tuple[Bitmaps, ...]:
    return tuple(read(path, n_intervals) for path in sorted(CORPUS.glob("*.mpt")))


def classes(traces: tuple[Bitmaps, ...]) -> dict[str, Bitmaps]:
    few = [trace for trace in traces if LEAST_SHARE <= trace.dirty_share < SPARSE_SHARE]
    return {
        "dense": max(traces, key=lambda trace: trace.dirty_share),
        "sparse": min(few, key=lambda trace: trace.pages_per_active),
        "clustered": max(few, key=lambda trace: trace.pages_per_active),
    }


def as_they_are(traces: tuple[Bitmaps, ...]) -> list[Case]:
    return [Case(tuple(trace.words)) for trace in traces]


def tiled(trace: Bitmaps, gib: float, n_intervals: int) -> Case:
    """So many successive intervals of a guest of that size."""
    n_words = int(gib * GIB_WORDS)
    n_rows, tile = trace.words.shape
    intervals = []
    for number in range(n_intervals):
        words = np.empty(n_words, np.uint64)
        for ahead, start in enumerate(range(0, n_words, tile)):
            part = words[start : start + tile]
            part[:] = trace.words[(number + ahead) % n_rows][: part.size]
        intervals.append(words)
    return Case(tuple(intervals))
