"""Makes docs/patterns-results.md from what patterns_choice.py found.

python benches/patterns_report.py benches/results/patterns.json > docs/patterns-results.md
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mempattern.classify import Kind

UNKNOWN = Kind.UNKNOWN.value
TEXT = """\
# Pattern kinds, told and true

Made by `benches/patterns_report.py` from `benches/results/patterns.json`, which `make patterns`
computes anew: there is no clock in it. Workloads of the guest program: 1024 to 262144 pages, 100 to
200 000 steps a second, 6 to 100 intervals of 50 ms to 1 s that vary by a tenth, at any offset; one
pattern, two in turns, or two at once. `benches/patterns_choice.py` draws them and states the rules
of truth. The thresholds were chosen on the *design* set; the *held-out* set has another seed, and
other sizes, strides and hot sets. [What it is not](patterns.md#how-well): unseen any more.
"""


def table(columns: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def confusion(cases: list[dict[str, Any]]) -> str:
    counts = Counter((case["truth"], case["said"]) for case in cases)
    kinds = [kind.value for kind in Kind if any(kind.value in pair for pair in counts)]
    return table(
        ["", *kinds],
        [
            [true, *(counts[true, said] or "" for said in kinds)]
            for true in kinds
            if any(counts[true, said] for said in kinds)
        ],
    )


def by_confidence(cases: list[dict[str, Any]]) -> str:
    tenths = defaultdict(list)
    for case in cases:
        if case["said"] != UNKNOWN:
            right = case["said"] == case["truth"]
            tenths[min(9, int(case["confidence"] * 10))].append((case["confidence"], right))
    rows = []
    for tenth, verdicts in sorted(tenths.items()):
        confidence, right = np.mean(verdicts, axis=0)
        span = f"{tenth / 10:.1f} to {tenth / 10 + 0.1:.1f}"
        rows.append([span, len(verdicts), f"{confidence:.2f}", f"{right:.2f}"])
    return table(["confidence", "verdicts", "mean confidence", "right"], rows)


def shares(cases: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Told rightly, unknown, told wrongly."""
    right = sum(case["said"] == case["truth"] for case in cases) / len(cases)
    unknown = sum(case["said"] == UNKNOWN for case in cases) / len(cases)
    return right, unknown, 1 - right - unknown


def by_length(cases: list[dict[str, Any]]) -> str:
    of = defaultdict(list)
    for case in cases:
        of[case["intervals"]].append(case)
    return table(
        ["intervals", "cases", "right", "unknown", "wrong"],
        [[n, len(some), *(f"{s:.0%}" for s in shares(some))] for n, some in sorted(of.items())],
    )


def main(results: str) -> None:
    print(TEXT)
    for name, cases in json.loads(Path(results).read_text()).items():
        right, unknown, wrong = (f"{100 * share:.1f} %" for share in shares(cases))
        off = [case["period_off"] for case in cases if case["period_off"] is not None]
        print(f"## {name.capitalize()}\n")
        print(f"{len(cases)} cases: {right} right, {unknown} unknown, {wrong} wrong. "
              f"Rows are the truth, columns the verdict.\n")  # fmt: skip
        print(confusion(cases))
        print(by_confidence(cases))
        print(by_length(cases))
        print(f"Periods are off by {100 * np.median(off):.1f} % in the median, by half or more in "
              f"{sum(one >= 0.5 for one in off)} of {len(off)}.\n")  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
