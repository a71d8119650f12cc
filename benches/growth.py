"""How the cost grows with the work, as raw values: python benches/growth.py RESULTS.json

Time by guest size, by share of dirty pages, by group size and by threads, on the corpus tiled to a
guest (tiles.py); memory by feature. growth_report.py makes a page of it, docs/draw_growth.py
pictures.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import machine
import numpy as np
import tiles
from peers import limits, ours
from peers.work import DURATION_S, GROUP_PAGES, HOT_OF, N_WINDOWED, Case, Run

from mempattern import DirtyHistory, DistinctPages, GroupStats, Region

GIB = (1, 4, 16, 64, 256, 1024, 4096)
IN_TURN = 3
"""Different intervals, at every size."""
WORK: dict[str, tuple[Callable[[Case], Run], int]] = {
    "counts": (ours.counts, 1),
    "update": (ours.update, 1),
    "windows": (ours.group_windows, N_WINDOWED),
    "hot pages": (ours.hot, HOT_OF),
    "reading the bitmap": (limits.counts, 1),
}
"""What prepares each, and how many intervals one call takes."""
MIDDLE_GIB = 64
SHARES = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5)
GROUPS = tuple(64 << n for n in range(10))
LARGE_GIB = 256
MEMORY_GIB = 1024  # where a huge page more or less does not count
UPDATES = 20
"""Of each thread, a round."""
MANY_INTERVALS = 1000
ROUNDS, LEAST_ROUNDS, BUDGET_S = 25, 5, 1.5
Rows = Iterator[dict[str, Any]]


def rounds_s(run: Run, rounds: int = ROUNDS) -> list[float]:
    """Seconds of each call, after two that warm up; fewer rounds where they take long."""
    run()
    run()
    taken: list[float] = []
    while len(taken) < rounds and (len(taken) < LEAST_ROUNDS or sum(taken) < BUDGET_S):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return [float(f"{seconds:.5g}") for seconds in taken]


def guests(gib: float) -> Iterator[tuple[str, Case]]:
    for kind, trace in tiles.classes(tiles.corpus()).items():
        yield kind, tiles.tiled(trace, gib, IN_TURN)


def by_size(sizes_gib: tuple[float, ...] = GIB) -> Rows:
    for gib in sizes_gib:
        for kind, case in guests(gib):
            for work, (prepare, n_intervals) in WORK.items():
                taken = rounds_s(prepare(case))
                yield {"work": work, "kind": kind, "gib": gib, "n_intervals": n_intervals,
                       "seconds": taken}  # fmt: skip


def scattered(share: float, n_words: int) -> Case:
    """Pages anywhere, so many that this share is dirty, or a little less."""
    rng, n_pages = np.random.default_rng(1), 64 * n_words
    bitmaps = []
    for _ in range(IN_TURN):
        words = np.zeros(n_words, np.uint64)
        if share == 0.5:
            words[:] = rng.integers(0, 2**64, n_words, dtype=np.uint64)
        else:
            pages = rng.integers(0, n_pages, int(share * n_pages))
            np.bitwise_or.at(words, pages >> 6, np.uint64(1) << (pages & 63).astype(np.uint64))
        bitmaps.append(words)
    return Case(tuple(bitmaps))


def dirty_share(case: Case) -> float:
    return float(np.mean([np.bitwise_count(words).mean() / 64 for words in case.bitmaps]))


def by_density(gib: float = MIDDLE_GIB) -> Rows:
    """An update, of every trace of the corpus and of pages anywhere."""
    for trace in tiles.corpus():
        case = tiles.tiled(trace, gib, IN_TURN)
        yield {"name": trace.name, "share": dirty_share(case), "active": case.active_share,
               "seconds": rounds_s(ours.update(case))}  # fmt: skip
    for share in SHARES:
        case = scattered(share, int(gib * tiles.GIB_WORDS))
        yield {"name": None, "share": dirty_share(case), "active": case.active_share,
               "seconds": rounds_s(ours.update(case))}  # fmt: skip


def updating(case: Case, group_pages: int) -> Run:
    stats = GroupStats([Region("ram", case.n_pages)], group_pages)
    turn = itertools.cycle(case.bitmaps)
    return lambda: stats.update({"ram": next(turn)}, DURATION_S)


def by_group(gib: float = MIDDLE_GIB) -> Rows:
    for kind, case in guests(gib):
        for group_pages in GROUPS:
            yield {"kind": kind, "group_pages": group_pages,
                   "seconds": rounds_s(updating(case, group_pages))}  # fmt: skip


def by_threads(gib: float = LARGE_GIB, most: int | None = None, rounds: int = ROUNDS) -> Rows:
    """Each thread updates a region of its own. All numbers of threads take turns."""
    numbers = range(1, (most or len(os.sched_getaffinity(0))) + 1)
    with ThreadPoolExecutor(numbers[-1]) as pool:
        for kind, case in guests(gib):
            regions = [updating(case, GROUP_PAGES) for _ in numbers]
            taken: dict[int, list[float]] = {n: [] for n in numbers}
            for number in range(rounds + 1):  # the first warms up
                for n in numbers:
                    start = time.perf_counter()
                    list(pool.map(_update_often, regions[:n]))
                    if number:
                        taken[n].append(time.perf_counter() - start)
            for n, seconds in taken.items():
                yield {"kind": kind, "threads": n, "gib": gib, "n_updates": UPDATES,
                       "seconds": seconds}  # fmt: skip


def _update_often(update: Run) -> None:
    for _ in range(UPDATES):
        update()


def memory(gib: float = MEMORY_GIB, many: int = MANY_INTERVALS) -> Rows:
    """Of each feature, after some intervals: what is reserved, and what is backed by memory."""
    for kind, case in guests(gib):
        for row in _memory_of(case, many):
            yield {"kind": kind, "n_pages": case.n_pages, **row}


def _memory_of(case: Case, many: int) -> Rows:
    region, before = Region("ram", case.n_pages), machine.resident_bytes()

    def row(feature: str, n_bytes: int) -> dict[str, Any]:
        return {"feature": feature, "reserved_bytes": n_bytes,
                "backed_bytes": max(0, machine.resident_bytes() - before)}  # fmt: skip

    stats = GroupStats([region], GROUP_PAGES)
    _feed(stats, case, N_WINDOWED)
    yield row("GroupStats", stats.n_bytes)
    del stats

    history = DirtyHistory([region], HOT_OF)
    stats = GroupStats([region], GROUP_PAGES, history=history)
    _feed(stats, case, 2 * HOT_OF)
    yield row(f"GroupStats, history of {HOT_OF}", stats.n_bytes + history.n_bytes)
    del stats, history

    distinct = DistinctPages([region], GROUP_PAGES)
    _feed(distinct, case, N_WINDOWED)
    yield row(f"DistinctPages, {N_WINDOWED} intervals", distinct.n_bytes)
    _feed(distinct, case, many - N_WINDOWED)
    yield row(f"DistinctPages, {many} intervals", distinct.n_bytes)


def _feed(to: Any, case: Case, n_intervals: int) -> None:
    for words in itertools.islice(itertools.cycle(case.bitmaps), n_intervals):
        to.update({"ram": words}, DURATION_S)


def main(results: Path) -> None:
    traces = {kind: trace.name for kind, trace in tiles.classes(tiles.corpus()).items()}
    found: dict[str, Any] = {
        "machine_info": machine.info(),
        "classes": traces,
        "middle_gib": MIDDLE_GIB,
    }
    # The memory first, while nothing freed is kept.
    for measure in (memory, by_size, by_density, by_group, by_threads):
        print(measure.__name__, flush=True)
        found[measure.__name__] = list(measure())
    results.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
