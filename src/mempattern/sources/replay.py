"""A recorded trace as a source: it yields the very intervals that were seen live."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import SupportsIndex

from mempattern.interval import Interval, Provenance
from mempattern.regions import Region
from mempattern.sources.base import Source
from mempattern.trace import TraceReader


class Replay(Source):
    """The intervals of a `.mpt` file, in order and at once.

    `collect` raises `EOFError` past the end.
    Raises `TraceError`, `OSError`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.trace: TraceReader = TraceReader(path)
        """The file, open until `close`."""
        self.regions: tuple[Region, ...] = self.trace.regions
        self.provenance: Provenance = self.trace.provenance
        self._next = 0

    def __len__(self) -> int:
        return len(self.trace)

    def collect(self) -> Interval:
        if self._next >= len(self.trace):
            raise EOFError(f"{self.trace.path}: all its {len(self.trace)} intervals were replayed")
        interval = self.trace[self._next]
        self._next += 1
        self.regions = interval.regions
        return interval

    def intervals(
        self,
        period_s: float = 0.1,
        count: SupportsIndex | None = None,
        *,
        wait: Callable[[float], object] = lambda _seconds: None,
    ) -> Iterator[Interval]:
        """As any source's, but at once: nothing waits unless `wait` does."""
        return super().intervals(period_s, count, wait=wait)

    def close(self) -> None:
        self.trace.close()
