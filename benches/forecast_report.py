"""The table in docs/forecast-results.md, from what forecast_eval.py found.

python benches/forecast_report.py RESULTS.json > docs/forecast-results.md
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from statistics import median
from typing import Any

BAD = 0.25
FIGURES = ("total_s", "sent_bytes", "downtime_s")
SETS = {
    "dev": "looked at while developing",
    "held": "not looked at before",
    "untraced": "not looked at before, and traced until they began only",
}

Row = dict[str, Any]


def errors(rows: list[Row], model: str, figure: str) -> list[float]:
    """|predicted / actual - 1| where both are."""
    found = []
    for row in rows:
        said, actual = row["predicted"][model][figure], row["actual"].get(figure)
        if said is not None and actual:
            found.append(abs(said / actual - 1))
    return found


def is_bad(row: Row, model: str) -> bool:
    said, actual = row["predicted"][model], row["actual"]
    if said["converges"] != actual["converges"]:
        return True
    return any(
        abs(said[figure] / actual[figure] - 1) >= BAD
        for figure in ("total_s", "sent_bytes")
        if said[figure] is not None and actual.get(figure)
    )


def percent(values: list[float]) -> str:
    if not values:
        return "-"
    ranked = sorted(values)
    return f"{100 * median(ranked):.1f} % ({100 * ranked[math.ceil(0.9 * len(ranked)) - 1]:.0f} %)"


def table(rows: list[Row]) -> list[str]:
    models = list(rows[0]["predicted"])
    lines = [
        "| model | total time | bytes | downtime | converges or not, wrong | bad failures |",
        "|---|---|---|---|---|---|",
    ]
    for model in models:
        figures = [percent(errors(rows, model, figure)) for figure in FIGURES]
        says = [row for row in rows if row["predicted"][model]["converges"] is not None]
        wrong = sum(
            row["predicted"][model]["converges"] != row["actual"]["converges"] for row in says
        )
        bad = sum(is_bad(row, model) for row in says)
        share = f"{bad} of {len(says)} ({100 * bad / len(says):.1f} %)" if says else "-"
        lines.append(
            f"| {model} | {' | '.join(figures)} | {f'{wrong} of {len(says)}' if says else '-'} "
            f"| {share} |"
        )
    return lines


def coverage(rows: list[Row]) -> str:
    parts = []
    for figure, name in zip(FIGURES, ("total time", "bytes", "downtime"), strict=True):
        ranges = [
            (row["ranges"][figure], row["actual"][figure])
            for row in rows
            if figure in row["ranges"] and row["actual"].get(figure) is not None
        ]
        inside = sum(low <= actual <= high for (low, high), actual in ranges)
        parts.append(f"{name} {inside} of {len(ranges)}")
    return "Actual values within our stated interval: " + ", ".join(parts) + "."


def bad_downtimes(rows: list[Row]) -> str:
    pairs = [
        (row["predicted"]["mempattern"]["downtime_s"], row["actual"]["downtime_s"])
        for row in rows
        if row["actual"].get("downtime_s") and row["predicted"]["mempattern"]["converges"]
    ]
    bad = [(said, actual) for said, actual in pairs if abs(said / actual - 1) >= BAD]
    long = sum(abs(said - actual) > 0.01 for said, actual in bad)
    return (
        f"A downtime is no bad failure by itself: ours was off by {BAD:.0%} or more in {len(bad)} "
        f"of {len(pairs)}, by more than 10 ms in {long} of these."
    )


def is_long(row: Row) -> bool:
    """It is not over after one pass and the rest: the ones to tell models by."""
    return not row["actual"]["converges"] or row["actual"]["passes"] > 3


def pattern_of(row: Row) -> str:
    return str(row["case"]["command_line"]).split()[0].removeprefix("pattern=")


def each(rows: list[Row]) -> list[str]:
    lines = [
        "| run | link MB/s | limit | total s | ours | MB | ours | downtime ms | ours | passes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        case, actual, said = row["case"], row["actual"], row["predicted"]["mempattern"]
        cells = [
            f"{case['name']} {case['accel']} {pattern_of(row)}",
            f"{case['bandwidth_Bps'] / 1e6:.0f}",
            f"{case['downtime_limit_ms']}",
        ]
        for figure, scale, digits in zip(FIGURES, (1, 1e-6, 1e3), (2, 1, 0), strict=True):
            for source in (actual, said):
                value = source.get(figure)
                cells.append("-" if value is None else f"{value * scale:.{digits}f}")
        cells.append(str(actual.get("passes", "did not end")))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    results: dict[str, list[Row]] = json.loads(Path(sys.argv[1]).read_text())
    print("# The forecast against real QEMU migrations\n")
    print("<!-- Made by benches/forecast_report.py; do not edit. -->\n")
    n = sum(map(len, results.values()))
    print(
        f"{n} migrations of the guest program between two QEMU 7.2 over a rate-limited link, as "
        "[forecast.md](forecast.md) describes them. Errors are |forecast / actual - 1|: the "
        "median, and in brackets what nine of ten runs are below. A bad failure is an error of "
        f"{BAD:.0%} or more in time or bytes, or a wrong word on whether it ends. QEMU's own "
        "figure is `expected-downtime` as it was last before the guest was stopped; it says "
        "nothing else.\n"
    )
    for name, rows in results.items():
        ended = sum(row["actual"]["converges"] for row in rows)
        print(f"## {len(rows)} runs {SETS.get(name, name)}\n")
        print(f"{ended} ended by themselves, {len(rows) - ended} did not.\n")
        print("\n".join(table(rows)) + "\n")
        print(coverage(rows) + " " + bad_downtimes(rows) + "\n")
        hard = [row for row in rows if is_long(row)]
        print(f"Without the {len(rows) - len(hard)} that ended after the first pass over RAM:\n")
        print("\n".join(table(hard)) + "\n")
    for name, rows in results.items():
        print(f"## Run by run: {SETS.get(name, name)}\n")
        print("\n".join(each(rows)) + "\n")


if __name__ == "__main__":
    main()
