"""Replays as rows, sums over traces, tables, and one JSON object (docs/replay.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from mempattern.migration.compare import ORACLE, Judged, judge
from mempattern.migration.fleet import Case, Changes, Replayed
from mempattern.quantities import (
    format_changing_bandwidth,
    format_duration,
    format_size,
)
from mempattern.report.recorded import trace_line

REPLAY = "mempattern.replay/1"
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


@dataclass(frozen=True, slots=True)
class Replays:
    """What became of all traces, in the order in which they were given."""

    results: tuple[Replayed, ...]
    """One for each trace that is done, also of those that could not be replayed."""
    unfinished: tuple[str, ...] = ()
    """Traces that were left when it was interrupted."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One policy over one link with one ceiling, on all traces that were replayed."""

    bandwidth: Changes
    """Of the link: moments in seconds since the migration began, and the bytes/s from each."""
    ceiling_s: float
    """The longest downtime allowed."""
    policy: str
    """Its name."""
    traces: int
    """How many were replayed."""
    moved: int
    """Traces of which the guest moved, with whatever downtime."""
    within: int
    """Moved with a downtime under the ceiling."""
    failed: int
    """The policy raised an error."""
    dominated: int
    """Traces in which another policy under the ceiling was nowhere worse, and somewhere better."""
    median_regret_time: float | None
    """Of those within the ceiling, where the oracle moved the guest, too; None of none."""
    median_regret_bytes: float | None
    """The same, of the bytes sent."""


def rows(replays: Replays) -> Iterator[dict[str, Any]]:
    """One for each trace, bandwidth, ceiling and policy: the keys of docs/replay.md."""
    for replayed in replays.results:
        for case in replayed.cases:
            for judged in judge(case.outcomes, case.ceiling_s):
                yield _row(replayed, case, judged)


def _row(replayed: Replayed, case: Case, judged: Judged) -> dict[str, Any]:
    outcome, regret, facts = judged.outcome, judged.regret, replayed.facts
    assert facts is not None
    return {
        "trace": replayed.path,
        "ram_bytes": facts.n_pages * facts.page_bytes,
        **_link(case.bandwidth),
        "max_downtime_s": case.ceiling_s,
        "policy": outcome.policy,
        "moved": outcome.success,
        "within_max_downtime": judged.is_within,
        "end": outcome.end,
        "error": outcome.error or None,
        "total_s": _known(outcome.total_s),
        "sent_bytes": _known(outcome.sent_bytes),
        "downtime_s": _known(outcome.downtime_s),
        "passes": outcome.passes,
        "throttled_s": _known(outcome.throttled_s),
        "throttled_share": throttled_share(judged),
        "postcopy_pages": _known(outcome.postcopy_pages),
        "extrapolated_s": _known(outcome.extrapolated_s),
        "regret_time": regret and regret.time,
        "regret_bytes": regret and regret.bytes,
        "dominated_by": list(judged.dominated_by),
    }


def throttled_share(judged: Judged) -> float | None:
    """Of the migration's time: what throttling took from the guest."""
    outcome = judged.outcome
    return _known(outcome.throttled_s / outcome.total_s) if outcome.total_s > 0 else None


def standings(replays: Replays) -> list[Standing]:
    """By bandwidth and ceiling, and in each the policies in their order."""
    found: dict[tuple[Changes, float, str], list[Judged]] = {}
    for replayed in replays.results:
        for case in replayed.cases:
            for judged in judge(case.outcomes, case.ceiling_s):
                key = case.bandwidth, case.ceiling_s, judged.outcome.policy
                found.setdefault(key, []).append(judged)
    return [_standing(*key, ones) for key, ones in found.items()]


def _standing(bandwidth: Changes, ceiling_s: float, policy: str, ones: list[Judged]) -> Standing:
    regrets = [one.regret for one in ones if one.is_within and one.regret is not None]
    return Standing(
        bandwidth,
        ceiling_s,
        policy,
        traces=len(ones),
        moved=sum(one.outcome.success for one in ones),
        within=sum(one.is_within for one in ones),
        failed=sum(one.outcome.end == "failed" for one in ones),
        dominated=sum(bool(one.dominated_by) for one in ones),
        median_regret_time=median(r.time for r in regrets) if regrets else None,
        median_regret_bytes=median(r.bytes for r in regrets) if regrets else None,
    )


# ---- JSON ----------------------------------------------------------------------------------------


def replay_object(replays: Replays) -> dict[str, Any]:
    """What `mempattern replay --json` prints: the keys of docs/replay.md."""
    return {
        "schema": REPLAY,
        "traces": [_trace(replayed) for replayed in replays.results],
        "replays": list(rows(replays)),
        "summary": [_summary(standing) for standing in standings(replays)],
        "unfinished": list(replays.unfinished),
    }


def _trace(replayed: Replayed) -> dict[str, Any]:
    facts = replayed.facts
    return {
        "trace": replayed.path,
        "error": replayed.error or None,
        "pages": facts and facts.n_pages,
        "page_size": facts and facts.page_bytes,
        "touched_pages": facts and facts.touched_pages,
        "intervals": facts and facts.n_intervals,
        "observed_s": facts and facts.observed_s,
        "unseen_s": facts and facts.unseen_s,
        "lost_pages": facts and facts.lost_pages,
        "period_s": facts and facts.period_s,
        "notes": list(replayed.notes),
    }


def _summary(standing: Standing) -> dict[str, Any]:
    named = asdict(standing)
    bandwidth, ceiling_s = named.pop("bandwidth"), named.pop("ceiling_s")
    return {**_link(bandwidth), "max_downtime_s": ceiling_s, **named}


def _link(bandwidth: Changes) -> dict[str, Any]:
    (_, first_Bps), *later = bandwidth
    changes = [{"from_s": from_s, "bandwidth_Bps": Bps} for from_s, Bps in later]
    return {"bandwidth_Bps": first_Bps, "bandwidth_changes": changes}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


# ---- text ----------------------------------------------------------------------------------------


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
