"""Replays as rows, as sums over traces, and as one JSON object (docs/replay.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from mempattern.migration.compare import Judged, judge
from mempattern.migration.fleet import Case, Changes, Replayed

REPLAY = "mempattern.replay/1"


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
