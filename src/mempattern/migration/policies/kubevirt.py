"""KubeVirt's policies: its timeouts, its downtime ramp, and its stall detection."""

from __future__ import annotations

import heapq
import math
from collections import deque

from mempattern._checks import positive_seconds
from mempattern.migration.policies.base import NOTHING, Action, Pass, Policy, Progress, Task

_MONITOR_S = 0.4
"""`monitorSleepPeriodMS`."""
_GB = 10**9
_QEMU_S = 0.3
"""QEMU's own downtime limit (`QEMUDefaultTargetDowntimeMS`)."""


class KubeVirtLegacy(Policy):
    """KubeVirt without feature gates: QEMU's limit, and an abort when it took too long.

    `handleLegacyConvergence` in pkg/virt-launcher/virtwrap/live-migration-source.go. It is aborted
    after `timeout_s_per_gib` a GB of RAM (`completionTimeoutPerGiB`, which counts GB, rounded up),
    or once nothing was less than at the poll before for `progress_timeout_s` (`progressTimeout`).

    Raises `UsageError` unless the seconds are positive and finite.
    """

    poll_s = _MONITOR_S
    _TOO_LATE = Action(give_up=True)

    def __init__(
        self, *, timeout_s_per_gib: float = 150.0, progress_timeout_s: float = 150.0
    ) -> None:
        self._timeout_s_per_gib = positive_seconds("timeout_s_per_gib", timeout_s_per_gib)
        self._progress_timeout_s = positive_seconds("progress_timeout_s", progress_timeout_s)
        self._timeout_s = math.inf
        self._progress_s, self._before_pages = 0.0, math.inf

    def begin(self, task: Task) -> Action:
        self._timeout_s = self._timeout_s_per_gib * math.ceil(task.ram_bytes / _GB)
        return NOTHING

    def poll(self, now: Progress) -> Action:
        if now.pending_pages < self._before_pages:
            self._progress_s = now.at_s
        self._before_pages = now.pending_pages
        if int(now.at_s) > self._timeout_s:
            return self._TOO_LATE
        if int(now.at_s - self._progress_s) > self._progress_timeout_s:
            return Action(give_up=True)
        return NOTHING


class KubeVirtPostCopy(KubeVirtLegacy):
    """The same with `allowPostCopy`: what takes too long goes on by post-copy."""

    _TOO_LATE = Action(postcopy=True)


class KubeVirtRamp(KubeVirtLegacy):
    """KubeVirt's downtime tuning (VEP 291, alpha in 1.9): the limit rises step by step.

    `tuneDowntime`, beside the timeouts: from `initial_s` (`initialMs`) to the ceiling
    (`maxDowntimeMs`) in sevenths of whole milliseconds, of which one is due `cooldown_s` after the
    one before it, and none before the third sync.

    Raises `UsageError` unless the seconds are positive and finite.
    """

    _STEPS, _FROM_ITERATION = 7, 3

    def __init__(self, *, initial_s: float = 0.15, cooldown_s: float = 10.0) -> None:
        super().__init__()
        self._initial_s = self._limit_s = positive_seconds("initial_s", initial_s)
        self._cooldown_s = positive_seconds("cooldown_s", cooldown_s)
        self._ceiling_s = self._step_s = 0.0
        self._tuned_s = 0.0

    def begin(self, task: Task) -> Action:
        super().begin(task)
        self._ceiling_s = task.ceiling_s
        self._limit_s = min(self._initial_s, task.ceiling_s)
        step_ms = int((task.ceiling_s - self._limit_s) * 1000 / self._STEPS)
        self._step_s = max(step_ms, 1) / 1000
        return Action(downtime_limit_s=self._limit_s)

    def poll(self, now: Progress) -> Action:
        action = super().poll(now)
        is_due = now.number >= self._FROM_ITERATION and now.at_s - self._tuned_s >= self._cooldown_s
        if action != NOTHING or not is_due or self._limit_s == self._ceiling_s:
            return action
        self._tuned_s = now.at_s
        self._limit_s = min(self._limit_s + self._step_s, self._ceiling_s)
        return Action(downtime_limit_s=self._limit_s)


class KubeVirtStall(Policy):
    """KubeVirt's stall detection (VEP 248, alpha in 1.9): switch over at a local minimum, once no
    headway is made.

    pkg/virt-launcher/virtwrap/stall_detector.go. At a sync with R bytes to send it has stalled if R
    is not 4 % below the least R of the syncs at least `stall_s` (`stallProgressTimeout`) before.
    From then on it waits for an R at most 4 % above the least yet. If none came for `stall_s`, the
    least one since the stall is the aim, after half that time the next, and so on. There, R over
    the bandwidth (an exponential mean of the polls', 0.4 for the last) is the downtime to expect:
    up to 1.5 times the ceiling (`maxDowntimeMs`) the ceiling becomes the limit, and the guest has
    `switchover_s` (`switchoverTimeout`) to be stopped by it; else it is aborted. It is aborted,
    too, after `timeout_s_per_gib` a GB, and does not begin what would outlast twice that.

    Raises `UsageError` unless the seconds are positive and finite.
    """

    poll_s = _MONITOR_S
    _MARGIN, _POSSIBLE, _ALPHA, _DECAY, _BUDGETS = 0.04, 1.5, 0.4, 0.5, 2.0

    def __init__(
        self,
        *,
        stall_s: float = 40.0,
        switchover_s: float = 60.0,
        timeout_s_per_gib: float = 150.0,
    ) -> None:
        self._stall_s = self._patience_s = positive_seconds("stall_s", stall_s)
        self._switchover_s = positive_seconds("switchover_s", switchover_s)
        self._timeout_s_per_gib = positive_seconds("timeout_s_per_gib", timeout_s_per_gib)
        self._ceiling_s, self._timeout_s, self._until_s = 0.0, math.inf, math.inf
        self._bandwidth_Bps = 0.0
        self._recent: deque[tuple[float, float]] = deque()
        """When, and how many bytes: of the last `stall_s`."""
        self._least_old = math.inf
        """The least bytes of what is older."""
        self._best: float | None = None
        """The bytes to wait for; None before it stalled."""
        self._since: list[float] = []
        """A heap of the bytes since, but for those that were waited for."""
        self._relax_s = math.inf
        self._is_switching = False

    def begin(self, task: Task) -> Action:
        self._ceiling_s = task.ceiling_s
        self._timeout_s = self._timeout_s_per_gib * math.ceil(task.ram_bytes / _GB)
        self._until_s = self._timeout_s
        return Action(downtime_limit_s=min(_QEMU_S, task.ceiling_s))

    def poll(self, now: Progress) -> Action:
        if now.bandwidth_Bps:
            mean = self._bandwidth_Bps or now.bandwidth_Bps
            self._bandwidth_Bps = self._ALPHA * now.bandwidth_Bps + (1 - self._ALPHA) * mean
        return Action(give_up=True) if int(now.at_s) > self._until_s else NOTHING

    def after(self, done: Pass) -> Action:
        if self._is_switching or not self._bandwidth_Bps:
            return NOTHING
        self._look_back(done)
        if self._best is not None:
            self._relax(done)
        elif done.pending_bytes >= self._least_old * (1 - self._MARGIN):
            self._best = min([self._least_old, *(n_bytes for _, n_bytes in self._recent)])
            self._relax_s = done.at_s + self._stall_s
        if self._best is None or done.pending_bytes > self._best * (1 + self._MARGIN):
            return NOTHING
        return self._switch_over(done)

    def _look_back(self, done: Pass) -> None:
        while self._recent and done.at_s - self._recent[0][0] >= self._stall_s:
            self._least_old = min(self._least_old, self._recent.popleft()[1])
        self._recent.append((done.at_s, done.pending_bytes))

    def _relax(self, done: Pass) -> None:
        heapq.heappush(self._since, done.pending_bytes)
        if done.at_s >= self._relax_s:
            self._best = heapq.heappop(self._since)
            self._patience_s *= self._DECAY
            self._relax_s = done.at_s + self._patience_s

    def _switch_over(self, done: Pass) -> Action:
        downtime_s = done.pending_bytes / self._bandwidth_Bps
        if done.at_s + downtime_s > self._timeout_s * self._BUDGETS:
            return NOTHING
        if downtime_s > self._ceiling_s * self._POSSIBLE:
            return Action(give_up=True)
        self._is_switching = True
        self._until_s = done.at_s + self._switchover_s
        return Action(downtime_limit_s=self._ceiling_s)
