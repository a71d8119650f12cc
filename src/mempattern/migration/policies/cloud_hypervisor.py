"""Cloud Hypervisor's rule."""

from __future__ import annotations

from mempattern._checks import positive_seconds
from mempattern.migration.policies.base import NOTHING, Action, Pass, Policy, Task


class CloudHypervisor(Policy):
    """Cloud Hypervisor: stop once the pages just found dirty take no longer than the ceiling.

    `is_precopy_converged` in vmm/src/lib.rs, since 2026 (pull request 7835): there is nothing to
    send, or it takes no longer than `downtime_ms` (300 by default; here the ceiling) at the
    bandwidth measured; after `timeout_s` it is cancelled. It sends all it found before it looks
    again, so the limit is set to 0: a pass ends when nothing is left.

    Raises `UsageError` unless the timeout is positive and finite.
    """

    def __init__(self, *, timeout_s: float = 3600.0) -> None:
        self._timeout_s = positive_seconds("timeout_s", timeout_s)
        self._ceiling_s = 0.0

    def begin(self, task: Task) -> Action:
        self._ceiling_s = task.ceiling_s
        return Action(downtime_limit_s=0.0)

    def after(self, done: Pass) -> Action:
        if done.pending_bytes <= self._ceiling_s * done.bandwidth_Bps:
            return Action(stop=True)
        return Action(give_up=True) if done.at_s >= self._timeout_s else NOTHING
