"""How well the kinds of pattern are told, on workloads of the guest whose truth is known.

python benches/patterns_choice.py RESULTS.json     (patterns_report.py makes the page of it)

Two sets: what the thresholds were chosen on (design), and what they were judged on once chosen
(held-out), which draws from another seed and has other sizes, strides and hot sets. Each case draws
its pattern, its pages, rate, interval and number of intervals. What is told wrongly is printed.

The truth is the pattern, with these rules, made before any threshold was chosen:

- a pattern whose pages are, in the mean interval, 95 % of all it dirties in the last 64 intervals,
  is a hot set: that is what there is to see;
- `stride` is a sweep;
- two patterns at once are mixed if they lie in two regions, and each has a tenth of the dirty pages
  and is of another kind; or if they lie in one and one is a sweep, and the other is not;
- a phased pattern has two full periods at least, phases of two intervals or more, and 50 dirty
  pages in the mean interval.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from guest_steps import TRUTH, Phased, Steps
from model import to_words

from mempattern import GroupStats, Interval, Provenance, Region
from mempattern.classify import Kind, PatternDetector

N_CASES = 900
MOST_STEPS = 6e6
SETS = {
    "design": (1, lambda rng: 1 << int(rng.integers(10, 19)), (4, 64), (8, 8)),
    "held-out": (7, lambda rng: int(2 ** rng.uniform(10, 18)), (2, 1000), (5, 20)),
}
"""Seed, sizes, range of strides, range of size of the whole to that of the hot set."""


@dataclass
class Case:
    what: str
    sources: Sequence[tuple[str, Steps | Phased, float, int]]
    """Region, steps, steps a second, first page."""
    regions: tuple[Region, ...]
    durations_s: np.ndarray
    period_s: float | None = None


class Draw:
    """Draws one case."""

    def __init__(self, name: str, number: int) -> None:
        seed, size, self.strides, self.hots = SETS[name]
        self.rng = rng = np.random.default_rng([seed, number])
        self.n_pages, self.rate = size(rng), 10 ** rng.uniform(2, 5.3)
        self.mean_s = 10 ** rng.uniform(-1.3, 0)
        n = int(rng.choice([6, 10, 16, 32, 64, 100]))
        self.durations_s = self.mean_s * rng.uniform(0.9, 1.1, n)
        self.first = int(rng.integers(0, 3000))
        self.ram = Region("ram", self.n_pages + self.first + int(rng.integers(0, 3000)))

    def case(self) -> Case | None:
        """None if it would be unbounded, or has no room for phases."""
        if self.rate * self.durations_s.sum() > MOST_STEPS:
            return None
        what = str(self.rng.choice(["idle", *TRUTH, *TRUTH, "phased", "phased", "mixed", "mixed"]))
        if what == "phased":
            return self.phased()
        if what == "mixed":
            return self.mixed()
        rate = 0.3 if what == "idle" else self.rate
        steps = self.steps("uniform" if what == "idle" else what)
        return Case(what, [("ram", steps, rate, self.first)], (self.ram,), self.durations_s)

    def steps(self, pattern: str, n_pages: int | None = None, stream: int = 0) -> Steps:
        rng, n_pages = self.rng, n_pages or self.n_pages
        stride = min(int(np.exp(rng.uniform(*np.log(self.strides)))), n_pages // 4)
        hot = max(1, int(n_pages / rng.uniform(*self.hots)))
        seed = int(rng.integers(1 << 31))
        return Steps(pattern, n_pages, seed, stride=stride, hot=hot, stream=stream)

    def phased(self) -> Case | None:
        rng = self.rng
        patterns = rng.choice(["idle", "sweep", "hotset", "uniform", "zipf"], 2, replace=False)
        most = self.durations_s.size / 4.5
        if most < 2 or self.rate * self.mean_s < 100:
            return None
        phase = int(self.rate * self.mean_s * rng.uniform(2, most))
        one, other = (self.steps(p, stream=i) for i, p in enumerate(patterns))
        turns = Phased(one, other, phase)
        sources = [("ram", turns, self.rate, self.first)]
        what = "phased " + "/".join(sorted(patterns))
        return Case(what, sources, (self.ram,), self.durations_s, 2 * phase / self.rate)

    def mixed(self) -> Case:
        patterns = [str(p) for p in self.rng.choice(list(TRUTH), 2, replace=False)]
        what, rate = "mixed " + "/".join(sorted(patterns)), self.rate / 2
        if self.rng.random() < 0.5:
            regions = (Region("a", self.n_pages), Region("b", self.n_pages + 500))
            pairs = zip(patterns, regions, strict=True)
            sources = [(region.name, self.steps(p), rate, 0) for p, region in pairs]
            return Case(what + " in two regions", sources, regions, self.durations_s)
        half = self.n_pages // 2
        sources = [("ram", self.steps(p, half), rate, i * half) for i, p in enumerate(patterns)]
        return Case(what, sources, (self.ram,), self.durations_s)


def run(case: Case) -> tuple[Kind | None, PatternDetector]:
    """The truth, None if the rules do not give one, and the detector at the end."""
    stats = GroupStats(case.regions)
    detector = PatternDetector(stats)
    done, end_s, start_ns = [0] * len(case.sources), 0.0, 1
    dirty: list[list[np.ndarray]] = [[] for _ in case.sources]
    for index, duration_s in enumerate(case.durations_s):
        end_s += duration_s
        pages = {region.name: np.zeros(region.n_pages, bool) for region in case.regions}
        for i, (name, steps, rate, first) in enumerate(case.sources):
            taken = steps.take(int(end_s * rate) - done[i])
            done[i] += taken.size
            taken = np.unique(taken[taken >= 0]) + first
            pages[name][taken] = True
            dirty[i].append(taken)
        words = {name: to_words(bits) for name, bits in pages.items()}
        end_ns = 1 + int(end_s * 1e9)
        interval = Interval(index, start_ns, end_ns, case.regions, words, Provenance("guest"))
        start_ns = end_ns
        stats.update(interval)
        detector.observe(interval)
    return truth(case, dirty), detector


def truth(case: Case, dirty: list[list[np.ndarray]]) -> Kind | None:
    what, *rest = case.what.split(" ")
    if what == "idle":
        return Kind.IDLE
    if what == "phased":
        n_dirty = np.mean([pages.size for pages in dirty[0]])
        return Kind.PHASED if n_dirty >= 50 else None
    kinds = []
    patterns = (
        [what]
        if what in TRUTH
        else [s.pattern for _, s, _, _ in case.sources if isinstance(s, Steps)]
    )
    for pattern, intervals in zip(patterns, dirty, strict=True):
        last = intervals[-64:]
        distinct = np.unique(np.concatenate(last)).size
        saturated = np.mean([pages.size for pages in last]) >= 0.95 * distinct
        kinds.append(Kind.HOTSET if saturated else TRUTH[pattern])
    if len(kinds) == 1:
        return kinds[0]
    volume = [sum(pages.size for pages in intervals[-64:]) for intervals in dirty]
    if kinds[0] == kinds[1] or min(volume) < 0.1 * sum(volume):
        return None
    return Kind.MIXED if "regions" in rest or Kind.SWEEP in kinds else None


def outcomes(name: str) -> Iterator[tuple[Case, Kind, PatternDetector]]:
    for number in range(N_CASES):
        case = Draw(name, number).case()
        if case is not None:
            true, detector = run(case)
            if true is not None:
                yield case, true, detector


def told(name: str) -> Iterator[dict[str, Any]]:
    for case, true, detector in outcomes(name):
        said = detector.pattern()
        off = said.period_s and case.period_s and abs(said.period_s / case.period_s - 1)
        yield {
            "what": case.what,
            "intervals": len(case.durations_s),
            "truth": true,
            "said": said.kind,
            "confidence": round(said.confidence, 4),
            "period_off": off and round(off, 4),
        }
        if said.kind is not true:
            _, steps, rate, _ = case.sources[0]
            size = getattr(steps, "n_pages", case.regions[0].n_pages)
            print(f"{case.what}, {size} pages, {rate:.0f}/s, {len(case.durations_s)} of "
                  f"{case.durations_s[0]:.2g} s: {true} was called {said.sentence}")  # fmt: skip


def main(results: str) -> None:
    cases = {name: list(told(name)) for name in SETS}
    lines = ",\n".join(
        f'"{name}": [\n' + ",\n".join(map(json.dumps, rows)) + "]" for name, rows in cases.items()
    )
    Path(results).write_text(f"{{{lines}}}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
