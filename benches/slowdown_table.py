"""What tracing costs its target, as a table, from the runs that slowdown.py measured.

python benches/slowdown_table.py RESULTS.json > docs/tracing-cost.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean, median

from slowdown import BEFORE, UNTRACED
from table import Row, machine_line

TEXT = Path(__file__).with_name("slowdown.md")


def rows_of(runs: list[tuple[str, float]]) -> list[Row]:
    """Speeds as ratios to those of the untraced neighbours, by the way of tracing."""
    ratios: dict[str, list[float]] = {}
    for number, (way, speed) in enumerate(runs):
        if way not in (BEFORE, UNTRACED):
            neighbours = mean(runs[n][1] for n in (number - 1, number + 1))
            ratios.setdefault(way, []).append(speed / neighbours)
    before = [speed for way, speed in runs if way == BEFORE]
    if before:  # the first of the untraced ones is before any tracing, too
        after = [speed for way, speed in runs if way == UNTRACED][1:]
        ratios["none any more"] = [speed / median(before) for speed in after]
    return [Row(way, "", values, "x", None, None) for way, values in sorted(ratios.items())]


def markdown(path: Path) -> str:
    run = json.loads(path.read_text())
    lines = ["| target | speed, untraced | traced | ratio | quartiles |", "|---|---|---|---|---|"]
    for target in run["targets"]:
        for unit in target["runs"][0][1]:
            runs = [(way, speeds[unit]) for way, speeds in target["runs"]]
            untraced = median(speed for way, speed in runs if way == UNTRACED)
            start = f"| {target['name']} | {untraced:,.0f} {unit}"
            for row in rows_of(runs):
                lines.append(f"{start} | {row.bench} | {row.median:.3f} | {row.spread} |")
    text = TEXT.read_text()
    return text.format(
        results=path.as_posix(), machine=machine_line(run["machine_info"]), table="\n".join(lines)
    ).rstrip()


if __name__ == "__main__":
    print(markdown(Path(sys.argv[1])))
