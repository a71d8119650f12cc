"""The passes to come: what a shorter pass would dirty, and what stock QEMU makes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mempattern.regions import PAGE_BYTES

_HEADER_BYTES = 8
"""In front of each page that QEMU sends (migration/ram.c, save_page_header)."""
_MOST_PASSES = 100
"""A projection follows so many; what needs more is as good as endless."""
_SETTLED = 1e-3
"""Passes that shrink by less than this share do not shrink."""
_SPEEDS = np.geomspace(1e-4, 1e3, 281)
"""Writes to a page in the shortest window: from a straight D(t) to a flat one."""
_LONGER = 0.1
"""Weight of the points beyond the two shortest: what is asked of the curve is shorter still."""


@dataclass(frozen=True, slots=True)
class StockRule:
    """A migration by stock QEMU, and the rule by which it ends.

    A pass is over when less than the limit remains. The bitmap is then synchronised, and the guest
    is stopped if that is still so (migration/migration.c, migration_iteration_run).
    """

    bandwidth_Bps: float
    downtime_limit_s: float
    shortest_pass_s: float

    @property
    def limit_bytes(self) -> float:
        return self.bandwidth_Bps * self.downtime_limit_s

    @property
    def page_Bps(self) -> float:
        """What the bandwidth carries of the pages themselves."""
        return self.bandwidth_Bps * PAGE_BYTES / (PAGE_BYTES + _HEADER_BYTES)

    @property
    def slice_bytes(self) -> float:
        """Sent between two looks at what remains."""
        return self.page_Bps * self.shortest_pass_s


class Point(NamedTuple):
    """A point of D(t): a window's length, and the bytes of the distinct pages dirty in it."""

    window_s: float
    dirty_bytes: float


class Projection(NamedTuple):
    passes: int | None
    """Further passes until the stock condition is met; None: never, or not in a hundred."""
    remaining_bytes: float
    """After the last of them: where the passes settle if they do not end."""


@dataclass(frozen=True, slots=True)
class Curve:
    """D(t) = span * (1 - (1 + speed * t / evenness) ** -evenness).

    So it is if pages are written at random, each at a rate of its own, and the rates are gamma
    distributed with that shape (Fisher, Corbet and Williams, J. Animal Ecology 12, 1943; Good and
    Toulmin, Biometrika 43, 1956). With an infinite one all rates are equal; the lower it is, the
    fewer pages take most writes, and the longer D(t) goes on rising.
    """

    span_bytes: float
    speed: float
    """Writes a second to a page, on average."""
    evenness: float
    misfit: float
    """Root mean square of the logarithms of the points over the curve."""

    @classmethod
    def through(cls, points: list[Point], evenness: float) -> Curve:
        """The least squares fit in logarithms to two points or more, mostly to the shortest two."""
        window_s, dirty = np.array(sorted(points)).T
        weights = np.where(np.arange(len(window_s)) < 2, 1.0, _LONGER)
        weights /= weights.sum()
        rises = _rises(np.multiply.outer(_SPEEDS, window_s / window_s[0]), evenness)
        over = np.log(np.maximum(dirty, PAGE_BYTES / 2)) - np.log(rises)
        span = over @ weights
        misfit = (over - span[:, None]) ** 2 @ weights
        best = int(misfit.argmin())
        return cls(
            math.exp(span[best]),
            float(_SPEEDS[best] / window_s[0]),
            evenness,
            math.sqrt(misfit[best]),
        )

    def at(self, window_s: float) -> float:
        """Bytes dirtied in such a window."""
        writes = self.speed * window_s
        if math.isinf(self.evenness):
            return -self.span_bytes * math.expm1(-writes)
        return -self.span_bytes * math.expm1(-self.evenness * math.log1p(writes / self.evenness))

    def window_s(self, dirty_bytes: float) -> float:
        """The window in which so much is dirtied; infinite if it never is."""
        clean = 1 - dirty_bytes / self.span_bytes
        if clean < 1e-9:
            return math.inf
        if math.isinf(self.evenness):
            return -math.log(clean) / self.speed
        return self.evenness / self.speed * math.expm1(-math.log(clean) / self.evenness)

    def added_bytes(self, window_s: float, waiting_bytes: float, remaining_bytes: float) -> float:
        """What a pass adds to what waits at its end, which is a part of what remained before it.

        A page that waits is not added again. What remained is taken as dirtied in a window just
        before the pass, so that the curve says how much of it comes back.
        """
        dirty, before_s = self.at(window_s), self.window_s(remaining_bytes)
        again = dirty
        if not math.isinf(before_s):
            again += remaining_bytes - self.at(window_s + before_s)
        return dirty - again * waiting_bytes / remaining_bytes

    def required_Bps(self, stock: StockRule) -> float:
        """The bandwidth that stock QEMU needs to end: what a shortest pass adds, over its length,
        when little more than the limit remains.

        D is concave, so a longer pass adds less for its length: if the shortest keeps up, all do.
        """
        limit = stock.limit_bytes
        if self.span_bytes <= limit:
            return 0.0
        remaining = min(limit + stock.slice_bytes, self.span_bytes)
        added = self.added_bytes(stock.shortest_pass_s, limit, remaining)
        return added / stock.slice_bytes * stock.bandwidth_Bps

    def project(self, stock: StockRule, remaining_bytes: float) -> Projection:
        """Follow stock QEMU from a bitmap sync on that left so much to send."""
        for passes in range(_MOST_PASSES):
            over = remaining_bytes - stock.limit_bytes
            if over < 0:
                return Projection(passes, remaining_bytes)
            slices = math.floor(over / stock.slice_bytes) + 1
            waiting = max(remaining_bytes - slices * stock.slice_bytes, 0.0)
            after = waiting + self.added_bytes(
                slices * stock.shortest_pass_s, waiting, remaining_bytes
            )
            if slices > 1 and after > remaining_bytes * (1 - _SETTLED):
                break
            remaining_bytes = after
        return Projection(None, remaining_bytes)


def _rises(writes: npt.NDArray[np.float64], evenness: float) -> npt.NDArray[np.float64]:
    """D(t) as a share of the span, for these speed * t."""
    if math.isinf(evenness):
        return -np.expm1(-writes)
    return -np.expm1(-evenness * np.log1p(writes / evenness))
