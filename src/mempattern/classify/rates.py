"""What the write rates of pages look like, from in how many of n intervals each was dirty.

A page written at random moments at a constant rate is dirty in an interval with probability
1 - exp(-rate * length), independently of the others, so the number of its dirty intervals is
binomial. Three laws of how rates differ from page to page are fitted, by maximum likelihood over
the pages seen at all (so zero-truncated): one rate, two rates, and a power law.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_RATES: Floats = np.geomspace(1e-4, 1e5, 297)
"""Writes per mean interval: from pages seen once at most to the first ranks of a power law."""
_N_TOLD_APART = 181  # of these: a page at a rate above 30 is seen always
_STEP = 6  # of that grid, for the coarse search
_EXPONENTS = (0.7, 1.0, 1.4)
_LEAST_PAGES = 30  # of a power law: fewer do not tell it from two rates
_PAGES_WITHIN = 3.0  # the factor by which its number of pages may miss what was seen
_ROUNDS = 12


@dataclass(frozen=True, slots=True)
class TwoRates:
    """Some pages at one rate, the others at another."""

    hot_pages: float
    """Share of the pages, seen or not, that have the higher rate."""
    hot_writes: float
    """Share of all writes that these get."""
    ratio: float
    """Of the two rates."""
    always: bool
    """Whether the hot pages are dirty all the time, so that they may get any more writes."""


@dataclass(frozen=True, slots=True)
class Fits:
    """How far each law is from the counts: nats a page by which its likelihood falls short of that
    of the counts' own frequencies. 0 would be perfect.
    """

    one: float
    two: float
    power: float
    two_rates: TwoRates


def fit(counts: npt.NDArray[Any], durations_s: Floats, distinct_pages: float) -> Fits:
    """Fit the laws to `counts`: of at least one page, in how many of the intervals it was dirty,
    each from 1 to the number of intervals, whose lengths are `durations_s`. The pages are a sample
    of `distinct_pages`.

    Intervals of unequal length count as if each had the mean probability, which is exact for the
    mean of a page's count and a little wide for its spread.
    """
    n = durations_s.size
    seen = np.bincount(counts, minlength=n + 1).astype(np.float64)[1:]
    share = seen / seen.sum()
    present = share > 0
    floor = float(share[present] @ np.log(share[present]))
    lengths = durations_s / durations_s.mean()
    p = -np.expm1(-np.multiply.outer(_RATES, lengths)).mean(axis=1)
    table = _binomial(n, p)
    two, two_rates = _two(table[:_N_TOLD_APART], p[:_N_TOLD_APART], share, n)
    return Fits(
        one=max(0.0, floor - _one(share, n)),
        two=max(0.0, floor - two),
        power=max(0.0, floor - _power(table, share, distinct_pages)),
        two_rates=two_rates,
    )


def _one(share: Floats, n: int) -> float:
    """Log likelihood a page of the best single rate."""
    mean = float(share @ np.arange(1, n + 1))
    low, high = 1e-12, 1.0
    for _ in range(50):
        p = (low + high) / 2
        low, high = (p, high) if n * p / -math.expm1(n * math.log1p(-p)) < mean else (low, p)
    return float(_score(_truncated(_binomial(n, np.array([low]))), share)[0])


def _two(table: Floats, p: Floats, share: Floats, n: int) -> tuple[float, TwoRates]:
    """The same of the best two: all pairs of a coarse grid, then those about the best one."""
    truncated = _truncated(table)
    coarse = np.arange(0, p.size, _STEP)
    low, high = (coarse[i] for i in np.triu_indices(coarse.size, 1))
    likelihood, weight = _mix(truncated[low], truncated[high], share)
    best = int(np.argmax(likelihood))
    near = np.arange(-_STEP + 1, _STEP, 2)
    low = np.clip(np.repeat(low[best] + near, near.size), 0, p.size - 1)
    high = np.clip(np.tile(high[best] + near, near.size), 0, p.size - 1)
    likelihood, weight = _mix(truncated[low], truncated[high], share)
    best = int(np.argmax(likelihood))
    p_low, p_high, hot = p[low[best]], p[high[best]], weight[best]
    pages_high = hot / -math.expm1(n * math.log1p(-p_high)) if p_high < 1 else hot
    pages_low = (1 - hot) / -math.expm1(n * math.log1p(-p_low))
    ratio = float(_RATES[high[best]] / _RATES[low[best]])
    return float(likelihood[best]), TwoRates(
        hot_pages=float(pages_high / (pages_high + pages_low)),
        hot_writes=float(pages_high * ratio / (pages_high * ratio + pages_low)),
        ratio=ratio,
        always=bool(p_high >= 0.95),
    )


def _mix(low: Floats, high: Floats, share: Floats) -> tuple[Floats, Floats]:
    """Best weight of `high` against `low`, row by row, by expectation maximization."""
    weight = np.full(low.shape[0], 0.5)
    for _ in range(_ROUNDS):
        part = weight[:, None] * high
        weight = np.minimum((part / (part + (1 - weight)[:, None] * low)) @ share, 1.0)
    return _score(weight[:, None] * high + (1 - weight)[:, None] * low, share), weight


def _power(table: Floats, share: Floats, distinct_pages: float) -> float:
    """The same of the best power law: N pages, the k-th of which has rate / k**s.

    The number of its pages with a rate about x falls with x**(-1 / s). The highest rate is N**s
    times the lowest, so that the range of rates says how many pages there are, and with the lowest
    one how many of them are seen: about as many as were. That ties the law to the volume, without
    which pages seen once each would be any law's.
    """
    coarse = np.arange(0, _RATES.size, _STEP)
    low, high = (coarse[i] for i in np.triu_indices(coarse.size, 1))
    best = -math.inf
    for exponent in _EXPONENTS:
        upto = np.cumsum(table * (_RATES ** (-1 / exponent))[:, None], axis=0)
        law = upto[high] - upto[low]
        n_pages = (_RATES[high] / _RATES[low]) ** (1 / exponent)
        n_seen = n_pages * (1 - law[:, 0] / law.sum(axis=1))
        fits = (n_pages >= _LEAST_PAGES) & (
            np.abs(np.log(n_seen / distinct_pages)) <= math.log(_PAGES_WITHIN)
        )
        if fits.any():
            best = max(best, float(_score(_truncated(law[fits]), share).max()))
    return best


def _score(likelihoods: Floats, share: Floats) -> Floats:
    return np.asarray(np.log(likelihoods) @ share)


def _truncated(table: Floats) -> Floats:
    """Without the first column, rows summing to 1."""
    seen = np.maximum(table[:, 1:], 1e-200)  # what cannot be is only as good as impossible
    return np.asarray(seen / seen.sum(axis=1, keepdims=True))


def _binomial(n: int, p: Floats) -> Floats:
    """(p.size, n + 1): probabilities of 0 to n."""
    k = np.arange(n + 1)
    p = np.clip(p, 1e-15, 1 - 1e-15)[:, None]
    return np.asarray(np.exp(_log_choose(n) + k * np.log(p) + (n - k) * np.log1p(-p)))


@functools.cache
def _log_choose(n: int) -> Floats:
    return np.array([math.log(math.comb(n, k)) for k in range(n + 1)])
