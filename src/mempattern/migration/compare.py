"""Policies held against each other, and against the oracle, by what they made of one migration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mempattern.migration.oracle import TOLERANCE
from mempattern.migration.simulate import Outcome

ORACLE = "oracle"
"""The name of the policy that knows the whole trace."""


@dataclass(frozen=True, slots=True)
class Regret:
    """How much more than the oracle's: 0.05 is 5 % more. Negative if it is less, which only a
    policy can reach that exceeds the ceiling, throttles the guest or uses post-copy."""

    time: float
    """Of `Outcome.total_s`."""
    bytes: float
    """Of `Outcome.sent_bytes`."""


@dataclass(frozen=True, slots=True)
class Judged:
    """An outcome among those of other policies in the same migration."""

    outcome: Outcome
    """What became of the migration under the policy that is judged."""
    is_within: bool
    """It moved the guest with a downtime under the ceiling."""
    regret: Regret | None
    """None unless both it and the oracle moved the guest."""
    dominated_by: tuple[str, ...]
    """Policies, in their order."""


def is_within(outcome: Outcome, ceiling_s: float) -> bool:
    """Whether the guest moved, and stood still for at most so long, with the oracle's tolerance."""
    return outcome.success and outcome.downtime_s <= ceiling_s * (1 + TOLERANCE)


def regret(outcome: Outcome, oracle: Outcome) -> Regret | None:
    """None unless both moved the guest."""
    if not outcome.success or not oracle.success:
        return None
    return Regret(
        outcome.total_s / oracle.total_s - 1,
        outcome.sent_bytes / oracle.sent_bytes - 1,
    )


def dominates(one: Outcome, other: Outcome) -> bool:
    """Whether it is nowhere worse, and somewhere better, of two that moved the guest (Pareto).

    Compared are total time, bytes and downtime; and what is taken from the guest otherwise, by
    throttling and by faults after post-copy, so that neither of these wins by what it costs the
    guest elsewhere.
    """
    if not one.success or not other.success:
        return False
    ours, theirs = _costs(one), _costs(other)
    return ours != theirs and all(a <= b for a, b in zip(ours, theirs, strict=True))


def judge(outcomes: Sequence[Outcome], ceiling_s: float) -> list[Judged]:
    """Each of them, in their order.

    Only those within the ceiling dominate and are dominated, and not the oracle: that is no policy
    that anybody could follow.
    """
    oracle = next((outcome for outcome in outcomes if outcome.policy == ORACLE), None)
    rivals = [
        outcome for outcome in outcomes if outcome is not oracle and is_within(outcome, ceiling_s)
    ]
    return [
        Judged(
            outcome,
            is_within(outcome, ceiling_s),
            None if oracle is None else regret(outcome, oracle),
            tuple(rival.policy for rival in rivals if dominates(rival, outcome))
            if any(outcome is rival for rival in rivals)
            else (),
        )
        for outcome in outcomes
    ]


def _costs(outcome: Outcome) -> tuple[float, ...]:
    return (
        outcome.total_s,
        outcome.sent_bytes,
        outcome.downtime_s,
        outcome.throttled_s,
        outcome.postcopy_pages,
    )
