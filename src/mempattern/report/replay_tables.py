"""Replays as tables of text, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mempattern.migration.compare import ORACLE, Judged, judge
from mempattern.migration.fleet import Case, Changes, Replayed
from mempattern.quantities import format_changing_bandwidth, format_duration, format_size
from mempattern.report.recorded import trace_line
from mempattern.report.replay import Replays, Standing, standings, throttled_share

MOST_TABLES = 20
"""Traces that each have their tables; of more there is the summary only."""
_GAP = "  "
_ENDS = {
    "completed": "yes",
    "cancelled": "no: gave up",
    "not converged": "no: out of time",
    "trace ended": "no: trace ended",
    "failed": "no: failed",
}


def lines(replays: Replays) -> list[str]:
    """A table for each trace, bandwidth and ceiling, what limits the trust in it, and the sums."""
    done = [replayed for replayed in replays.results if replayed.cases]
    found: list[str] = []
    if len(done) <= MOST_TABLES:
        for replayed in done:
            found += _trace_lines(replayed, names_it=len(replays.results) > 1)
    if len(done) > 1:
        for group in _by_case(standings(replays)):
            found += [*_summary_lines(group), ""]
        found += ["regrets are medians of what was within the ceiling", ""]
    if len(done) > MOST_TABLES:
        found += ["note: what became of each trace is told by --json and --parquet", ""]
    return found[:-1]


def _trace_lines(replayed: Replayed, *, names_it: bool) -> list[str]:
    assert replayed.facts is not None
    found = [f"{replayed.path}:"] if names_it else []
    found += [trace_line(replayed.facts), ""]
    for case in replayed.cases:
        found += [*_case_lines(case), ""]
    notes = [*_extrapolation(replayed), *replayed.notes]
    return found + [f"note: {note}" for note in notes] + [""] * bool(notes)


def _case_lines(case: Case) -> list[str]:
    judged = judge(case.outcomes, case.ceiling_s)
    head = ["policy", "moved", "time", "data", "downtime", "passes", "throttled", "regret: time",
            "data", "dominated by"]  # fmt: skip
    found = [case_title(case.bandwidth, case.ceiling_s), ""]
    found += _aligned([head, *map(_cells, judged)])
    if any(one.outcome.success and not one.is_within for one in judged):
        found.append("! longer than the ceiling")
    return found + [
        f"{one.outcome.policy} failed: {one.outcome.error}"
        for one in judged
        if one.outcome.end == "failed"
    ]


def case_title(bandwidth: Changes, ceiling_s: float) -> str:
    """1 Gbit/s, downtime at most 300 ms"""
    link = format_changing_bandwidth(bandwidth)
    return f"{link}; downtime at most {format_duration(ceiling_s)}"


def _cells(judged: Judged) -> list[str]:
    outcome, regret = judged.outcome, judged.regret
    share = throttled_share(judged)
    over = " !" if outcome.success and not judged.is_within else ""
    dominating = judged.dominated_by
    more = f" and {len(dominating) - 1} more" if len(dominating) > 1 else ""
    return [
        outcome.policy,
        "post-copy" if outcome.success and outcome.postcopy_pages else _ENDS[outcome.end],
        _shown(outcome.total_s, format_duration),
        _shown(outcome.sent_bytes, format_size),
        _shown(outcome.downtime_s, format_duration) + over,
        str(outcome.passes),
        _percent(share) if share else "-",
        "-" if regret is None or outcome.policy == ORACLE else _percent(regret.time),
        "-" if regret is None or outcome.policy == ORACLE else _percent(regret.bytes),
        f"{dominating[0]}{more}" if dominating else "-",
    ]


def _summary_lines(group: list[Standing]) -> list[str]:
    first = group[0]
    head = ["policy", "moved", "within", "dominated", "failed", "regret: time", "data"]
    title = f"all {first.traces} traces; {case_title(first.bandwidth, first.ceiling_s)}"
    return [title, "", *_aligned([head, *map(_summary_cells, group)])]


def _summary_cells(one: Standing) -> list[str]:
    regrets = one.median_regret_time, one.median_regret_bytes
    is_oracle = one.policy == ORACLE
    return [
        one.policy,
        f"{one.moved} of {one.traces}",
        str(one.within),
        "-" if is_oracle else str(one.dominated),
        str(one.failed or "-"),
        *("-" if value is None or is_oracle else _percent(value) for value in regrets),
    ]


def _by_case(ones: list[Standing]) -> list[list[Standing]]:
    found: dict[tuple[Changes, float], list[Standing]] = {}
    for one in ones:
        found.setdefault((one.bandwidth, one.ceiling_s), []).append(one)
    return list(found.values())


def _extrapolation(replayed: Replayed) -> list[str]:
    assert replayed.facts is not None
    beyond = [
        outcome
        for case in replayed.cases
        for outcome in case.outcomes
        if outcome.end != "failed" and outcome.extrapolated_s > 0
    ]
    if not beyond:
        return []
    n = sum(len(case.outcomes) for case in replayed.cases)
    most = max(beyond, key=lambda outcome: outcome.extrapolated_s)
    return [
        f"{len(beyond)} of {n} replays {'goes' if len(beyond) == 1 else 'go'} on after the trace's "
        f"end, where it is repeated: "
        f"{most.policy} for {format_duration(most.extrapolated_s)} of guest time, of which "
        f"{format_duration(replayed.facts.observed_s)} were observed"
    ]


def _shown(value: float, text: Any) -> str:
    return str(text(value)) if math.isfinite(value) else "-"


def _percent(share: float) -> str:
    """5 %, -12 %, 0.4 %; below a thousandth 0 %."""
    percent = 100 * share
    digits = 0 if abs(percent) >= 9.95 or abs(percent) < 0.05 else 1
    return f"{percent:.{digits}f} %".replace("-0 %", "0 %")


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
