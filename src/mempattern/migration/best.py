"""Ours: downtime is spent only where it buys time, and only as much as buys it."""

from __future__ import annotations

from collections import deque

from mempattern.interval import Interval
from mempattern.migration.plan import Means, Plan, plan
from mempattern.migration.policies.base import NOTHING, Action, Pass, Policy, Task
from mempattern.migration.recording import Recording

_LEAST_INTERVALS = 10
_LAST = Means.THROTTLE
_WATCHED = 400
"""Intervals that are kept for another plan."""
_LATE = 1.1
"""Times what a plan said it would take at most, and it is made anew."""


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
        self._intervals: deque[Interval] = deque(maxlen=_WATCHED)
        observed = task.observed()
        if observed is None or len(observed) < _LEAST_INTERVALS:
            return Action(min(task.downtime_limit_s, task.ceiling_s))
        return self._follow(plan(observed, task), 0.0, throttles=False)

    def watch(self, interval: Interval) -> None:
        self._intervals.append(interval)

    def after(self, done: Pass) -> Action:
        if self._plan is not None and done.at_s <= self._until_s:
            return Action(throttle=self._plan.throttle)
        if len(self._intervals) < _LEAST_INTERVALS:
            return NOTHING
        means = Means.LIMIT if self._plan is None else Means(min(self._plan.means + 1, _LAST))
        watched = Recording(list(self._intervals))
        return self._follow(plan(watched, self._task, means), done.at_s, throttles=True)

    def _follow(self, plan: Plan, now_s: float, *, throttles: bool) -> Action:
        """During the first pass it does not throttle: all is to be sent whatever is written."""
        self._plan, self._until_s = plan, now_s + plan.within_s * _LATE
        return Action(plan.limit_s, plan.throttle if throttles else None)
