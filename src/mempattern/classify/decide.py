"""The rules: from what was observed to the kind of pattern. docs/patterns.md says why they hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mempattern.classify.features import Order, densest_stretch, order, set_overlap, window
from mempattern.classify.kinds import Evidence, Kind, Pattern
from mempattern.classify.known import Case, Known, measure
from mempattern.classify.periods import Period, find_period
from mempattern.classify.rates import fit
from mempattern.classify.sample import DEPTH

LEAST_INTERVALS = 4
"""Fewer tell nothing: a page must have had the chance to come back, or not to."""

LEAST_PAGES = 20
"""In the sample: fewer tell nothing either."""

IDLE_PAGES_PER_S = 1.0
"""Below it nothing is to be told, and nothing to be feared: a migration sends that in no time."""

SATURATED = 0.95
"""Of the pages dirty in the window, the share dirty in its mean interval, from which on the order
and the frequency of writes cannot be seen: every page is dirty all the time.
"""

SWEEPING = 0.6
"""Of neighbours, those written in order beyond chance."""

PARTLY_SWEEPING = 0.15
"""Of groups, those that show an order by themselves: a mixture with a sweep."""

MOVING = 0.25
"""Of neighbours not written in the same interval, those in order: less, and it is whole objects
that are written, at random.
"""

EVEN_SPREAD, EVEN_OFTEN = 0.3, 2.0
"""`Evidence.spread` below which pages are written equally often. Where they are dirty in so many
intervals and more, that alone tells a sweep.
"""

COMING_BACK_EARLY = 0.1
"""Share of the dirty pages that may have been dirty in the interval before and should not."""

FEW_RUNS = 0.25
"""Runs of dirty pages, against those of as many random ones: so few does a sequential sweep leave
that comes to nearly all pages in an interval.
"""

LEAST_RATIO = 3.0
"""How many times as often the pages of a hot set are written as the others."""

MOST_HOT_PAGES, LEAST_HOT_WRITES = 0.5, 0.5
"""A hot set is the smaller part of the pages, and takes most of the writes."""

FEW_GROUPS = 0.5
"""Share of the dirty pages that the sample, scaled up, accounts for, below which most of them are
in groups too few to be in it.
"""

ENOUGH_PAGES = 1000
"""Evidence of more pages is scaled down to so many: no real program follows a law so well that tens
of thousands of pages would not find a fault with it.
"""

MOST_OWN_PAGES = 8
"""Always dirty, beside at least ENOUGH_PAGES others: left out of the laws."""

PARAMETER_NATS = 4.0
"""What a law costs for having two parameters more: about half of log(ENOUGH_PAGES) each, as the
Bayesian information criterion has it.
"""

STRETCH_NATS = 8.0
"""What the best of 2080 stretches of addresses gains by chance: about log(2080)."""

MISFIT_NATS = 100.0
"""Of ENOUGH_PAGES: a law that falls short by more does not describe them."""

RETURNS, PAGES_A_RETURN = 10.0, 16.0
"""That nothing stands out means something once pages had the chance to: so many came back, or so
many times 16 were spread over the addresses.
"""

UNSTEADY_INTERVALS = 16.0
"""Where the volume changes, but no period was found, the confidence is halved after so many: it may
be phases of which too few were seen.
"""

LEAST_CONFIDENCE = 0.5
"""A ruling less certain is none."""

TEMPER = 2.0
"""Divides nats before they become probabilities."""

VOLUME_SWING, SHAPE_SWING = 0.15, 0.05
"""Least standard deviation of what alternates: the volume, relative to its mean, and shares."""

SHAPES = (1, 4, 3)
"""Columns of the counts: redirtied pages, runs, active groups."""


_Ruling = tuple[Kind, float, Evidence]


def decide(seen: Known) -> Pattern:
    """The kind of pattern of a region, or of the VM as if it were one: the ruling of the first
    rule that has one.
    """
    n = min(DEPTH, seen.counts.shape[0])
    if seen.known.size:
        n = min(n, int(np.median(seen.known)))
    if n == 0:
        return Pattern(Kind.UNKNOWN, 0.0, Evidence())
    known = seen.known >= n
    past = window(seen.past[known], n)
    found = order(past, n)
    evidence = replace(measure(seen, past, n), in_order=found.shared)
    if n < LEAST_INTERVALS:
        return Pattern(Kind.UNKNOWN, 0.0, evidence)
    fraction = seen.fraction * (float(known.mean()) if known.size else 1.0)
    case = Case(seen, n, past, seen.places[known], fraction, found, evidence)
    kind, confidence, evidence = next(
        ruling for rule in _RULES if (ruling := rule(case)) is not None
    )
    confidence *= evidence.known_share * n / (n + 1)
    return Pattern(kind if confidence >= LEAST_CONFIDENCE else Kind.UNKNOWN, confidence, evidence)


# ---- the rules, in their order at the end --------------------------------------------------------


def _never_active(case: Case) -> _Ruling | None:
    length_s = float(np.diff(case.seen.times_ns, axis=1).sum()) / 1e9
    idle = case.seen.counts[:, 0].sum() < IDLE_PAGES_PER_S * length_s
    return (Kind.IDLE, 1.0, case.evidence) if idle else None


def _idle(case: Case) -> _Ruling | None:
    idle = case.evidence.dirty_pages_per_s < IDLE_PAGES_PER_S
    return (Kind.IDLE, 1.0, case.evidence) if idle else None


def _in_few_groups(case: Case) -> _Ruling | None:
    """The sample, scaled up, has too few dirty pages: the others are where it has no group."""
    sampled = int(np.bitwise_count(case.past).sum(dtype=np.int64))
    share = sampled / case.fraction / int(case.counts[:, 0].sum())
    if case.fraction >= 1 or share >= FEW_GROUPS:
        return None
    few = replace(case.evidence, hot_pages=case.fraction, hot_writes=1 - share)
    return Kind.HOTSET, 1 - share, few


def _too_few_pages(case: Case) -> _Ruling | None:
    too_few = case.evidence.sampled_pages < LEAST_PAGES
    return (Kind.UNKNOWN, 0.0, case.evidence) if too_few else None


def _saturated(case: Case) -> _Ruling | None:
    if case.evidence.rewritten_share < SATURATED:
        return None
    return Kind.HOTSET, 1.0, replace(case.evidence, hot_pages=1.0, hot_writes=1.0)


def _sweep(case: Case) -> _Ruling | None:
    e, found = case.evidence, case.order
    dirty, runs = (float(case.counts[:, column].sum()) for column in (0, 4))
    random_runs = dirty * (1 - e.rewritten_share)
    one_run = e.spread < 1 and e.rewritten_share > 0.5 and runs < FEW_RUNS * random_runs
    objects = found.n_moving >= LEAST_PAGES and found.moving < MOVING
    in_order = found.shared >= SWEEPING and not objects
    even = e.spread < EVEN_SPREAD
    if one_run or (even and (in_order or e.rewritten_share * case.n >= EVEN_OFTEN)):
        sure = _certainty(found) * _steadiness(case, shapes=())
        return (Kind.SWEEP, sure, e) if _comes_back_late(case) else None
    return None


def _comes_back_late(case: Case) -> bool:
    """Of two intervals in a row, a sweep has only those pages in common that do not fit in one."""
    dirty, redirtied = case.counts[:, 0], int(case.counts[1:, 1].sum())
    common = np.maximum(0, dirty[1:] + dirty[:-1] - case.evidence.distinct_pages).sum()
    return redirtied <= float(common) + COMING_BACK_EARLY * int(dirty[1:].sum())


def _partly_sweep(case: Case) -> _Ruling | None:
    if case.order.rows < PARTLY_SWEEPING:
        return None
    return Kind.MIXED, _certainty(case.order) * _steadiness(case), case.evidence


def _certainty(found: Order) -> float:
    return found.n_pairs / (found.n_pairs + LEAST_PAGES)


def _phases_of_volume(case: Case) -> _Ruling | None:
    return _phased(_volume_period(case.seen), case.evidence)


def _phases(case: Case) -> _Ruling | None:
    of_shape, of_set = _shape_period(case.seen), _set_period(case)
    if of_shape and of_set:  # each change of the set may show in the shape, two or more a period
        turns = max(1, round(of_set.seconds / of_shape.seconds))
        seconds, n_periods = of_shape.seconds * turns, of_shape.n_periods / turns
        of_shape = Period(seconds, of_shape.correlation, n_periods) if n_periods >= 2 else of_set
    return _phased(of_shape or of_set, case.evidence)


def _phased(period: Period | None, evidence: Evidence) -> _Ruling | None:
    if period is None:
        return None
    found = replace(evidence, period_s=period.seconds, n_periods=period.n_periods)
    return Kind.PHASED, 1 - 2.0 ** (-2 * period.n_periods * period.correlation), found


def _volume_period(seen: Known) -> Period | None:
    starts_s, ends_s = (seen.times_ns.T - seen.times_ns[0, 0]) / 1e9
    rate = seen.counts[:, 0] / (ends_s - starts_s)
    pages = float(seen.counts[:, 0].mean())
    if rate.std() < max(VOLUME_SWING, 1.5 / math.sqrt(pages)) * rate.mean():
        return None
    return find_period(rate, starts_s, ends_s)


def _shape_period(seen: Known) -> Period | None:
    """Of what a dirty page is like: redirtied, the beginning of a run, alone in its group."""
    starts_s, ends_s = (seen.times_ns.T - seen.times_ns[0, 0]) / 1e9
    dirty = seen.counts[:, 0]
    found: list[Period | None] = []
    for column in SHAPES:
        share = seen.counts[:, column] / np.maximum(dirty, 1)
        share[dirty == 0] = share[dirty > 0].mean()
        if share.std() >= SHAPE_SWING:
            found.append(find_period(share, starts_s, ends_s))
    return max((p for p in found if p), key=lambda period: period.correlation, default=None)


def _set_period(case: Case) -> Period | None:
    """Of which pages are dirty: two intervals have many in common, then few, then many again."""
    n = case.n
    common = set_overlap(case.past, n)[1 : n // 2 + 2]
    apart = np.flatnonzero(common < 0.6 * common[0])
    if apart.size == 0 or common[0] < LEAST_PAGES:
        return None
    rest = common[apart[0] :]
    at = int(apart[0]) + int(np.argmax(rest >= 0.9 * rest.max()))
    while at + 1 < common.size and common[at + 1] > common[at]:
        at += 1
    if common[at] < 0.8 * common[0] or at + 1 == common.size:
        return None
    step_s = float(np.diff(case.seen.times_ns[-n:, 1]).mean()) / 1e9
    return Period((at + 1) * step_s, float(common[at] / common.max()), n / (at + 1))


def _random(case: Case) -> _Ruling:
    """Writes without an order: the law that explains best how often pages were dirty."""
    often = _without_the_programs_own(np.bitwise_count(case.past[case.past != 0]), case)
    fits = fit(often, case.lengths_s, case.evidence.distinct_pages)
    two, scale = fits.two_rates, min(often.size, ENOUGH_PAGES)
    stretch = densest_stretch(case.past, case.places)
    stretched = stretch.nats * scale / often.size - STRETCH_NATS
    costs = {
        Kind.UNIFORM: fits.one * scale,
        Kind.ZIPF: fits.power * scale + PARAMETER_NATS,
        Kind.MIXED: MISFIT_NATS * scale / ENOUGH_PAGES + 2 * PARAMETER_NATS,
    }
    hot = (0.0, 0.0)
    if _is_hot(two.hot_pages, 1.0 if two.always else two.hot_writes, two.ratio):
        costs[Kind.HOTSET] = fits.two * scale + PARAMETER_NATS
        hot = (two.hot_pages, two.hot_writes)
    ratio = stretch.dirty / stretch.pages * (1 - stretch.pages) / max(1 - stretch.dirty, 1e-9)
    if stretched > 0 and _is_hot(stretch.pages, stretch.dirty, ratio):
        if costs[Kind.UNIFORM] < costs.get(Kind.HOTSET, math.inf):
            costs[Kind.HOTSET] = costs[Kind.UNIFORM]
            hot = (stretch.pages, stretch.dirty)
        costs[Kind.UNIFORM] += stretched
    best = min(costs, key=costs.__getitem__)
    total = sum(math.exp((costs[best] - cost) / TEMPER) for cost in costs.values())
    tried = float(often.sum(dtype=np.int64)) - often.size + often.size / PAGES_A_RETURN
    sure = tried / (tried + RETURNS) if best is Kind.UNIFORM else 1.0
    evidence = replace(
        case.evidence,
        misfit_uniform=fits.one,
        misfit_hotset=fits.two,
        misfit_zipf=fits.power,
        hot_pages=hot[0],
        hot_writes=hot[1],
    )
    return best, sure * _steadiness(case) / total, evidence


def _without_the_programs_own(often: npt.NDArray[np.uint8], case: Case) -> npt.NDArray[np.uint8]:
    """A few pages that are always dirty are a stack and some counters, and no pattern of a VM."""
    is_always = often == case.lengths_s.size
    n_always = int(np.count_nonzero(is_always))
    if 0 < n_always <= MOST_OWN_PAGES and often.size >= ENOUGH_PAGES:
        others: npt.NDArray[np.uint8] = often[~is_always]
        return others
    return often


def _steadiness(case: Case, shapes: tuple[int, ...] = SHAPES) -> float:
    """1, or less if the volume or a shape changes by far more than chance makes it."""
    first = 1 if case.n == case.seen.counts.shape[0] else 0  # which had nothing to redirty
    counts, lengths_s = case.counts[first:], case.lengths_s[first:]
    dirty = np.maximum(counts[:, 0].astype(np.float64), 1.0)
    rate, mean = dirty / lengths_s, float(dirty.mean())
    steady = rate.std() <= max(VOLUME_SWING, 3 / math.sqrt(mean)) * rate.mean()
    for column in shapes:
        share = counts[:, column] / dirty
        by_chance = math.sqrt(float(share.mean() * max(0.0, 1 - share.mean())) / mean)
        steady = steady and share.std() <= max(SHAPE_SWING, 3 * by_chance)
    return 1.0 if steady else case.n / (case.n + UNSTEADY_INTERVALS)


def _is_hot(pages: float, writes: float, ratio: float) -> bool:
    return pages <= MOST_HOT_PAGES and writes >= LEAST_HOT_WRITES and ratio >= LEAST_RATIO


_RULES: tuple[Callable[[Case], _Ruling | None], ...] = (
    _never_active,
    _phases_of_volume,
    _idle,
    _in_few_groups,
    _too_few_pages,
    _saturated,
    _sweep,
    _phases,
    _partly_sweep,
    _random,
)
"""A sweep comes before phases of shape, as its runs come and go with its turns; those come before a
mixture, as kinds that take turns are no mixture.
"""
