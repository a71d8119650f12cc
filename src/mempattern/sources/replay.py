"""A recorded trace as a source: it yields the very intervals that were seen live."""

from __future__ import annotations

import os
from collections.abc import Iterator

from mempattern.interval import Interval
from mempattern.sources.base import Source
from mempattern.trace import TraceReader


class Replay(Source):
    """The intervals of a `.mpt` file, in order and at once.

    `collect` raises `EOFError` past the end.
    Raises `TraceError`, `OSError`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.trace = TraceReader(path)
        self.regions = self.trace.regions
        self.provenance = self.trace.provenance
        self._next = 0

    def __len__(self) -> int:
        return len(self.trace)

    def collect(self) -> Interval:
        if self._next >= len(self.trace):
            raise EOFError(f"{self.trace.path} has no interval after {self._next - 1}")
        interval = self.trace[self._next]
        self._next += 1
        return interval

    def intervals(self, period_s: float = 0.0, count: int | None = None) -> Iterator[Interval]:
        """What is left of the trace, `count` intervals at most, without waiting in between."""
        while self._next < len(self.trace) and (count is None or count > 0):
            yield self.collect()
            count = None if count is None else count - 1

    def close(self) -> None:
        self.trace.close()
