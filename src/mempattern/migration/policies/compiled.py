"""A policy that Numba compiled, in a migration."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mempattern.migration.policies.base import NOTHING, Action, Pass, Policy, Task
from mempattern.stats import GroupStats

if TYPE_CHECKING:
    from mempattern import jit

_PROGRESS = (
    "number", "at_s", "sent_bytes", "pending_bytes", "fresh_pages", "bandwidth_Bps", "limit_s",
)  # fmt: skip
_OF_PAGES = ("dirty_pages", "redirtied_pages", "active_groups")


class Compiled(Policy):
    """Follow a `mempattern.jit.policy`, asked after each sync with all passes so far.

    What it returns becomes the downtime limit: 0 or less leaves it, infinity stops the guest now.
    Importing this does not import Numba.
    """

    def __init__(self, policy: jit.Policy) -> None:
        self._policy = policy
        self._passes: npt.NDArray[Any] = np.zeros(8, policy.dtype)
        self._n_passes = 0
        self._stats: GroupStats | None = None

    def begin(self, task: Task) -> Action:
        self._task = task
        return NOTHING

    def after(self, done: Pass) -> Action:
        if self._n_passes == self._passes.size:
            self._passes = np.concatenate((self._passes, np.zeros_like(self._passes)))
        row = self._passes[self._n_passes]
        for name in _PROGRESS:
            row[name] = getattr(done, name)
        for name, number in zip(_OF_PAGES, self._counts(done), strict=True):
            row[name] = number
        row["ceiling_s"], row["ram_bytes"] = self._task.ceiling_s, self._task.ram_bytes
        self._n_passes += 1
        limit_s = self._policy(self._passes[: self._n_passes])
        if limit_s == math.inf:
            return Action(stop=True)
        return Action(downtime_limit_s=limit_s) if limit_s > 0 else NOTHING

    def _counts(self, done: Pass) -> tuple[int, int, int]:
        found = done.found()
        if found is None:
            return -1, -1, -1
        if self._stats is None:
            self._stats = GroupStats(found.regions)
        seen = self._stats.update(found)
        return seen.dirty_pages, seen.redirtied_pages, seen.active_groups
