"""What a policy is: a few lines that steer a migration, told what QEMU and a tracer know of it.

class Patient(Policy):
    def after(self, done: Pass) -> Action:
        return Action(stop=True) if done.number > 8 else NOTHING
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from mempattern.interval import Interval

if TYPE_CHECKING:
    from mempattern.migration.recording import Recording


@dataclass(frozen=True, slots=True)
class Task:
    """What is known before a migration begins."""

    n_pages: int
    """Of RAM."""
    page_bytes: int
    """Of a page of the guest's RAM."""
    bandwidth_Bps: float
    """Of the link, as far as it is known."""
    downtime_limit_s: float
    """QEMU's setting, which stays until an action changes it."""
    ceiling_s: float
    """The longest downtime that is allowed."""
    patience_s: float
    """After which the migration is given up."""
    zero_pages: int = 0
    """Of RAM, those that are known to hold only zeros."""
    observed: Callable[[], Recording | None] = field(default=lambda: None, repr=False)
    """What a tracer saw before; None if nobody looked."""

    @property
    def ram_bytes(self) -> int:
        """All of the guest's RAM, pages of zeros too."""
        return self.n_pages * self.page_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a migration stands, as `query-migrate` tells it."""

    number: int
    """Of the last sync, from 1, as QEMU counts them (`dirty-sync-count`)."""
    at_s: float
    """Since the migration began."""
    sent_bytes: float
    """In all until then."""
    pending_pages: float
    """Known to be sent yet (`remaining`): what was written since the last sync is not."""
    page_bytes: int
    """Of a page of the guest's RAM."""
    bandwidth_Bps: float
    """As measured last; 0 before that."""
    limit_s: float
    """The downtime limit in force."""
    downtime_s: Callable[[], float] = field(default=lambda: math.nan, compare=False, repr=False)
    """What it would be if the guest were stopped at the moment of the call. Only a replay knows."""

    @property
    def pending_bytes(self) -> float:
        """`pending_pages`, without the headers they are sent with."""
        return self.pending_pages * self.page_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass(Progress):
    """A sync, and what led to it."""

    left_pages: float
    """Pages that were still to be sent before it."""
    found: Callable[[], Interval | None] = field(default=lambda: None, compare=False, repr=False)
    """The pages that it found written since the sync before, as one iteration; to be called until
    `after` returns. None where pages are not known."""

    @property
    def fresh_pages(self) -> float:
        """Pages that the sync added."""
        return self.pending_pages - self.left_pages


@dataclass(frozen=True, slots=True)
class Action:
    """What to do. What is None stays as it is."""

    downtime_limit_s: float | None = None
    """QEMU's setting from now on, 0 or more."""
    throttle: float | None = None
    """Share of its time taken from the guest, from 0 to below 1."""
    stop: bool = False
    """Stop and copy now, whatever remains."""
    postcopy: bool = False
    """Go on at the destination now, and fetch from there what remains."""
    defer: Interval | None = None
    """Pages that are not sent before the guest is stopped, in place of those deferred so far."""
    give_up: bool = False
    """Cancel; the guest stays where it is."""


NOTHING = Action()
"""The action that leaves everything as it is."""


class Policy:
    """What a migration controller follows; one object steers one migration.

    It is asked at three occasions, and overrides what it needs. It must not keep what it is given.
    """

    sees_ahead: ClassVar[bool] = False
    """Whether it is told `Progress.downtime_s`, as the oracle is: no controller can know that."""
    why: str = ""
    """What its last action rests on, a sentence for people; empty where there is nothing to say."""
    poll_s: float = math.inf
    """How often `poll` is asked; 0: as often as QEMU looks at what remains."""

    def begin(self, task: Task) -> Action:
        """Before the first page is sent; it may end the migration here."""
        return NOTHING

    def after(self, done: Pass) -> Action:
        """After each sync but the first and the last."""
        return NOTHING

    def poll(self, now: Progress) -> Action:
        """In between, every `poll_s`."""
        return NOTHING

    def watch(self, interval: Interval) -> None:
        """Told of what a tracer of the guest sees, interval by interval, while it migrates."""
