"""What a migration may be told after a sync. QEMU's own behaviour is `Stock`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Pass:
    """A sync, and what led to it."""

    number: int
    """Of the sync, from 1, as QEMU counts them (`dirty-sync-count`)."""
    at_s: float
    """Since the migration began."""
    sent_bytes: float
    """In all until then."""
    left_pages: float
    """Pages that were still to be sent before it."""
    pending_pages: float
    """And after it."""
    page_bytes: int
    bandwidth_Bps: float
    """As measured last; 0 before that."""

    @property
    def pending_bytes(self) -> float:
        return self.pending_pages * self.page_bytes

    @property
    def fresh_pages(self) -> float:
        """Pages that the sync added."""
        return self.pending_pages - self.left_pages


@dataclass(frozen=True, slots=True)
class Action:
    """What to do. What is None stays as it is."""

    downtime_limit_s: float | None = None
    throttle: float | None = None
    """Share of its time taken from the guest, from 0 to below 1."""
    stop: bool = False
    """Stop and copy now, whatever remains."""
    give_up: bool = False


NOTHING = Action()


class Policy(Protocol):
    """Asked after every sync of one migration, the first one apart."""

    def after(self, done: Pass) -> Action: ...


class Stock:
    """QEMU as it is: nothing."""

    def after(self, done: Pass) -> Action:
        return NOTHING


class AutoConverge:
    """QEMU's auto-converge (migration_trigger_throttle in migration/ram.c of 7.2).

    A period is at least a second and ends with a sync. Twice more bytes dirtied than half of those
    sent, and the guest loses 20 % of its time; then 10 % more each time, 99 % at most.
    """

    _TRIGGER, _FIRST, _MORE, _MOST = 0.5, 0.2, 0.1, 0.99
    _PERIOD_S = 1.0

    def __init__(self) -> None:
        self._since: tuple[float, float] = (0.0, 0.0)
        self._fresh_bytes = 0.0
        self._times = 0
        self._throttle = 0.0

    def after(self, done: Pass) -> Action:
        self._fresh_bytes += done.fresh_pages * done.page_bytes
        start_s, start_bytes = self._since
        if done.at_s <= start_s + self._PERIOD_S:
            return NOTHING
        exceeded = self._fresh_bytes > self._TRIGGER * (done.sent_bytes - start_bytes)
        self._since, self._fresh_bytes = (done.at_s, done.sent_bytes), 0.0
        self._times += exceeded
        if not exceeded or self._times < 2:
            return NOTHING
        self._times = 0
        self._throttle = (
            min(self._throttle + self._MORE, self._MOST) if self._throttle else self._FIRST
        )
        return Action(throttle=self._throttle)


class Descend:
    """Find out how low the pending pages get: keep the limit below what they would take to send.

    A migration under it does not end by itself before nothing is pending; each sync with fewer
    pending pages than any before is what a downtime limit just above would have ended with. It
    gives up once `patience_s` and ten passes have brought nothing.
    """

    _STEP = 0.97
    _LEAST_PASSES = 10

    def __init__(self, patience_s: float) -> None:
        self.lowest: list[Pass] = []
        self._patience_s = patience_s
        self._passes = 0

    def after(self, done: Pass) -> Action:
        if not self.lowest or done.pending_pages < self.lowest[-1].pending_pages * self._STEP:
            self.lowest.append(done)
            self._passes = 0
        self._passes += 1
        late = done.at_s > self.lowest[-1].at_s + self._patience_s
        if late and self._passes > self._LEAST_PASSES:
            return Action(give_up=True)
        bandwidth = done.bandwidth_Bps or 1.0
        return Action(downtime_limit_s=self._STEP * self.lowest[-1].pending_bytes / bandwidth)
