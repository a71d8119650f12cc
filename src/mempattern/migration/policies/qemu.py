"""QEMU by itself: as it is, with a higher limit, and with auto-converge."""

from __future__ import annotations

from mempattern.migration.policies.base import NOTHING, Action, Pass, Policy, Task


class Stock(Policy):
    """QEMU as it is (migration_iteration_run in migration/migration.c of 7.2).

    Switch over once what remains takes no longer than the limit, 300 ms (`downtime-limit`).
    """


class Relaxed(Policy):
    """The same with a downtime limit as high as the ceiling, from the start."""

    def begin(self, task: Task) -> Action:
        return Action(downtime_limit_s=task.ceiling_s)


class AutoConverge(Policy):
    """QEMU's auto-converge (migration_trigger_throttle in migration/ram.c of 7.2).

    A period is at least a second and ends with a sync. Twice more bytes dirtied than half of those
    sent, and the guest loses 20 % of its time; then 10 % more each time, 99 % at most.
    """

    _TRIGGER, _FIRST, _MORE, _MOST = 0.5, 0.2, 0.1, 0.99
    _PERIOD_S = 1.0

    def __init__(self) -> None:
        self._since: tuple[float, float] = (0.0, 0.0)
        self._fresh_bytes = 0.0
        self._times = 0
        self._throttle = 0.0

    def after(self, done: Pass) -> Action:
        self._fresh_bytes += done.fresh_pages * done.page_bytes
        start_s, start_bytes = self._since
        if done.at_s <= start_s + self._PERIOD_S:
            return NOTHING
        exceeded = self._fresh_bytes > self._TRIGGER * (done.sent_bytes - start_bytes)
        self._since, self._fresh_bytes = (done.at_s, done.sent_bytes), 0.0
        self._times += exceeded
        if not exceeded or self._times < 2:
            return NOTHING
        self._times = 0
        self._throttle = (
            min(self._throttle + self._MORE, self._MOST) if self._throttle else self._FIRST
        )
        return Action(throttle=self._throttle)
