"""A trace of a large guest, made of the corpus: python benches/large_trace.py FILE.mpt [INTERVALS]

1 TiB, of which little is written at a time, as in a real one. Every trace of the corpus has a GiB
of its own somewhere, and goes round and round from an interval of its own on. A thousand intervals
of 0.1 s are a day: two hundred at night, when only those that idle are there; then all; and for
the last three hundred, a job over 16 GiB beside them, elsewhere every day.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tiles

from mempattern import Interval, Provenance, Region
from mempattern.trace import TraceWriter

N_INTERVALS = 10_000
GIB = 1024
PERIOD_NS = 100_000_000
DAY, NIGHT, JOB_FROM = 1000, 200, 700
JOB, JOB_GIB = "stress-vm", 16
_MOST_QUEUED = 4


class Guest:
    """Its bitmaps by the number of the interval."""

    def __init__(self, gib: int = GIB) -> None:
        self.region = Region("ram", gib * tiles.GIB_WORDS * 64)
        self._rooms = [np.zeros(self.region.n_words, np.uint64) for _ in range(2 * _MOST_QUEUED)]
        rng = np.random.default_rng(0)
        self._services = tiles.corpus(400)
        places = rng.permutation(gib - JOB_GIB)[: len(self._services)]
        self._starts = (places * tiles.GIB_WORDS).tolist()
        self._ahead = rng.integers(0, 400, len(self._services)).tolist()
        self._job = next(trace for trace in self._services if trace.name == JOB)

    def words(self, number: int) -> npt.NDArray[np.uint64]:
        """Overwritten by those of the eighth interval after it: by then they are in the file."""
        words = self._rooms[number % len(self._rooms)]
        words[:] = 0
        day, time_of_day = divmod(number, DAY)
        for trace, start, ahead in zip(self._services, self._starts, self._ahead, strict=True):
            if time_of_day >= NIGHT or trace.name.endswith("idle"):
                self._put(words, trace, start, number + ahead)
        if time_of_day >= JOB_FROM:
            most = self.region.n_words // tiles.GIB_WORDS - JOB_GIB
            first = day * 7919 % max(most, 1)
            for gib in range(first, first + JOB_GIB):
                self._put(words, self._job, gib * tiles.GIB_WORDS, number + gib)
        return words

    def _put(
        self, words: npt.NDArray[np.uint64], trace: tiles.Bitmaps, start: int, number: int
    ) -> None:
        row = trace.words[number % len(trace.words)]
        words[start : start + row.size] |= row


def write(path: Path, n_intervals: int = N_INTERVALS, gib: int = GIB) -> None:
    guest = Guest(gib)
    provenance = Provenance("kvm-dirty-log")
    with TraceWriter(path, (guest.region,), provenance, {"guest": "1"}, force=True) as trace:
        for number in range(n_intervals):
            start_ns = number * PERIOD_NS
            trace.write(
                Interval(number, start_ns, start_ns + PERIOD_NS, (guest.region,),
                         {"ram": guest.words(number)}, provenance, collect_ns=1_000_000)
            )  # fmt: skip
            while number - trace.written > _MOST_QUEUED:  # nothing is dropped
                time.sleep(0.001)


if __name__ == "__main__":
    write(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
