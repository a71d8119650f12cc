"""OpenStack Nova's downtime ramp."""

from __future__ import annotations

import math

from mempattern._checks import positive_seconds, whole_number
from mempattern.errors import UsageError
from mempattern.migration.policies.base import NOTHING, Action, Policy, Progress, Task

_GIB = 1 << 30
_LEAST_GIB = 2.0


class Nova(Policy):
    """OpenStack Nova: a limit that rises with time, in proportion to the VM's size.

    `downtime_steps` and `update_downtime` in nova/virt/libvirt/migration.py, with the defaults of
    nova.conf's [libvirt] section: from a tenth of `live_migration_downtime`, here the ceiling, to
    all of it in `steps` steps (`live_migration_downtime_steps`), one every `delay_s_per_gib`
    (`live_migration_downtime_delay`) a GiB of RAM; aborted after `timeout_s_per_gib` a GiB
    (`live_migration_completion_timeout`). A VM counts as at least 2 GiB. Nova looks twice a second.

    Raises `UsageError` unless the seconds are positive and the steps a whole number of at least 1.
    """

    poll_s: float = 0.5

    def __init__(
        self,
        *,
        steps: int = 10,
        delay_s_per_gib: float = 75.0,
        timeout_s_per_gib: float = 800.0,
    ) -> None:
        if whole_number(steps, 1, 1 << 31) is None:
            raise UsageError(f"steps must be a whole number of at least 1, not {steps!r}")
        self._steps = steps
        self._delay_s_per_gib = positive_seconds("delay_s_per_gib", delay_s_per_gib)
        self._timeout_s_per_gib = positive_seconds("timeout_s_per_gib", timeout_s_per_gib)
        self._delay_s = self._timeout_s = math.inf
        self._ceiling_s = self._limit_s = 0.0

    def begin(self, task: Task) -> Action:
        gib = max(task.ram_bytes / _GIB, _LEAST_GIB)
        self._delay_s = max(int(self._delay_s_per_gib * gib), 1)
        self._timeout_s = int(self._timeout_s_per_gib * gib)
        self._ceiling_s = task.ceiling_s
        self._limit_s = self._step_s(0)
        return Action(downtime_limit_s=self._limit_s)

    def poll(self, now: Progress) -> Action:
        if now.at_s > self._timeout_s:
            return Action(give_up=True)
        # A step is due once more than its time is over.
        step = min(math.ceil(now.at_s / self._delay_s) - 1, self._steps)
        limit_s = self._step_s(max(step, 0))
        if limit_s == self._limit_s:
            return NOTHING
        self._limit_s = limit_s
        return Action(downtime_limit_s=limit_s)

    def _step_s(self, step: int) -> float:
        """In whole milliseconds, as Nova reckons it."""
        most_ms = self._ceiling_s * 1000
        first_ms = most_ms / self._steps
        return int(first_ms + (most_ms - first_ms) / self._steps * step) / 1000
