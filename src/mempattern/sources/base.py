"""What every source has in common."""

from __future__ import annotations

import itertools
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, SupportsIndex

from mempattern._checks import positive_seconds, whole_number
from mempattern._closing import Closing
from mempattern.errors import UsageError
from mempattern.interval import Bitmap, Interval, Provenance
from mempattern.regions import Region

_SHORTEST_S = 1e-6
_LONGEST_S = 86_400.0


class Source(Closing):
    """Something that can be asked, again and again, which pages were written since the last time.

    A context manager: leaving it closes the source. One thread at a time.
    """

    regions: tuple[Region, ...]
    """As of the last collection: they may grow, and new ones come after them, but none goes."""
    provenance: Provenance
    """How it observes, and what it cannot see; the same for all its intervals."""

    @abstractmethod
    def collect(self) -> Interval:
        """The pages written since the collection before, or since the source was opened.

        Raises `EOFError` once there is nothing more: a recording's end, a process's.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of what the source holds. May be called twice."""

    def interval_of(self, index: int, bitmaps: Iterable[Bitmap], collected: Any) -> Interval:
        """The interval that a collection by the C core makes, with one bitmap for each region."""
        return Interval(
            index=index,
            start_ns=collected.start_ns,
            end_ns=collected.end_ns,
            regions=self.regions,
            bitmaps={r.name: words for r, words in zip(self.regions, bitmaps, strict=True)},
            provenance=self.provenance,
            lost_pages=collected.lost_pages,
            collect_ns=collected.collect_ns,
        )

    def intervals(
        self,
        period_s: float = 0.1,
        count: SupportsIndex | None = None,
        *,
        wait: Callable[[float], object] = time.sleep,
    ) -> Iterator[Interval]:
        """Collect every `period_s` seconds, `count` times or until the source ends.

        `wait` is called with seconds, as `time.sleep` is. It may return early, which ends that
        interval early, or raise `EOFError`, which ends them all. The ticks stand on a fixed grid of
        CLOCK_MONOTONIC, so that the cost of a collection does not stretch the period; ticks that a
        slow consumer missed are left out, and the next interval is longer, as its `duration_s`
        says.
        """
        period_s = positive_seconds("period_s", period_s)
        if not _SHORTEST_S <= period_s <= _LONGEST_S:
            raise UsageError(f"period_s must be from 1 microsecond to a day, not {period_s!r}")
        if count is not None and whole_number(count, 0, 1 << 62) is None:
            raise UsageError(f"count must be a whole number, or None for no end, not {count!r}")
        return self._ticking(period_s, count, wait)

    def _ticking(
        self, period_s: float, count: SupportsIndex | None, wait: Callable[[float], object]
    ) -> Iterator[Interval]:
        tick = time.monotonic()
        for _ in itertools.count() if count is None else range(count):
            behind = time.monotonic() - tick
            tick += period_s * max(1, 1 + behind // period_s)
            try:
                wait(max(0.0, tick - time.monotonic()))
                interval = self.collect()
            except EOFError:
                return
            yield interval
