"""oVirt's convergence schedule."""

from __future__ import annotations

import math

from mempattern.migration.policies.base import NOTHING, Action, Pass, Policy, Progress, Task
from mempattern.migration.policies.qemu import AutoConverge

_FIRST_S = 0.1
_SCHEDULE = ((1, 0.15), (2, 0.2), (3, 0.3), (4, 0.4), (6, 0.5))
"""More iterations than that, and the limit is raised to so much. At the next one it is aborted."""


class OVirt(Policy):
    """oVirt's "Minimal downtime": the limit rises with the iterations that it sees, then an abort.

    The schedule is the policy of that name in ovirt-engine's `MigrationPolicies` (4.0 on), and what
    it means `MonitorThread` in VDSM's lib/vdsm/virt/migration.py. VDSM looks every 10 s
    (`migration_monitor_interval`), and more remaining than before is a new iteration: each of them
    brings at most one step. The schedule's milliseconds stay what they are, whatever the ceiling.

    The policy switches QEMU's auto-converge on, which a VM's settings may switch off.
    """

    poll_s: float = 10.0

    def __init__(self, *, auto_converge: bool = True) -> None:
        self._throttling = AutoConverge() if auto_converge else Policy()
        self._iterations = self._step = 0
        self._before_pages = math.inf

    def begin(self, task: Task) -> Action:
        return Action(downtime_limit_s=_FIRST_S)

    def after(self, done: Pass) -> Action:
        return self._throttling.after(done)

    def poll(self, now: Progress) -> Action:
        is_new = now.pending_pages > self._before_pages
        self._before_pages = now.pending_pages
        if not is_new:
            return NOTHING
        self._iterations += 1
        if self._step == len(_SCHEDULE):
            return Action(give_up=True)
        more_than, limit_s = _SCHEDULE[self._step]
        if self._iterations <= more_than:
            return NOTHING
        self._step += 1
        return Action(downtime_limit_s=limit_s)
