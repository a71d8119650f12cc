"""The library itself, as its users call it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from mempattern import (
    DirtyHistory,
    DistinctPages,
    GroupStats,
    Interval,
    Provenance,
    Region,
    bitmaps,
    group_counts,
)
from mempattern.trace import TraceReader, TraceWriter
from peers.work import (
    DURATION_S,
    GROUP_PAGES,
    HALF_LIFE_S,
    HOT_FROM,
    HOT_OF,
    N_WINDOWED,
    Case,
    Run,
    Scratch,
    first,
)

FROM_PROVENANCE = Provenance("bench")


def ram(case: Case) -> Region:
    return Region("ram", case.n_pages)


def counts(case: Case) -> Run:
    turn, into = itertools.cycle(case.bitmaps), np.zeros(case.n_groups, np.uint32)
    return lambda: group_counts(next(turn), case.n_pages, GROUP_PAGES, out=into)


def _update(case: Case) -> tuple[GroupStats, Run]:
    stats = GroupStats([ram(case)], GROUP_PAGES, half_life_s=HALF_LIFE_S)
    turn = itertools.cycle(case.bitmaps)
    return stats, lambda: stats.update({"ram": next(turn)}, DURATION_S)


def overlap(case: Case) -> Run:
    turn, ever = itertools.cycle(case.bitmaps), np.zeros(case.n_words, np.uint64)
    last = [np.zeros(case.n_words, np.uint64)]

    def run() -> tuple[int, ...]:
        words = next(turn)
        seen = bitmaps.seen(words, case.n_pages, previous=last[0], ever=ever)
        last[0] = words
        return seen.dirty_pages, seen.redirtied_pages, seen.fresh_pages

    return run


def runs(case: Case) -> Run:
    turn = itertools.cycle(case.bitmaps)
    return lambda: bitmaps.seen(next(turn), case.n_pages).runs


def update(case: Case) -> Run:
    stats, update = _update(case)
    groups = stats.groups("ram")
    arrays = (
        groups.dirty, groups.redirtied, groups.fresh, groups.touched, groups.active_intervals,
        groups.streak, groups.last_active, groups.dirty_total, lambda: groups.write_rate,
    )  # fmt: skip

    def run() -> tuple[Any, ...]:
        seen = update()
        return (
            (seen.dirty_pages, seen.redirtied_pages, seen.fresh_pages, seen.active_groups,
             seen.runs),
            *arrays,
        )  # fmt: skip

    return run


ONE_GROUP = 2**32 - 64
"""Pages in a group of which no region here has two: for who does not want groups."""


def _windows(case: Case, group_pages: int) -> tuple[DistinctPages, Run]:
    """All intervals at once, as the peers get them."""
    distinct = DistinctPages([ram(case)], group_pages)
    intervals = intervals_of(Case(tuple(first(N_WINDOWED, case.bitmaps))))

    def run() -> None:
        distinct.break_off()
        distinct.update_all(intervals)

    return distinct, run


def windows(case: Case) -> Run:
    distinct, count = _windows(case, ONE_GROUP)

    def run() -> list[float]:
        count()
        return [window.pages for window in distinct.windows()]

    return run


def group_windows(case: Case) -> Run:
    """The deviations found are of as many windows as were counted; the first call's are meant."""
    distinct, count = _windows(case, GROUP_PAGES)

    def run() -> Any:
        count()
        return lambda: (distinct.groups("ram").pages, distinct.groups("ram").std)

    return run


def hot(case: Case) -> Run:
    history = DirtyHistory([ram(case)], HOT_OF)
    for words in first(HOT_OF, case.bitmaps):
        history.update({"ram": words})
    return lambda: history.hot_pages(HOT_FROM)["ram"]


def intervals_of(case: Case) -> list[Interval]:
    region, step_ns = ram(case), round(DURATION_S * 1e9)
    return [
        Interval(n, n * step_ns, (n + 1) * step_ns, (region,), {"ram": words}, FROM_PROVENANCE)
        for n, words in enumerate(case.bitmaps)
    ]


def pages(case: Case) -> Run:
    turn = itertools.cycle(intervals_of(case))
    return lambda: next(turn).pages("ram")


def trace_write(case: Case) -> Run:
    """Safe on the disk, by a thread of its own, which commits together what waits."""
    intervals, file = intervals_of(case), Scratch()

    def run() -> Run:
        _write(intervals, file.path)
        return lambda: _read(file.path)

    return run


def trace_read(case: Case) -> Run:
    file = Scratch()
    _write(intervals_of(case), file.path)
    return lambda: _read(file.path)


def _write(intervals: list[Interval], path: Path) -> None:
    with TraceWriter(path, intervals[0].regions, FROM_PROVENANCE, force=True) as writer:
        for interval in intervals:
            writer.write(interval)
    if writer.dropped:
        raise RuntimeError("intervals were dropped: the disk is too slow for this case")


def _read(path: Path) -> list[Any]:
    with TraceReader(path) as trace:
        return [interval.bitmaps["ram"] for interval in trace]
