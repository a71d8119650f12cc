"""Which downtime limit, and how much throttling, a migration that begins now needs."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import IntEnum

from mempattern.migration.memory import CHUNK_PAGES
from mempattern.migration.migrations import Migrations, memories
from mempattern.migration.policies.base import Action, Pass, Policy, Task
from mempattern.migration.precopy import usual_patience_s
from mempattern.migration.recording import Recording

_KEPT = 0.98
"""Of the ceiling: QEMU's measure of the bandwidth goes up and down, and so do the downtimes."""
WORTH = 0.01
"""A longer downtime must make the migration so much shorter."""
_HALVINGS = 6
_PATIENT = 3
"""Times the first pass."""
_GENTLE = 1.5
"""Times the least guest time that any throttle would take, for a gentler one."""
_THROTTLES = (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


class Means(IntEnum):
    """To make a migration end, in the order in which they are turned to."""

    LIMIT = 0
    """QEMU's own limit, or a lower one."""
    CEILING = 1
    """A limit up to the ceiling."""
    THROTTLE = 2
    """And less time for the guest."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to set, and when it will have done."""

    limit_s: float
    throttle: float
    """After the first pass; 0 where the limit is enough."""
    within_s: float
    """It is expected to take at most so long; the patience, if it is not expected to end."""
    means: Means

    @property
    def sentence(self) -> str:
        """For people."""
        how = _HOW[self.means].format(throttle=self.throttle)
        return f"{how}, within {self.within_s:.3g} s of now."


_HOW = {
    Means.LIMIT: "Played out, it ends with no more than QEMU's own limit",
    Means.CEILING: "Played out, QEMU's own limit is not enough, and up to the ceiling it ends",
    Means.THROTTLE: "Played out, the ceiling is not enough, and with a throttle of {throttle:.0%} "
    "it ends",
}


class _Throttled(Policy):
    """The same throttle after the first pass."""

    def __init__(self, throttle: float) -> None:
        self._action = Action(throttle=throttle)

    def after(self, done: Pass) -> Action:
        return self._action


def plan(observed: Recording, task: Task, at_least: Means = Means.LIMIT) -> Plan:
    """For a migration that begins now, of a guest that goes on as it was observed.

    Where QEMU's own limit lets it end, no limit above that is set; where it does not, none above
    the ceiling. Of the limits up to there it is the smallest with which the migration takes hardly
    longer. Where the ceiling does not let it end either, the guest is throttled after the first
    pass, as little as possible. `at_least` leaves out what was tried in vain. However long the
    migration may take, no more than the usual patience is looked ahead: who has more of it need not
    be made to wait.
    """
    highest_s = task.ceiling_s * _KEPT
    zero_pages = min(task.zero_pages, observed.n_pages - observed.touched_pages)
    migrations = Migrations(
        observed, memories(observed, None, zero_pages, CHUNK_PAGES), task.bandwidth_Bps,
        patience_s=min(
            task.patience_s, usual_patience_s(task.n_pages, task.page_bytes, task.bandwidth_Bps)
        ),
    )  # fmt: skip
    limits_s = {Means.LIMIT: min(task.downtime_limit_s, highest_s), Means.CEILING: highest_s}
    for means, limit_s in limits_s.items():
        if means >= at_least and migrations.outlook(limit_s).converges is not False:
            return _least(migrations, limit_s, means, task, zero_pages)
    return _throttled(migrations, highest_s)


def _least(
    migrations: Migrations, limit_s: float, means: Means, task: Task, zero_pages: int
) -> Plan:
    """With the smallest limit that is as good as this one.

    Where it is not known whether it will do, it gets as long as half of those courses take that
    end; at the ceiling not for ever, though.
    """
    outlook = migrations.outlook(limit_s)
    if outlook.converges and outlook.total_s is not None:
        enough_s = outlook.total_s.middle * (1 + WORTH)
        for _ in range(_HALVINGS):
            shorter = migrations.outlook(limit_s / 2)
            if not shorter.converges or shorter.total_s is None:
                break
            if shorter.total_s.middle > enough_s:
                break
            limit_s, outlook = limit_s / 2, shorter
    if outlook.total_s is None:
        return Plan(limit_s, 0.0, migrations.patience_s, means)
    if outlook.converges:
        return Plan(limit_s, 0.0, outlook.total_s.high, means)
    within_s = outlook.total_s.middle
    if means is Means.CEILING:
        sent_pages = task.n_pages - zero_pages
        within_s = min(within_s, _PATIENT * sent_pages * migrations.page_s)
    return Plan(limit_s, 0.0, within_s, means)


def _throttled(migrations: Migrations, limit_s: float) -> Plan:
    """With the gentlest throttle that does not take so much longer as to take more in all."""
    outlooks = {
        throttle: migrations.outlook(limit_s, functools.partial(_Throttled, throttle))
        for throttle in _THROTTLES
    }
    ended = {throttle: one for throttle, one in outlooks.items() if one.converges}
    most_s = _GENTLE * min((one.throttled_s for one in ended.values()), default=0.0)
    for throttle, outlook in ended.items():
        if outlook.throttled_s <= most_s and outlook.total_s is not None:
            return Plan(limit_s, throttle, outlook.total_s.high, Means.THROTTLE)
    return Plan(limit_s, 0.0, migrations.patience_s, Means.THROTTLE)
