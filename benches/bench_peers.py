"""The library against its peers (peers/), on the corpus and on guests tiled of it (tiles.py).

On the largest guest only the main rows: the others would take many GiB, or minutes.
"""

from __future__ import annotations

import functools
import time
from statistics import median

import peers
import pytest
import tiles
from conftest import Peer, keep
from peers.work import MAIN, N_WINDOWED, WORK, Case, Run

CLASSES = ("dense", "sparse", "clustered")
AS_THEY_ARE = "corpus"
GIB = {"64GiB": 64, "4TiB": 4096}
IN_TURN = {"64GiB": N_WINDOWED, "4TiB": 3}
"""Different intervals: twelve of the largest would take many GiB in all the peers' forms."""
BUDGET_S = 1.2
"""For the rounds of a row, of which there are three at least."""
PATIENCE_S = 0.2
"""A peer that takes longer for one call is timed once."""
MOST_ROUNDS = 40
FROM_PYTHON, FROM_LIMIT = 10.0, 0.8

ROWS = [
    pytest.param(work, AS_THEY_ARE, "all", id=f"{work}-{AS_THEY_ARE}") for work in WORK
] + [
    pytest.param(work, size, kind, id=f"{work}-{size}-{kind}")
    for size in GIB
    for kind in CLASSES
    for work in (WORK if size == "64GiB" else MAIN)
]  # fmt: skip


@functools.lru_cache(maxsize=1)  # work on the same bitmaps follows one another
def cases_of(size: str, kind: str) -> list[Case]:
    traces = tiles.corpus()
    if size == AS_THEY_ARE:
        return tiles.as_they_are(traces)
    return [tiles.tiled(tiles.classes(traces)[kind], GIB[size], IN_TURN[size])]


def together(runs: list[Run]) -> Run:
    if len(runs) == 1:
        return runs[0]

    def run() -> None:
        for one in runs:
            one()

    return run


def goal(work: str, name: str) -> float | None:
    if name == peers.LIMIT:
        return FROM_LIMIT if work in MAIN else None
    return FROM_PYTHON if work in MAIN and name in peers.PYTHON else 1.0


@pytest.mark.parametrize(("work", "size", "kind"), ROWS)
def bench_peers(against, benchmark, work, size, kind):
    cases = cases_of(size, kind)
    prepared = {name: list(map(prepare, cases)) for name, prepare in peers.doing(work)}
    # In the first call no page is redirtied, and all are fresh. Our deviations by group are over
    # all calls so far.
    for _ in range(1 if work == "group_windows" else 3):
        wanted = [run() for run in prepared[peers.OURS]]
        for name, runs in prepared.items():
            for run, found in zip(runs, wanted, strict=True):
                if name == peers.LIMIT:
                    run()
                elif name != peers.OURS:
                    assert peers.same(run(), found), f"{name} finds something else than ours"
        del wanted
    runs = {name: together(each) for name, each in prepared.items()}
    trial_s = {name: clocked(run) for name, run in runs.items()}
    ours = runs.pop(peers.OURS)
    quick = [Peer(n, runs[n], goal(work, n)) for n in runs if trial_s[n] <= PATIENCE_S]
    round_s = 2 * (trial_s[peers.OURS] + sum(trial_s[peer.name] for peer in quick))
    against(ours, quick, rounds=max(3, min(MOST_ROUNDS, int(BUDGET_S / round_s) - 3)))

    mine_s = benchmark.stats.stats.data
    keep(benchmark, peers.OURS, [1e3 * s for s in mine_s], unit=" ms")
    for name in runs:
        if trial_s[name] > PATIENCE_S:
            keep(benchmark, name, [trial_s[name] / median(mine_s)], at_least=goal(work, name))
    traces = tiles.corpus()
    benchmark.extra_info |= {
        "missing": peers.missing(),
        "patience_s": PATIENCE_S,
        "n_traces": len(traces),
        "classes": {kind: trace.name for kind, trace in tiles.classes(traces).items()},
    }


def clocked(run: Run) -> float:
    start = time.perf_counter()
    found = run()
    taken_s = time.perf_counter() - start
    del found
    return taken_s
