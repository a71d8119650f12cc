"""What could have been done by one who knows the whole trace."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from mempattern.migration.policies import KubeVirtRamp, MemoryPattern, Nova, Proxmox, Stock
from mempattern.migration.policies.base import NOTHING, Action, Pass, Policy, Progress, Task
from mempattern.migration.precopy import Course
from mempattern.migration.replayed import TraceEndError

TOLERANCE = 0.02
"""By which a downtime may exceed the ceiling: QEMU compares with it what the pages take, and not
what stopping the vCPUs and the devices' state add."""
_EQUAL = 1e-3
"""Moments whose total times differ by less are told apart by their downtime."""
_FAR = 4
"""Times the ceiling: with so much pending it need not be looked what a sync would find."""


class _Fixed(Policy):
    """Passes end when less than this share of the ceiling is pending, as QEMU's do."""

    def __init__(self, share: float) -> None:
        self._share = share

    def begin(self, task: Task) -> Action:
        return Action(downtime_limit_s=self._share * task.ceiling_s)


_PATHS: tuple[Callable[[], Policy], ...] = (
    *(functools.partial(_Fixed, share) for share in (0.0, 0.25, 0.5, 1.0)),
    Stock, MemoryPattern, Proxmox, Nova, KubeVirtRamp,
)  # fmt: skip
"""Whose limits end passes; all others that only choose when to stop have one of these limits."""


class Moment(NamedTuple):
    """To stop the guest at, and what would come of it."""

    total_s: float
    """From the migration's beginning to the last byte, the downtime included."""
    downtime_s: float
    """From the stop of the guest until it can go on at the destination."""
    at_s: float
    """Since the migration began."""
    path: Callable[[], Policy]
    """That led there."""


class _Follower(Policy):
    """Goes through the passes of another policy, whatever else that does.

    It looks at each step that may do: where in an interval a page was written is drawn anew for
    each part of it that is looked at, and who looks as often finds the same.
    """

    poll_s = 0.0
    sees_ahead = True

    def __init__(self, path: Callable[[], Policy]) -> None:
        self._path, self._policy = path, path()
        self._polled_s = 0.0

    def begin(self, task: Task) -> Action:
        self._task = task
        return _only_limit(self._policy.begin(task))

    def after(self, done: Pass) -> Action:
        return _only_limit(self._policy.after(done))

    def _downtime_s(self, now: Progress) -> float:
        """If the guest were stopped now; infinite where that is far above the ceiling."""
        task = self._task
        nonzero_bytes = (now.pending_pages - task.zero_pages) * now.page_bytes
        if nonzero_bytes > _FAR * task.ceiling_s * max(now.bandwidth_Bps, task.bandwidth_Bps):
            return math.inf
        return now.downtime_s()

    def _go_on(self, now: Progress) -> Action:
        if now.at_s < self._polled_s + self._policy.poll_s:
            return NOTHING
        self._polled_s = now.at_s
        return _only_limit(self._policy.poll(now))


def _only_limit(action: Action) -> Action:
    return Action(downtime_limit_s=action.downtime_limit_s)


class _Scout(_Follower):
    """Notes at each step of sending what it would take to stop the guest there, as long as that
    may be sooner than `best_s`."""

    def __init__(self, path: Callable[[], Policy], best_s: float) -> None:
        super().__init__(path)
        self.moments: list[Moment] = []
        self.best_s = best_s

    def poll(self, now: Progress) -> Action:
        if now.at_s > self.best_s * (1 + _EQUAL):
            return Action(give_up=True)  # later ones are no better
        downtime_s = self._downtime_s(now)
        if downtime_s <= self._task.ceiling_s * (1 + TOLERANCE):
            moment = Moment(now.at_s + downtime_s, downtime_s, now.at_s, self._path)
            self.moments.append(moment)
            self.best_s = min(self.best_s, moment.total_s)
        return self._go_on(now)


class _StopAt(_Follower):
    def __init__(self, moment: Moment) -> None:
        super().__init__(moment.path)
        self._at_s = moment.at_s

    def poll(self, now: Progress) -> Action:
        self._downtime_s(now)
        return Action(stop=True) if now.at_s >= self._at_s else self._go_on(now)


def oracle(play: Callable[[Policy], Course], ceiling_s: float) -> Course:
    """The course that ends soonest of those with a downtime within the ceiling.

    Along given passes, what is pending falls no faster than the link sends: the first moment at
    which the ceiling allows to stop the guest is the best, and later ones are as good only where
    nothing is written. Of moments as good it takes the one with the shortest downtime. Which pages
    are sent depends on when passes end; those are tried that end at four shares of the ceiling, and
    those of the policies that do no more than to choose when to stop, so that none of these is
    sooner. To throttle the guest, or not to send some pages, is not among what it may do.

    Raises `TraceEndError` if the recording ends before a moment is found.
    """
    courses: list[Course] = []
    moments: list[Moment] = []
    ended: TraceEndError | None = None
    soonest_s = math.inf
    for path in _PATHS:
        scout = _Scout(path, soonest_s)
        try:
            courses.append(play(scout))
        except TraceEndError as error:  # whose moments are none the worse
            ended = error
        moments += scout.moments
        soonest_s = scout.best_s
        try:  # as it goes by itself, too: who looks less often draws other pages
            courses.append(play(path()))
        except TraceEndError as error:
            ended = error
    equal = [moment for moment in moments if moment.total_s <= soonest_s * (1 + _EQUAL)]
    if equal:
        courses.append(play(_StopAt(min(equal, key=lambda moment: moment.downtime_s))))
    within = [c for c in courses if c.converged and c.downtime_s <= ceiling_s * (1 + TOLERANCE)]
    if not within:
        if ended is not None:
            raise ended
        return replace(courses[0], converged=False, downtime_s=math.nan)
    # As soon as the first moment, which is not always the one that was taken.
    as_soon_s = min(soonest_s, *(c.total_s for c in within)) * (1 + _EQUAL)
    return min(within, key=lambda c: (max(c.total_s, as_soon_s), c.downtime_s))
