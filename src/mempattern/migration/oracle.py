"""What could have been done by one who knows the whole trace."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from mempattern.migration.policies.base import NOTHING, Action, Policy, Progress, Task
from mempattern.migration.precopy import Course
from mempattern.migration.replayed import TraceEndError

TOLERANCE = 0.02
"""By which a downtime may exceed the ceiling: QEMU compares with it what the pages take, and not
what stopping the vCPUs and the devices' state add."""
_PATHS = (0.0, 0.25, 0.5, 1.0)
_EQUAL = 1e-3
"""Moments whose total times differ by less are told apart by their downtime."""


_FAR = 4
"""Times the ceiling: with so much pending it need not be looked what a sync would find."""


class Moment(NamedTuple):
    """To stop the guest at, and what would come of it."""

    total_s: float
    downtime_s: float
    at_s: float
    limit_s: float
    """Of the passes that led there."""


class _Scout(Policy):
    """Goes on, and notes at each step of sending what it would take to stop the guest there.

    Passes end when less than `limit_s` takes is known to be pending, as QEMU's do with that limit.
    """

    poll_s = 0.0

    def __init__(self, limit_s: float) -> None:
        self.moments: list[Moment] = []
        self._limit_s, self._best_s = limit_s, math.inf

    def begin(self, task: Task) -> Action:
        self._task = task
        return Action(downtime_limit_s=self._limit_s)

    def poll(self, now: Progress) -> Action:
        if now.at_s > self._best_s * (1 + _EQUAL):
            return Action(give_up=True)  # later ones are no better
        downtime_s = _downtime_s(now, self._task)
        if downtime_s <= self._task.ceiling_s * (1 + TOLERANCE):
            moment = Moment(now.at_s + downtime_s, downtime_s, now.at_s, self._limit_s)
            self.moments.append(moment)
            self._best_s = min(self._best_s, moment.total_s)
        return NOTHING


class _StopAt(Policy):
    """Looks as often as the scout did: where in an interval a page was written is drawn anew for
    each part of it that is looked at."""

    poll_s = 0.0

    def __init__(self, moment: Moment) -> None:
        self._moment = moment

    def begin(self, task: Task) -> Action:
        self._task = task
        return Action(downtime_limit_s=self._moment.limit_s)

    def poll(self, now: Progress) -> Action:
        _downtime_s(now, self._task)
        return Action(stop=True) if now.at_s >= self._moment.at_s else NOTHING


def _downtime_s(now: Progress, task: Task) -> float:
    """If the guest were stopped now; infinite where that is far above the ceiling."""
    nonzero_bytes = (now.pending_pages - task.zero_pages) * now.page_bytes
    if nonzero_bytes > _FAR * task.ceiling_s * max(now.bandwidth_Bps, task.bandwidth_Bps):
        return math.inf
    return now.downtime_s()


def oracle(play: Callable[[Policy], Course], ceiling_s: float) -> Course:
    """The course that ends soonest of those with a downtime within the ceiling.

    Along given passes, what is pending falls no faster than the link sends: the first moment at
    which the ceiling allows to stop the guest is the best, and later ones are as good only where
    nothing is written. Of moments as good it takes the one with the shortest downtime. Passes may
    send all there is, or end early; those that end at four shares of the ceiling are tried. To
    throttle the guest, or not to send some pages, is not among what it may do.

    Raises `TraceEndError` if the recording ends before a moment is found.
    """
    courses: list[Course] = []
    moments: list[Moment] = []
    ended: TraceEndError | None = None
    for share in _PATHS:
        scout = _Scout(share * ceiling_s)
        try:
            courses.append(play(scout))
        except TraceEndError as error:  # whose moments are none the worse
            ended = error
        moments += scout.moments
    soonest_s = min((moment.total_s for moment in moments), default=math.inf)
    equal = [moment for moment in moments if moment.total_s <= soonest_s * (1 + _EQUAL)]
    if equal:
        courses.append(play(_StopAt(min(equal, key=lambda moment: moment.downtime_s))))
    within = [c for c in courses if c.converged and c.downtime_s <= ceiling_s * (1 + TOLERANCE)]
    if ended is not None and not within:
        raise ended
    soonest_s = min((c.total_s for c in within), default=math.inf)
    equals = [c for c in within if c.total_s <= soonest_s * (1 + _EQUAL)]
    if not equals:
        return replace(courses[0], converged=False, downtime_s=math.nan)
    return min(equals, key=lambda c: c.downtime_s)
