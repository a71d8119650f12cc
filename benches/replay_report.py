"""The tables in docs/replay-results.md, from what replay_eval.py found.

python benches/replay_report.py RESULTS.json > docs/replay-results.md
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from statistics import median
from typing import Any

FIGURES = {"passes": "passes", "sent_bytes": "bytes", "total_s": "total time",
           "downtime_s": "downtime"}  # fmt: skip
SETS = {"dev": "looked at while developing", "held": "not looked at while developing"}
ONE_PASS = 3
"""Syncs of a migration that ends after its pass over RAM: the first, one below the limit, one with
the guest stopped."""
PAGE_BYTES = 4104
GOAL = 0.05
WORST = 0.02
"""Of the total time: the errors that are explained one by one."""
WHY = (
    "Why: *the link idled* where more than half of the error is time in which the link sent "
    "nothing in the real run, which is the machine's doing; *what 1 % of the bandwidth makes* "
    "where, of the replays over a link that is up to 1 % slower or faster, one takes longer "
    "than QEMU did and one less. These rules were made from the runs looked at while developing."
)

Row = dict[str, Any]


def error(row: Row, figure: str) -> float:
    return float(row["simulated"][figure] / row["reported"][figure] - 1)


def ended(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["reported"]["converges"] and row["simulated"]["converges"]]


def has_passes(row: Row) -> bool:
    return bool(row["reported"]["passes"] > ONE_PASS)


def percent(values: list[float]) -> str:
    if not values:
        return "-"
    ranked = sorted(map(abs, values))
    highest = ranked[math.ceil(0.9 * len(ranked)) - 1]
    return f"{median(ranked):.1%} ({highest:.1%})"


def summary(rows: list[Row]) -> list[str]:
    accels = {"KVM": "kvm", "TCG": "tcg"}
    groups = {"all": rows} | {
        name: [row for row in rows if row["case"]["accel"] == accel]
        for name, accel in accels.items()
    }
    for name in list(groups):
        groups[f"{name}, one pass"] = [row for row in groups[name] if not has_passes(row)]
        groups[f"{name}, more"] = [row for row in groups[name] if has_passes(row)]
    lines = [
        f"| runs | how many | {' | '.join(FIGURES.values())} | downtime, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, some in groups.items():
        cells = [percent([error(row, figure) for row in some]) for figure in FIGURES]
        off_ms = sorted(
            abs(row["simulated"]["downtime_s"] - row["reported"]["downtime_s"]) * 1e3
            for row in some
        )
        highest_ms = off_ms[math.ceil(0.9 * len(off_ms)) - 1]
        lines.append(
            f"| {name} | {len(some)} | {' | '.join(cells)} "
            f"| {median(off_ms):.0f} ({highest_ms:.0f}) |"
        )
    return lines


def pass_by_pass(rows: list[Row]) -> str:
    """Of the syncs that both have, but for the first and the ones that end a migration."""
    moments, volumes = [], []
    for row in rows:
        simulated = {done["number"]: done for done in row["simulated_passes"][1:-1]}
        last = row["reported"]["passes"]
        for done in row["reported_passes"]:
            other = simulated.get(done["number"])
            if other is None or not 1 < done["number"] < last - 1:
                continue
            moments.append(other["at_s"] / done["at_s"] - 1)
            volumes.append(other["remaining_bytes"] / done["remaining_bytes"] - 1)
    return (
        f"Pass by pass, over the {len(moments)} that both have: when a pass begins "
        f"{percent(moments)}, what remains then {percent(volumes)}. QEMU is asked for these when "
        f"its event arrives, which is some milliseconds later."
    )


def by_passes(rows: list[Row]) -> str:
    off = [abs(row["simulated"]["passes"] - row["reported"]["passes"]) for row in rows]
    mean = sum(abs(error(row, "passes")) for row in rows) / len(rows)
    return (
        f"Of these {len(rows)}, {off.count(0)} have just as many passes, {off.count(1)} one more "
        f"or less, {sum(n > 1 for n in off)} differ by more; the mean error is {mean:.1%}."
    )


def nearly(row: Row, figure: str) -> tuple[float, float]:
    values = [one[figure] for one in row["nearly"] if figure in one]
    return min(values), max(values)


def idle_s(row: Row, who: str) -> float:
    """Of the time, what the link did not need for the bytes."""
    figures = row[who]
    return float(figures["total_s"] - figures["sent_bytes"] / row["case"]["bandwidth_Bps"])


def cause(row: Row) -> str:
    """Of an error in the total time, what can be told from the numbers."""
    off_s = row["simulated"]["total_s"] - row["reported"]["total_s"]
    idled_s = idle_s(row, "reported") - idle_s(row, "simulated")
    if abs(off_s + idled_s) < abs(off_s) / 2:
        more = "more" if idled_s > 0 else "less"
        return f"the link idled for {abs(idled_s) * 1e3:.0f} ms {more}"
    low, high = nearly(row, "total_s")
    if low <= row["reported"]["total_s"] <= high:
        return "what 1 % of the bandwidth makes"
    return "not told by the numbers"


def share_within(rows: list[Row]) -> str:
    parts = []
    for figure, name in FIGURES.items():
        inside = sum(
            low <= row["reported"][figure] <= high
            for row in rows
            for low, high in [nearly(row, figure)]
        )
        parts.append(f"{name} {inside} of {len(rows)}")
    return ", ".join(parts)


def beyond(rows: list[Row]) -> str:
    some = [row for row in rows if row["simulated"]["extrapolated_s"] > 0]
    if not some:
        return "No replay ran past the end of its trace."
    shares = sorted(row["simulated"]["extrapolated_s"] / row["simulated"]["total_s"]
                    for row in some)  # fmt: skip
    return (
        f"{len(some)} of {len(rows)} replays took longer than the recording of their migration; "
        f"what they needed of the loop after its end is {median(shares):.1%} of their time (median)"
        f", {shares[-1]:.1%} at most."
    )


def goal(rows: list[Row]) -> str:
    errors = {
        name: median(abs(error(row, figure)) for row in rows) for figure, name in FIGURES.items()
    }
    missed = [name for name, value in errors.items() if value > GOAL]
    verdict = f"missed for {', '.join(missed)}" if missed else "met"
    return f"The goal, {GOAL:.0%} in the median for runs of more than one pass, is {verdict}."


def each(rows: list[Row]) -> list[str]:
    lines = [
        "| run | link MB/s | limit ms | passes | replay | ±1 % | total s | replay | ±1 % | MB "
        "| replay | downtime ms | replay | past the end s |",
        "|" + "---|" * 14,
    ]
    for row in rows:
        case, said, ours = row["case"], row["reported"], row["simulated"]
        cells = [f"{case['name']} {case['accel']} {pattern_of(row)}",
                 f"{case['bandwidth_Bps'] / 1e6:.0f}", f"{case['downtime_limit_ms']}",
                 said["passes"], ours["passes"], "{:.0f}-{:.0f}".format(*nearly(row, "passes")),
                 f"{said['total_s']:.2f}", f"{ours['total_s']:.2f}",
                 "{:.2f}-{:.2f}".format(*nearly(row, "total_s")),
                 f"{said['sent_bytes'] / 1e6:.1f}", f"{ours['sent_bytes'] / 1e6:.1f}",
                 f"{said['downtime_s'] * 1e3:.0f}", f"{ours['downtime_s'] * 1e3:.0f}",
                 f"{ours['extrapolated_s']:.2f}"]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def unended(rows: list[Row]) -> list[str]:
    lines = [
        "| run | link MB/s | limit ms | replay | given up, s | passes | replay | MB | replay |",
        "|" + "---|" * 9,
    ]
    for row in rows:
        case, said, ours = row["case"], row["reported"], row["simulated"]
        word = "does not end either" if not ours["converges"] else f"ends at {ours['total_s']:.1f}"
        lines.append(
            f"| {case['name']} {case['accel']} {pattern_of(row)} "
            f"| {case['bandwidth_Bps'] / 1e6:.0f} | {case['downtime_limit_ms']} | {word} "
            f"| {said['total_s']:.1f} | {said['passes']} | {ours['passes']} "
            f"| {said['sent_bytes'] / 1e6:.0f} | {ours['sent_bytes'] / 1e6:.0f} |"
        )
    return lines


def worst(rows: list[Row]) -> list[str]:
    some = [row for row in rows if abs(error(row, "total_s")) >= WORST]
    lines = ["| run | error of the time | passes, replay | why |", "|---|---|---|---|"]
    for row in sorted(some, key=lambda row: -abs(error(row, "total_s"))):
        lines.append(
            f"| {row['case']['name']} {row['case']['accel']} {pattern_of(row)} "
            f"| {error(row, 'total_s'):+.1%} "
            f"| {row['reported']['passes']}, {row['simulated']['passes']} | {cause(row)} |"
        )
    return lines


def pattern_of(row: Row) -> str:
    return str(row["case"]["command_line"]).split()[0].removeprefix("pattern=")


def show(name: str, rows: list[Row]) -> None:
    both, stuck = ended(rows), [row for row in rows if not row["reported"]["converges"]]
    agree = sum(row["reported"]["converges"] == row["simulated"]["converges"] for row in rows)
    print(f"## {len(rows)} runs {SETS.get(name, name)}\n")
    print(
        f"{sum(row['reported']['converges'] for row in rows)} ended by themselves, {len(stuck)} "
        f"did not; replay and QEMU agree on {agree} of {len(rows)}.\n"
    )
    print("\n".join(summary(both)) + "\n")
    more = [row for row in both if has_passes(row)]
    print(f"{goal(more)} {by_passes(more)}\n")
    print(f"Of those that did not end, passes {percent([error(row, 'passes') for row in stuck])}, "
          f"bytes {percent([error(row, 'sent_bytes') for row in stuck])}.\n")  # fmt: skip
    print(pass_by_pass(both) + "\n")
    print(beyond(both) + "\n")
    print(
        "QEMU's figure lies within what the replays over a link that is up to 1 % slower or faster "
        f"come to: {share_within(both)}.\n"
    )
    print(f"Errors of {WORST:.0%} or more in the total time:\n")
    print("\n".join(worst(both)) + "\n")


def main() -> None:
    results: dict[str, list[Row]] = json.loads(Path(sys.argv[1]).read_text())
    print("# The simulator against real QEMU migrations\n")
    print("<!-- Made by benches/replay_report.py; do not edit. -->\n")
    print(
        f"{sum(map(len, results.values()))} migrations between two QEMU 7.2, replayed over the "
        "pages that were recorded while they ran, with stock's policy, the run's limit and the "
        "bandwidth that its link was set to ([simulate.md](simulate.md)). Errors are "
        "|replay / QEMU - 1|: the median, and in brackets what nine of ten runs are below. Passes "
        "are QEMU's `dirty-sync-count`; one pass means that the migration ended after sending RAM "
        f"once, which are {ONE_PASS} syncs.\n"
    )
    for name, rows in results.items():
        show(name, rows)
    print(WHY + "\n")
    for name, rows in results.items():
        print(f"## Run by run: {SETS.get(name, name)}\n")
        print("\n".join(each(ended(rows))) + "\n")
        print("Did not end within the patience:\n")
        print("\n".join(unended([row for row in rows if not row["reported"]["converges"]])) + "\n")


if __name__ == "__main__":
    main()
