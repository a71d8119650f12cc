"""How a migration goes on, as far as its last two iterations tell, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mempattern.classify.passes import Curve, Point, Projection, StockRule
from mempattern.classify.volumes import Volume
from mempattern.regions import PAGE_BYTES

_UNKNOWN_STABILITY = 0.5
_UNSURE = 3.0
"""A volume within the limit is a sign of the end, but what waits may not be among it: so much less
sure than to know all of what remains."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """What remains now, and what it takes to get that below the limit."""

    remaining_bytes: float
    dirty_bytes: float
    span_bytes: float
    """Dirty in either iteration."""
    required_Bps: float | None
    """None where a single point of D(t) is known."""
    error: float
    """Of its logarithm, one standard deviation."""
    projection: Projection | None

    @classmethod
    def of(
        cls,
        stock: StockRule,
        last: Volume,
        before: Volume | None,
        short: list[Point],
        evenness: float,
    ) -> Prospect:
        points = last.points(before)
        span = max(point.dirty_bytes for point in points)
        # The pass ended as less than the limit was waiting, and part of that was written again.
        waiting = min(stock.limit_bytes, last.memory_bytes)
        remaining = last.dirty_bytes + waiting * (1 - last.returned_share(before))
        points = sorted(points + short)
        if len(points) < 2:
            return cls(remaining, last.dirty_bytes, span, None, 0.0, None)
        even, uneven = Curve.through(points, math.inf), Curve.through(points, evenness)
        stability = None if before is None else last.stability(before)
        if stability is None:
            stability = _UNKNOWN_STABILITY
        required, error = _required(stock, points[0], even, uneven, stability)
        projection = uneven.project(stock, remaining)
        return cls(remaining, last.dirty_bytes, span, required, error, projection)

    def intensive(
        self, stock: StockRule, tolerance: float, trough_bytes: float, trough_tolerance: float
    ) -> float:
        """The probability that stock pre-copy does not end; 0.5 if nothing is known."""
        limit = stock.limit_bytes
        # Shorter passes dirty no page that these two did not.
        over = min(
            _exceeds(min(self.span_bytes, self.remaining_bytes) / limit, tolerance),
            _exceeds(self.dirty_bytes / limit, _UNSURE * tolerance),
        )
        if self.required_Bps is None or self.projection is None:
            return min(over, 0.5)
        error = math.hypot(self.error, tolerance)
        lacking = _exceeds(self.required_Bps / stock.bandwidth_Bps, error)
        beyond = self.projection.remaining_bytes - limit
        if beyond > 0:  # unless a quiet time comes that is long enough to send that
            lacking *= 1 - _exceeds(trough_bytes / beyond, math.log(trough_tolerance))
        return min(over, lacking)


def _required(
    stock: StockRule, shortest: Point, even: Curve, uneven: Curve, stability: float
) -> tuple[float, float]:
    """The bandwidth that stock pre-copy needs to end, and the error of its logarithm.

    Where the active groups stay the same, their pages are written at random, and the curve says how
    many more a second it would be in shorter windows. Where they do not, the writes move on: pages
    are dirtied in turn, as many a second in any window. Stability is the weight of the one over the
    other. How far they lie apart is how sure it is.
    """
    in_turn = shortest.dirty_bytes / shortest.window_s * stock.bandwidth_Bps / stock.page_Bps
    candidates = (in_turn, even.required_Bps(stock), uneven.required_Bps(stock))
    low, middle, high = (math.log(max(Bps, 1.0)) for Bps in candidates)
    spread = (max(low, middle, high) - min(low, middle, high)) / 2
    few_pages = 1 / math.sqrt(max(shortest.dirty_bytes / PAGE_BYTES, 1.0))
    required = math.exp((1 - stability) * low + stability * high)
    return required, math.hypot(spread, even.misfit, few_pages)


def _exceeds(ratio: float, error: float) -> float:
    """The probability that a ratio is above 1, if its logarithm is normal with that deviation."""
    if ratio <= 0:
        return 0.0
    return 0.5 * (1 + math.erf(math.log(ratio) / error / math.sqrt(2)))
