"""What to do about a migration: go, wait, use post-copy, throttle the guest, or leave it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, SupportsIndex

from mempattern._checks import positive_seconds
from mempattern.curve import DirtyCurve
from mempattern.errors import UsageError
from mempattern.interval import Bitmap
from mempattern.migration import sentences
from mempattern.migration.doubts import doubt
from mempattern.migration.forecast import notes_on
from mempattern.migration.memory import CHUNK_PAGES
from mempattern.migration.migrations import Migrations, memories
from mempattern.migration.outlook import DOWNTIME_ERROR_S, Outlook, Phase, PostCopy
from mempattern.migration.policies.base import Policy
from mempattern.migration.policies.qemu import AutoConverge, Stock
from mempattern.migration.precopy import MEASURED, Host
from mempattern.migration.recording import Recording
from mempattern.migration.sentences import DEFAULT_LIMIT_S
from mempattern.quantities import format_bandwidth

_MARGIN = 1.1
"""By which a link may be slower than it is said to be: headers alone take 6 % of an Ethernet's
bits. Some workloads' smallest limit rises by twice as much, or more."""
_STEP = 1.25
"""From one limit to the next that is tried."""
_TRIES = 4
_WORTH = 0.8
"""Of its time: what waiting must bring a migration down to, that could begin now."""

Action = Literal["go", "wait", "postcopy", "throttle", "dont", "observe"]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to do over one link, and why."""

    bandwidth_Bps: float
    """Of the link."""
    action: Action
    """What "observe" says is that the trace cannot tell."""
    sentence: str
    """What to do and why, for people."""
    downtime_limit_s: float | None = None
    """To be set for it; None where nothing is to be started."""
    outlook: Outlook | None = None
    """Of the migration that is recommended, as "go", "wait" or "throttle"."""
    postcopy: PostCopy | None = None
    """Of post-copy, where that is recommended."""
    phase: Phase | None = None
    """What to wait for."""


@dataclass(frozen=True, slots=True)
class Advice:
    """A table over bandwidths and downtime limits, and a recommendation for each bandwidth."""

    ceiling_s: float
    """The longest downtime allowed."""
    patience_s: tuple[float, ...]
    """By bandwidth: when a migration that has not ended is given up."""
    bandwidths_Bps: tuple[float, ...]
    """Of the links, in the order given; `b` in `outlooks`."""
    downtime_limits_s: tuple[float, ...]
    """QEMU's setting, ascending; `d` in `outlooks`."""
    outlooks: tuple[tuple[Outlook, ...], ...]
    """`outlooks[b][d]`: of a migration that begins now, and to which nothing is done."""
    recommendations: tuple[Recommendation, ...]
    """One for each bandwidth, in the same order."""
    courses: int
    """That were played out for each of them."""
    notes: tuple[str, ...]
    """What limits the trust in all this."""


def advise(
    workload: Recording | DirtyCurve,
    bandwidths_Bps: Sequence[float],
    ceiling_s: float,
    downtime_limits_s: Sequence[float] | None = None,
    *,
    n_pages: SupportsIndex | None = None,
    zero: SupportsIndex | Sequence[Bitmap] = 0,
    chunk_pages: SupportsIndex = CHUNK_PAGES,
    host: Host = MEASURED,
    patience_s: float | None = None,
    courses: SupportsIndex | None = None,
) -> Advice:
    """Whether and how to migrate now, over links of these bandwidths in bytes/s.

    `ceiling_s` is the longest downtime that is allowed. `downtime_limits_s` are the table's
    columns: by default QEMU's own, the ceiling and one between. The other arguments are those of
    `forecast`.

    The rules, of which the first one that applies is the recommendation (docs/predict.md):

    1. "go" with QEMU's default limit if it surely ends, also over a link a tenth slower, and its
       downtime stays under the ceiling; with a lower limit if the downtime would not.
    2. "go" with the smallest limit under the ceiling of which the same holds, or else with the
       largest one if it surely ends over this link at least.
    3. "wait" if, within a period of the workload, there is a better start: one that surely ends if
       these do not, or one that makes the migration shorter by a fifth or more, without making it
       end later by more than that.
    4. "throttle" (auto-converge) if that surely ends and takes no more of the guest's time than
       post-copy may; else "postcopy".
    5. "dont" if nothing ends within the patience or can keep the ceiling.

    "observe" takes their place where the recording does not bear the verdict (`doubt`).

    Raises `UsageError` for no bandwidth, for one at which sending all memory once takes more than
    200 times what was observed, and as `forecast` does.
    """
    ceiling_s = positive_seconds("ceiling_s", ceiling_s)
    limits = downtime_limits_s or usual_limits_s(ceiling_s)
    limits = sorted({positive_seconds("downtime_limits_s", limit) for limit in limits})
    if not bandwidths_Bps:
        raise UsageError("bandwidths_Bps is empty; give one at least")
    shared = memories(workload, n_pages, zero, chunk_pages)
    links = [
        Migrations(workload, shared, one, host=host, patience_s=patience_s, courses=courses)
        for one in bandwidths_Bps
    ]
    for link in links:
        link.check_observed()
    slowest = min(links, key=lambda link: link.bandwidth_Bps)
    outlooks = tuple(tuple(link.outlook(limit) for limit in limits) for link in links)
    return Advice(
        ceiling_s=ceiling_s,
        patience_s=tuple(link.patience_s for link in links),
        bandwidths_Bps=tuple(link.bandwidth_Bps for link in links),
        downtime_limits_s=tuple(limits),
        outlooks=outlooks,
        recommendations=tuple(
            _Adviser(
                link,
                Migrations(
                    workload,
                    shared,
                    link.bandwidth_Bps / _MARGIN,
                    host=host,
                    patience_s=patience_s,
                    courses=courses,
                ),
                ceiling_s,
            ).recommend()
            for link in links
        ),
        courses=links[0].courses,
        notes=notes_on(
            workload,
            slowest.longest_pass_s(limits[-1]),
            f"at {format_bandwidth(slowest.bandwidth_Bps)}: ",
        ),
    )


def usual_limits_s(ceiling_s: float) -> list[float]:
    """QEMU's default, the ceiling, and one between in two digits."""
    between = math.sqrt(DEFAULT_LIMIT_S * ceiling_s)
    return sorted({DEFAULT_LIMIT_S, float(f"{between:.1e}"), ceiling_s})


class _Adviser:
    """The rules, for one link; `slower` is what it may be instead."""

    def __init__(self, migrations: Migrations, slower: Migrations, ceiling_s: float) -> None:
        self._migrations, self._slower, self._ceiling_s = migrations, slower, ceiling_s

    def recommend(self) -> Recommendation:
        link = self._migrations
        least_s = link.host.switchover_s + DOWNTIME_ERROR_S
        if self._ceiling_s < least_s:
            sentence = sentences.too_strict(self._ceiling_s, least_s)
            return Recommendation(link.bandwidth_Bps, "dont", sentence)
        chosen_s = self._smallest()
        limit_s = chosen_s or self._allowed(self._ceiling_s) or self._ceiling_s
        phase = self._worth_the_wait(limit_s, goes=chosen_s is not None)
        if phase is not None:
            found = self._wait(limit_s, phase)
        elif chosen_s is not None:
            found = self._go(limit_s)
        else:
            found = self._neither(limit_s)
        if found.action == "dont" or isinstance(link.workload, DirtyCurve):
            return found
        ends = found.action in ("go", "wait")
        unsure = doubt(link.workload.observed, link, limit_s, ends=ends)
        if unsure is None:
            return found
        return Recommendation(link.bandwidth_Bps, "observe", f"The trace cannot tell; {unsure}.")

    def _smallest(self) -> float | None:
        """The limit to go with; None if no allowed one surely ends it."""
        usual_s = self._allowed(min(DEFAULT_LIMIT_S, self._ceiling_s))
        if usual_s is not None and self._ends(usual_s):
            return usual_s
        if self._migrations.outlook(self._ceiling_s).converges is False:
            return None
        least_s = max(self._slower.least_limit_s().high, DEFAULT_LIMIT_S * _STEP)
        limit_s = _rounded(least_s, math.ceil)
        while limit_s < self._ceiling_s:
            if self._ends(limit_s):
                return limit_s
            limit_s = _rounded(limit_s * _STEP, math.ceil)
        largest_s = self._allowed(self._ceiling_s)
        if largest_s is None or not self._keeps(self._migrations.outlook(largest_s)):
            return None
        return largest_s

    def _allowed(self, limit_s: float, policy: Callable[[], Policy] = Stock) -> float | None:
        """That limit, or as much less as it takes for the downtime to stay under the ceiling: a
        limit is for what is known to remain, and the guest writes on until it stands still."""
        for _ in range(_TRIES):
            downtime_s = self._migrations.outlook(limit_s, policy).downtime_s
            if downtime_s is None or downtime_s.high <= self._ceiling_s:
                return limit_s
            limit_s = _rounded(limit_s - (downtime_s.high - self._ceiling_s), math.floor)
            if limit_s <= 0:
                break
        return None

    def _ends(self, limit_s: float) -> bool:
        """Not by a hair's breadth."""
        keeps = self._keeps(self._migrations.outlook(limit_s))
        return keeps and self._slower.outlook(limit_s).converges is True

    def _keeps(self, outlook: Outlook) -> bool:
        """It surely ends, in time and with a downtime that is allowed."""
        if not outlook.converges or outlook.total_s is None or outlook.downtime_s is None:
            return False
        in_time = outlook.total_s.high <= self._migrations.patience_s
        return in_time and outlook.downtime_s.high <= self._ceiling_s

    def _worth_the_wait(self, limit_s: float, *, goes: bool) -> Phase | None:
        phase = self._migrations.better_phase(limit_s)
        if phase is None or not self._keeps(phase.outlook):
            return None
        now, then = self._migrations.outlook(limit_s).total_s, phase.outlook.total_s
        if not goes or now is None or then is None:
            return phase
        saved_s = now.middle - then.middle
        later_s = phase.wait_s - saved_s
        return phase if then.high <= _WORTH * now.low and later_s <= saved_s else None

    def _go(self, limit_s: float) -> Recommendation:
        outlook = self._migrations.outlook
        largest_s = self._allowed(self._ceiling_s) or limit_s
        sentence = sentences.go(
            limit_s, outlook(limit_s), outlook(DEFAULT_LIMIT_S), self._ceiling_s,
            (largest_s, outlook(largest_s)),
        )  # fmt: skip
        return Recommendation(
            self._migrations.bandwidth_Bps, "go", sentence, limit_s, outlook(limit_s)
        )

    def _wait(self, limit_s: float, phase: Phase) -> Recommendation:
        return Recommendation(
            self._migrations.bandwidth_Bps, "wait",
            sentences.wait(limit_s, phase, self._migrations.outlook(limit_s)),
            limit_s, phase.outlook, phase=phase,
        )  # fmt: skip

    def _neither(self, limit_s: float) -> Recommendation:
        """No pre-copy that leaves the guest alone will do."""
        link = self._migrations
        now, postcopy = link.outlook(limit_s), link.postcopy()
        throttled_s = self._allowed(self._ceiling_s, AutoConverge) or limit_s
        throttled = link.outlook(throttled_s, AutoConverge)
        in_time = postcopy.total_s.high <= link.patience_s
        keeps = self._keeps(throttled)
        why = sentences.falls_short(now, self._ceiling_s)
        if keeps and (not in_time or throttled.throttled_s <= postcopy.degraded_s.middle):
            sentence = sentences.throttle(throttled_s, throttled, why)
            return Recommendation(link.bandwidth_Bps, "throttle", sentence, throttled_s, throttled)
        if not in_time:
            sentence = sentences.too_long(limit_s, why, postcopy, link.patience_s)
            return Recommendation(link.bandwidth_Bps, "dont", sentence)
        in_vain = None if keeps else sentences.falls_short(throttled, self._ceiling_s)
        instead = sentences.auto_converge(throttled, in_vain)
        sentence = sentences.postcopy(limit_s, postcopy, why, instead)
        return Recommendation(link.bandwidth_Bps, "postcopy", sentence, limit_s, postcopy=postcopy)


def _rounded(limit_s: float, to_whole: Callable[[float], int]) -> float:
    """To 10 ms, or 1 ms below 100 ms."""
    step_ms = 10 if limit_s >= 0.1 else 1
    return to_whole(limit_s * 1e3 / step_ms) * step_ms / 1e3
