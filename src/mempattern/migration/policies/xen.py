"""Xen's two stop rules, on QEMU's passes."""

from __future__ import annotations

import math

from mempattern.migration.policies.base import NOTHING, Action, Pass, Policy, Task

_FEW_PAGES = 50


class _Xen(Policy):
    """Stop after so many iterations, or `most_ram` times the RAM, or with under 50 pages to send.

    Xen knows no downtime limit, so it is set to 0: a pass ends when nothing is left to send, and no
    migration but one without any pending page ends by it. Whatever remains is sent in the pause,
    however long that takes, the ceiling notwithstanding.
    """

    _MOST_ITERATIONS: int
    _MOST_RAM = math.inf

    def __init__(self) -> None:
        self._most_bytes = math.inf

    def begin(self, task: Task) -> Action:
        self._most_bytes = self._MOST_RAM * task.ram_bytes
        return Action(downtime_limit_s=0.0)

    def after(self, done: Pass) -> Action:
        iterations = done.number - 1  # the first sync begins the first one
        enough = (
            iterations >= self._MOST_ITERATIONS
            or done.sent_bytes > self._most_bytes
            or done.pending_pages < _FEW_PAGES
        )
        return Action(stop=True) if enough else NOTHING


class XenClassic(_Xen):
    """Xen as in 4.2 (tools/libxc/xc_domain_save.c): 30 iterations, for the last of which the guest
    is stopped, three times the RAM sent, or under 50 pages.

    It is Xen's rule of termination on QEMU's passes; `_Xen` says how.
    """

    _MOST_ITERATIONS = 29
    _MOST_RAM = 3.0


class XenToday(_Xen):
    """Xen now (simple_precopy_policy in tools/libs/guest/xg_sr_save.c): stop after 5 iterations, or
    with under 50 dirty pages.

    It is Xen's rule of termination on QEMU's passes; `_Xen` says how.
    """

    _MOST_ITERATIONS = 5
