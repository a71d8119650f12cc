"""What tells the kinds of pattern apart, measured on the pages sampled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mempattern.classify.sample import DEPTH

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]

_ONE = np.uint64(1)
_STRETCHES = 64
_LAGS = 3
_SIGMAS = 2.0
_LEAST_PAIRS = 16
_ALWAYS = 0.9
_AGREEMENT = 0.25
_BLOCK_PAGES = 64  # written in one go; fewer are an object, which may come at random


@dataclass(frozen=True, slots=True)
class Order:
    """Whether pages are written in the order of their addresses."""

    n_pairs: int
    """Neighbours, both dirty in the window: pages of a group with no dirty page between them."""
    shared: float
    """How many of the pairs have one of the commonest lags, from the one's last write to the
    other's: 0 is what pages without an order would show, 1 is all.
    """
    moving: float
    """The same of the pairs that were not last written in the same interval."""
    n_moving: int
    rows: float
    """Of the pairs, those in groups that show an order by themselves, 0 to 1."""


_NO_ORDER = Order(0, 0.0, 0.0, 0, 0.0)


@dataclass(frozen=True, slots=True)
class Stretch:
    """The stretch of addresses that stands out most by how many of its pages were dirty."""

    pages: float
    """Share of the span between the first and the last dirty page that it takes."""
    dirty: float
    """Share of the dirty pages that lie in it."""
    nats: float
    """Log likelihood by which it explains them better than an even spread does."""


def window(past: Words, n: int) -> Words:
    """The last n intervals of pages' pasts, 1 to 64."""
    return past & np.uint64((1 << n) - 1) if n < DEPTH else past


def order(past: Words, n: int) -> Order:
    """From (n_groups, n_pages) pasts of n intervals.

    A sweep writes a page a constant time after its neighbour, be it the step of a word or of 16
    pages at a time, in ascending order or not. Where it goes in strides and has not yet come to
    all pages there are up to three such times: along a stride, to the next and back. Where writes
    have no order, the lag between two neighbours is the difference of two independent ages.
    """
    dirty = past != 0
    group = np.nonzero(dirty)[0]
    last = past[dirty]
    age = np.bitwise_count((last & (~last + _ONE)) - _ONE).astype(np.int64)
    within = group[:-1] == group[1:]
    lags, of_group = (age[:-1] - age[1:])[within] + DEPTH, group[:-1][within]
    if lags.size == 0:
        return _NO_ORDER
    width = 2 * DEPTH + 1
    seen = np.bincount(of_group * width + lags, minlength=past.shape[0] * width)
    by_group = seen.reshape(-1, width).astype(np.float64)
    ages = np.bincount(group * DEPTH + age, minlength=past.shape[0] * DEPTH).reshape(-1, DEPTH)
    rows = _ordered_rows(by_group, ages.astype(np.float64), past, n)
    seen = by_group.sum(axis=0)
    by_chance = _differences(ages.sum(axis=0, keepdims=True).astype(np.float64))[0]
    shared = _beyond_chance(seen, by_chance)
    seen[DEPTH] = by_chance[DEPTH] = 0
    return Order(lags.size, shared, _beyond_chance(seen, by_chance), int(seen.sum()), rows)


def _differences(ages: Floats) -> Floats:
    """(n, 129) from (n, 64): how often two ages drawn from each row differ by -64 to 64."""
    spectrum = np.abs(np.fft.rfft(ages, 2 * DEPTH, axis=1)) ** 2
    pairs = np.maximum(np.fft.irfft(spectrum, axis=1), 0.0)
    return np.asarray(np.roll(np.pad(pairs, ((0, 0), (0, 1))), DEPTH, axis=1))


def _ordered_rows(lags: Floats, ages: Floats, past: Words, n: int) -> float:
    """Of the pairs in groups with enough of them, the share in groups that are written in order:
    of whose pairs hardly any has a lag, or those with one agree better than ages drawn from that
    very group would; and whose pages are not dirty all the time, which would look the same.
    """
    n_pairs = lags.sum(axis=1)
    chosen = n_pairs >= _LEAST_PAIRS
    if not chosen.any():
        return 0.0
    n_pairs, lags, often = n_pairs[chosen], lags[chosen].copy(), np.bitwise_count(past[chosen])
    n_dirty = (often > 0).sum(axis=1)
    always = often.sum(axis=1, dtype=np.int64) / n_dirty >= _ALWAYS * n
    by_chance = _differences(ages[chosen])
    lags[:, DEPTH] = by_chance[:, DEPTH] = 0
    n_moving = lags.sum(axis=1)
    most = (lags[:, :-1] + lags[:, 1:]).max(axis=1) / np.maximum(n_moving, 1)
    total = np.maximum(by_chance.sum(axis=1), 1e-9)
    chance = np.minimum((by_chance[:, :-1] + by_chance[:, 1:]).max(axis=1) / total, 1.0)
    by_luck = _SIGMAS * np.sqrt(chance * (1 - chance) / np.maximum(n_moving, 1))
    agree = most - chance - by_luck > _AGREEMENT * (1 - chance)
    blocks = n_moving <= 1 + n_pairs / _BLOCK_PAGES
    return float(n_pairs[(blocks | agree) & ~always].sum() / n_pairs.sum())


def _beyond_chance(seen: Floats, by_chance: Floats) -> float:
    """The share of the commonest lags, from 0 for what is expected by chance and may come by it."""
    n_pairs, total = float(seen.sum()), float(by_chance.sum())
    if n_pairs == 0 or total <= 0:
        return 0.0
    best = 0.0
    for most, chance in zip(
        np.cumsum(_commonest(seen)) / n_pairs,
        np.cumsum(_commonest(by_chance)) / total,
        strict=True,
    ):
        rest = 1 - chance
        if rest > 1e-9:
            by_luck = _SIGMAS * math.sqrt(chance * rest / n_pairs)
            best = max(best, (most - chance - by_luck) / rest)
    return float(best)


def _commonest(lags: Floats) -> list[float]:
    """The largest sums of a lag and the next one, three that have none in common.

    Two lags count as one, since a constant time falls on one or the other of two intervals.
    """
    left = lags.copy()
    found: list[float] = []
    for _ in range(_LAGS):
        at = int(np.argmax(left[:-1] + left[1:]))
        found.append(float(left[at] + left[at + 1]))
        left[at : at + 2] = 0
    return found


def densest_stretch(past: Words, places: npt.NDArray[np.int64]) -> Stretch:
    """From (n_groups, n_pages) pasts and where each row's pages begin.

    Kulldorff's scan statistic ("A spatial scan statistic", Communications in Statistics 1997), with
    Poisson counts, over all stretches of addresses that are a multiple of 1/64 of the span. Pages
    count once however often they were written, so that single hot pages make no stretch.
    """
    rows = np.argsort(places)
    words = (past[rows] != 0).reshape(-1, 64).sum(axis=1)
    present = np.flatnonzero(words)
    if present.size == 0:
        return Stretch(1.0, 1.0, 0.0)
    words = words[present[0] : present[-1] + 1]
    n = min(words.size, _STRETCHES)
    edges = np.linspace(0, words.size, n + 1, dtype=np.int64)
    upto = np.concatenate([[0], np.cumsum(words)])[edges].astype(np.float64)
    first, last = np.triu_indices(n + 1, 1)
    share = (upto[last] - upto[first]) / upto[-1]
    size = (edges[last] - edges[first]) / words.size
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = _times_log(share, share / size) + _times_log(1 - share, (1 - share) / (1 - size))
    gain[share <= size] = 0
    best = int(np.argmax(gain))
    return Stretch(float(size[best]), float(share[best]), float(gain[best] * upto[-1]))


def _times_log(a: Floats, b: Floats) -> Floats:
    return np.where(a > 0, a * np.log(b), 0.0)


def set_overlap(past: Words, n: int) -> Floats:
    """By lag, from 0 to n - 1: pages dirty in both of two intervals so far apart, the mean over all
    such pairs of intervals.
    """
    dirty = past[past != 0]
    both = [
        int(np.bitwise_count(dirty & dirty >> np.uint64(lag)).sum(dtype=np.int64))
        for lag in range(n)
    ]
    return np.array(both) / (n - np.arange(n))
