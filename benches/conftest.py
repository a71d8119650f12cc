"""How the benches measure: ours against peers, in turn, in one run.

Before each timed round of ours every peer is timed once. Each, as ours, has an untimed call of its
own first, which warms the caches for it, and then finds new input, as a source leaves it. So a
round compares things measured in the same state and within milliseconds of each other, and the
drift of a shared machine falls out of the ratio. The table at the end has the median of the rounds'
ratios, the quartiles, and the goal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import compiled
import machine
import pytest
from peers_table import is_of_peers, peers_lines
from table import rows_of, text_lines

_DECLARATIONS = """
    uint64_t limit_read(const uint64_t *words, size_t n);
    void limit_move(const uint64_t *cur, const uint64_t *prev, uint64_t *next, uint64_t *ever,
                    uint64_t *groups, size_t n);
    void bench_publish(void *entries, const uint64_t *pages, uint32_t n_entries);
    uint32_t bench_harvest(void *entries, uint32_t n_entries, uint64_t *bitmap, uint64_t n_pages);
"""


@dataclass(frozen=True)
class Peer:
    """Something that does the same work, or less of it, and the speed we want against it."""

    name: str
    run: Callable[[], Any]
    at_least: float | None = None
    """Its time divided by ours."""


def timed(run: Callable[[], Any], before: Callable[[], Any]) -> float:
    run()
    before()
    start = time.perf_counter()
    found = run()  # kept until the clock was read: what it found is not freed within
    taken_s = time.perf_counter() - start
    del found
    return taken_s


@pytest.fixture
def against(benchmark):
    """against(ours, peers, rounds, before): time them in turn and keep the ratios.

    `before` makes new input, ahead of each timed call.
    """

    def measure(ours, peers, rounds=60, before=lambda: None):
        times: dict[str, list[float]] = {peer.name: [] for peer in peers}

        def setup():
            for peer in peers:
                times[peer.name].append(timed(peer.run, before))
            ours()
            before()

        benchmark.pedantic(ours, setup=setup, rounds=rounds, warmup_rounds=3)
        mine = benchmark.stats.stats.data
        for peer in peers:
            theirs = times[peer.name][-len(mine) :]
            ratios = [their / my for their, my in zip(theirs, mine, strict=True)]
            keep(benchmark, peer.name, ratios, at_least=peer.at_least)

    return measure


def keep(benchmark, against, values, *, at_least=None, at_most=None, unit="x"):
    """Remember one row of the table: its values, one a round, and the goal."""
    benchmark.extra_info.setdefault("rows", []).append(
        {
            "against": against,
            "values": [float(f"{value:.5g}") for value in values],
            "unit": unit,
            "at_least": at_least,
            "at_most": at_most,
        }
    )


@pytest.fixture(scope="session")
def native():
    """(ffi, lib): the limits and the bare harvest, compiled here for this machine."""
    return compiled.load("benches", ["limits.c", "harvest.c"], _DECLARATIONS, ("pthread",))


def pytest_benchmark_update_machine_info(config, machine_info):
    told = machine.told(machine_info)
    machine_info.clear()
    machine_info.update(told)


def pytest_terminal_summary(terminalreporter, config):
    session = getattr(config, "_benchmarksession", None)
    if session is None:
        return
    found = [(bench.name, bench.extra_info) for bench in session.benchmarks]
    rows = [row for name, info in found if not is_of_peers(name) for row in rows_of(name, info)]
    terminalreporter.write_line("")
    for line in text_lines(rows) if rows else []:
        terminalreporter.write_line(line)
    terminalreporter.write_line("")
    for line in peers_lines(found):
        terminalreporter.write_line(line)
