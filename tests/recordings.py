"""Synthetic recordings: which pages each interval has, as bool arrays of one region."""

import itertools

import numpy as np
from model import to_words

from mempattern import Interval, Provenance, Region
from mempattern.migration.recording import Recording

PROVENANCE = Provenance("synthetic")


def intervals(rows, durations_s=0.1, *, gaps_s=0.0, lost_pages=0):
    """One interval for each row: pages of the region "ram"; `gaps_s` lie before each but the first.

    Durations and gaps are one number, or one for each.
    """
    made, now = [], 10**9
    for number, (pages, duration, gap) in enumerate(
        zip(rows, _each(durations_s), _each(gaps_s), strict=False)
    ):
        region = Region("ram", len(pages))
        start = now + (round(gap * 1e9) if number else 0)
        now = start + round(duration * 1e9)
        words = {"ram": to_words(np.asarray(pages))}
        made.append(Interval(number, start, now, (region,), words, PROVENANCE, lost_pages))
    return made


def record(rows, durations_s=0.1, **options):
    return Recording(intervals(rows, durations_s, **options))


def _each(numbers):
    return itertools.repeat(numbers) if isinstance(numbers, (int, float)) else numbers


# ---- workloads: rows of n_intervals intervals ---------------------------------------------------


def idle(n_pages, n_intervals):
    return np.zeros((n_intervals, n_pages), bool)


def hot(n_pages, n_intervals, n_hot, first=0):
    """The same pages in every interval."""
    rows = idle(n_pages, n_intervals)
    rows[:, first : first + n_hot] = True
    return rows


def sweep(n_pages, n_intervals, pages_per_interval, n_swept=None):
    """One page after the other, from the start again after `n_swept`."""
    rows = idle(n_pages, n_intervals)
    for number, row in enumerate(rows):
        at = np.arange(number * pages_per_interval, (number + 1) * pages_per_interval)
        row[at % (n_swept or n_pages)] = True
    return rows


def uniform(n_pages, n_intervals, writes_per_interval, seed=0, n_written=None):
    """So many writes at random, each to any of the first `n_written` pages."""
    rng = np.random.default_rng(seed)
    rows = idle(n_pages, n_intervals)
    for row in rows:
        row[rng.integers(n_written or n_pages, size=rng.poisson(writes_per_interval))] = True
    return rows


def square_wave(n_pages, n_intervals, half_period, n_hot):
    """Half a period of intervals hot, half a period idle."""
    rows = hot(n_pages, n_intervals, n_hot)
    rows[np.arange(n_intervals) // half_period % 2 == 1] = False
    return rows
