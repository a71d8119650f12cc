"""Ours: downtime is spent only where it buys time, and only as much as buys it."""

from __future__ import annotations

from mempattern.interval import Interval
from mempattern.migration.plan import WORTH, Means, Plan, plan
from mempattern.migration.policies.base import NOTHING, Action, Pass, Policy, Task
from mempattern.migration.recent import RecentIntervals
from mempattern.migration.recording import Recording

_LEAST_INTERVALS = 10
_LAST = Means.THROTTLE
_MOST_INTERVALS = 400
"""Intervals that are kept for another plan."""
_LATE = 1.1
"""Times what a plan said it would take at most, and it is made anew."""
_WORTH_S = 0.01
"""No downtime is worth shortening below it."""
_SPARE = 1.5
"""Times what was written lately, for what may be written in a pass to come."""


class Best(Policy):
    """Plays the migration out before it begins, and follows the plan that this makes.

    What was observed before tells, or else what was watched during the first pass. A plan that does
    not come true is made anew, by the next means. It stops the guest by the limit only: what a sync
    finds decides, and not what a tracer, which is always late, saw until then.
    """

    def begin(self, task: Task) -> Action:
        self._task = task
        self._plan: Plan | None = None
        self._until_s = 0.0
        self._recent = RecentIntervals(_MOST_INTERVALS)
        observed = task.observed()
        if observed is None or len(observed) < _LEAST_INTERVALS:
            return Action(min(task.downtime_limit_s, task.ceiling_s))
        return self._follow(plan(observed, task), 0.0, throttles=False)

    def watch(self, interval: Interval) -> None:
        self._recent.add(interval)

    def after(self, done: Pass) -> Action:
        if self._plan is not None and done.at_s <= self._until_s:
            return Action(self._limit_s(self._plan, done), self._plan.throttle)
        if len(self._recent) < _LEAST_INTERVALS:
            return NOTHING
        means = Means.LIMIT if self._plan is None else Means(min(self._plan.means + 1, _LAST))
        again = plan(Recording(self._recent), self._task, means)
        return self._follow(again, done.at_s, throttles=True)

    def _follow(self, plan: Plan, now_s: float, *, throttles: bool) -> Action:
        """During the first pass it does not throttle: all is to be sent whatever is written."""
        self._plan, self._until_s = plan, now_s + plan.within_s * _LATE
        self.why: str = plan.sentence
        return Action(plan.limit_s, plan.throttle if throttles else None)

    def _limit_s(self, plan: Plan, done: Pass) -> float:
        """The plan's; or one that lets QEMU, where it would stop the guest now, make another pass
        which is hardly longer but leaves less than half as much."""
        if plan.means is not Means.LIMIT or not done.bandwidth_Bps:
            return plan.limit_s
        pending_s = done.pending_bytes / done.bandwidth_Bps
        if not _WORTH_S < pending_s <= plan.limit_s:
            return plan.limit_s
        lately = self._recent.lately(pending_s)
        if lately is None:
            return plan.limit_s
        lately_s = Recording(lately).touched_pages * done.page_bytes / done.bandwidth_Bps
        if lately_s > min(WORTH * done.at_s, pending_s / 2):
            return plan.limit_s
        self.why = "Hardly anything was written lately: one more pass leaves less for the pause."
        return max(_SPARE * lately_s, _WORTH_S)
