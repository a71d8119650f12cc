"""MP's verdicts on recorded migrations, and how they change with each of its parameters.

python benches/classify_choice.py > docs/classify-results.md

Reads what migration_run.py recorded. The truth is whether stock QEMU completed. Each recording kept
for choosing also gives migrations over other links and limits, replayed by the simulator, a third
of which do not complete, and with these the table of how the verdicts change with each parameter.
The recordings kept for judging are judged only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from migration_data import Run as Recorded
from migration_data import read as read_recorded
from migration_data import unpacked

from mempattern import GroupStats, Interval
from mempattern.classify import MP, Verdict
from mempattern.migration.policies import Action, Pass, Stock
from mempattern.migration.precopy import precopy
from mempattern.migration.recording import Recording
from mempattern.migration.replayed import ReplayedMemory
from mempattern.migration.zeros import zeros_by_group

MOST_WRONG = 8
LOOK_AT = 3
"""Iterations: by the end of the third there is a verdict."""

VARIED: dict[str, tuple[float, ...]] = {
    "shortest_pass_s": (0.025, 0.05, 0.1),
    "evenness": (0.1, 0.25, 0.5, 1, 4),
    "tolerance": (0.025, 0.05, 0.1, 0.2, 0.4),
    "trough_tolerance": (1.2, 2, 4, 8),
    "half_life_s": (3, 10, 30),
    "certainty": (0.8, 0.9, 0.95, 0.99),
    "patience": (2, 3),
}


LOADS = (0.4, 0.7, 0.9, 1.1, 1.4, 2, 4, 10)
"""Bytes written in short intervals over what the link carries in them, where it is replayed."""
LIMITS_S = (0.1, 0.3, 1.0)
LONGEST_S = 60.0
"""First pass of a replay."""
PATIENCE_S = 60.0
"""Of a replay, after its first pass. What has not completed then does not."""

Short = tuple[float, int]
"""One of the shorter intervals that an iteration is put together from: seconds and dirty bytes."""


@dataclass(frozen=True)
class Run:
    """One migration: its first iterations, and the shorter intervals of each."""

    name: str
    bandwidth_Bps: float
    limit_s: float
    completed: bool
    iterations: list[tuple[Interval, list[Short]]]


def short(interval: Interval) -> Short:
    return interval.duration_s, dirty_bytes(interval)


def together(intervals: list[Interval]) -> Interval:
    """One interval of several that follow each other: what any of them saw."""
    first, last = intervals[0], intervals[-1]
    bitmaps = {
        region.name: np.bitwise_or.reduce([part.bitmaps[region.name] for part in intervals])
        for region in last.regions
    }
    lost_pages = sum(part.lost_pages for part in intervals)
    return Interval(
        first.index, first.start_ns, last.end_ns, last.regions, bitmaps, last.provenance, lost_pages
    )


def read(path: Path) -> tuple[Run, Callable[[], Iterator[Run]]]:
    """The recorded migration, and what gives its replays.

    A pass ends with the first collection after QEMU tells of it. The last one of a migration that
    completed is with the guest stopped, and no iteration of ours.
    """
    recorded = read_recorded(path)
    edges = [told["ns"] for told in recorded.passes]
    if recorded.completed and len(edges) > 2:
        edges.pop()
    parts: list[list[Interval]] = [[]]
    for interval in (*recorded.before, *recorded.during):
        parts[-1].append(interval)
        while edges and interval.end_ns >= edges[0]:
            edges.pop(0)
            parts.append([])
    parts.pop()  # what comes after the last edge is no whole pass
    run = Run(
        f"{path.stem} ({recorded.case.command_line})",
        recorded.case.bandwidth_Bps,
        recorded.limit_s,
        recorded.completed,
        [
            (together(part), [short(interval) for interval in part])
            for part in parts[1 : LOOK_AT + 1]
            if part
        ],
    )
    running = [interval for part in parts for interval in part]
    return run, partial(replays, run.name, running, recorded)


class Watching(Stock):
    """Stock QEMU, of which the first iterations are noted."""

    def __init__(self) -> None:
        self.iterations: list[tuple[Interval, list[Short]]] = []
        self._seen: list[Short] = []
        self._until_s = math.inf

    def watch(self, interval: Interval) -> None:
        self._seen.append(short(interval))

    def after(self, done: Pass) -> Action:
        found = done.found() if len(self.iterations) < LOOK_AT else None
        if found is not None:
            self.iterations.append((found, self._seen))
        self._seen = []
        self._until_s = min(self._until_s, done.at_s + PATIENCE_S)
        ends = done.pending_bytes < done.bandwidth_Bps * done.limit_s
        return Action(give_up=not ends and done.at_s > self._until_s)


def replays(name: str, intervals: list[Interval], recorded: Recorded) -> Iterator[Run]:
    recording = Recording(intervals)
    zeros = zeros_by_group(Recording(recorded.before), recorded.nonzero_pages)
    memory = ReplayedMemory(recording, [0.0], zeros, chunk_pages=recorded.chunk_pages)
    written_Bps = sum(map(dirty_bytes, intervals)) / recording.duration_s
    for load in LOADS:
        bandwidth_Bps = written_Bps / load
        if sum(map(sum, recorded.nonzero_pages)) * recording.page_bytes > LONGEST_S * bandwidth_Bps:
            continue
        for limit_s in LIMITS_S:
            noted = Watching()
            course = precopy(memory, bandwidth_Bps, limit_s, policy=noted)
            about = f"{name} load {load} limit {limit_s} s"
            yield Run(about, bandwidth_Bps, limit_s, course.converged, noted.iterations)


def dirty_bytes(interval: Interval) -> int:
    return sum(
        int(np.bitwise_count(interval.bitmaps[region.name]).sum()) * region.page_bytes
        for region in interval.regions
    )


def verdicts(run: Run, watching: bool, **parameters: Any) -> list[Verdict]:
    """After each of the first iterations."""
    mp = MP(run.bandwidth_Bps, run.limit_s, **parameters)
    stats = GroupStats(run.iterations[0][0].regions)
    said = []
    for iteration, parts in run.iterations:
        for duration_s, dirty in parts if watching else ():
            mp.watch(duration_s, dirty)
        stats.update(iteration)
        said.append(mp.observe(stats, iteration))
    return said


@dataclass(frozen=True)
class Score:
    """Of all runs: how often each verdict was given to each truth by the end of an iteration."""

    by_iteration: list[Counter[tuple[bool, bool | None]]]
    log_loss: float
    """Mean of -log(probability given to the truth) over all verdicts: 0 is perfect, 0.69 a coin."""
    wrong: list[str]

    @classmethod
    def of(cls, runs: list[Run], watching: bool, **parameters: Any) -> Score:
        counts: list[Counter[tuple[bool, bool | None]]] = [Counter() for _ in range(LOOK_AT)]
        losses, wrong = [], []
        for run in runs:
            said = verdicts(run, watching, **parameters)
            for number, counter in enumerate(counts):
                verdict = said[min(number, len(said) - 1)]  # what ended keeps its last verdict
                counter[run.completed, verdict.memory_intensive] += 1
            losses += [-math.log(max(chance(run, verdict), 1e-3)) for verdict in said]
            if said[-1].memory_intensive in (None, run.completed):
                wrong.append(f"{run.name}: {said[-1].sentence}")
        return cls(counts, float(np.mean(losses)), wrong)

    def missed(self, number: int) -> int:
        return self.by_iteration[number - 1][False, False]

    def false_alarms(self, number: int) -> int:
        return self.by_iteration[number - 1][True, True]

    def unknown(self, number: int) -> int:
        counter = self.by_iteration[number - 1]
        return counter[True, None] + counter[False, None]


def chance(run: Run, verdict: Verdict) -> float:
    """The probability that the verdict gives to the truth."""
    return 1 - verdict.probability if run.completed else verdict.probability


def matrix(score: Score) -> Iterator[str]:
    yield "| by iteration | stock QEMU | memory intensive | not | not known yet |"
    yield "|---|---|---|---|---|"
    for number, counter in enumerate(score.by_iteration, 1):
        for completed, truth in ((False, "does not complete"), (True, "completes")):
            row = " | ".join(str(counter[completed, said]) for said in (True, False, None))
            yield f"| {number} | {truth} | {row} |"


def sensitivity(runs: list[Run]) -> Iterator[str]:
    """One parameter changed at a time: from iterations alone, and watching."""
    yield "| parameter | value | missed | false alarms | not known after 2 | log loss |"
    yield "|---|---|---|---|---|---|"
    for name, values in VARIED.items():
        for value in values:
            scores = [Score.of(runs, watching, **{name: value}) for watching in (False, True)]
            columns = (
                [score.missed(LOOK_AT) for score in scores],
                [score.false_alarms(LOOK_AT) for score in scores],
                [score.unknown(2) for score in scores],
                [f"{score.log_loss:.3f}" for score in scores],
            )
            numbers = " | ".join(f"{alone}, {watched}" for alone, watched in columns)
            yield f"| `{name}` | {value:g} | {numbers} |"


def report(runs: list[Run], heading: str) -> None:
    completed = sum(run.completed for run in runs)
    print(f"\n## {heading}: {len(runs)} migrations, of which {completed} complete")
    for watching, how in ((False, "From iterations alone"), (True, "Watching within the passes")):
        score = Score.of(runs, watching)
        print(f"\n### {how}\n\nLog loss {score.log_loss:.3f}.\n", *matrix(score), sep="\n")
        print("\nWrong after the last of them:\n")
        print(*(f"- {one}" for one in score.wrong[:MOST_WRONG]), sep="\n")
        if len(score.wrong) > MOST_WRONG:
            print(f"- and {len(score.wrong) - MOST_WRONG} more")


def main() -> None:
    print("# MP against real QEMU migrations\n")
    print("<!-- Made by benches/classify_choice.py; do not edit. -->\n")
    print("How these were made: [forecast.md](forecast.md). MP: [classify.md](classify.md).")
    judged = [read(path)[0] for path in sorted(unpacked("held").glob("*.json"))]
    report([run for run in judged if run.iterations], "Not looked at before")
    chosen_by = [read(path) for path in sorted(unpacked("dev").glob("*.json"))]
    report([run for run, _ in chosen_by if run.iterations], "Looked at while choosing")
    replayed = [run for _, replays_of in chosen_by for run in replays_of()]
    report(replayed, "The same, replayed over other links and limits")
    print("\n### Sensitivity\n\nOf these replays; from iterations alone, and watching.\n")
    print(*sensitivity(replayed), sep="\n")


if __name__ == "__main__":
    main()
