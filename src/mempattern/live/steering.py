"""A policy's actions, as an unpatched QEMU can do them, none of them above the ceiling."""

from __future__ import annotations

import asyncio
import math

from mempattern._checks import number_within
from mempattern.errors import UsageError
from mempattern.live.migrator import Migrator
from mempattern.migration.policies.base import Action

NO_DEFERRAL = (
    "QEMU cannot be told to leave pages for later: a policy that defers pages works in replays only"
)
_HEADROOM_SHARE, _HEADROOM_S = 0.07, 0.025
"""QEMU's measure of the bandwidth goes up and down, and stopping takes its time: hardly a migration
stands still for longer than its limit and the larger of these (docs/reproduce.md)."""

_MOST_S = 2000.0
"""QEMU takes no higher limit (`MAX_MIGRATE_DOWNTIME`)."""
_ROUNDED_MS = 1e-6
GENTLEST, STRONGEST = 1, 99
"""In percent: what `cpu-throttle-initial` and `max-cpu-throttle` may be."""
_SLICE_S = 0.01
"""A throttled vCPU runs for so long at a time and sleeps for the rest (`cpu_throttle_thread`), and
stopping it was seen to take as long as it sleeps."""


def highest_limit_s(ceiling_s: float, handover_s: float = 0.0) -> float:
    """The downtime limit with which the downtime stays below the ceiling, where the guest stands
    still for `handover_s` beside what QEMU reckons with.

    Raises `UsageError` if that is no whole millisecond, in which QEMU counts.
    """
    left_s = ceiling_s - min(handover_s, ceiling_s / 4)
    limit_s = left_s - max(_HEADROOM_SHARE * left_s, min(_HEADROOM_S, left_s / 4))
    if _whole_ms(limit_s) < 1:
        raise UsageError(
            f"a downtime of at most {1000 * ceiling_s:.3g} ms leaves QEMU less than a millisecond "
            f"to send what remains: allow for more"
        )
    return min(limit_s, _MOST_S)


def sleep_s(throttle: float) -> float:
    """For which a vCPU sleeps at a time when that share of its time is taken."""
    return _SLICE_S * throttle / (1 - throttle)


def _whole_ms(seconds: float) -> int:
    return int(seconds * 1000 + _ROUNDED_MS)


class Steering:
    """Has nothing done that lets the guest stand still above the ceiling.

    Stop-and-copy is a limit as high as the ceiling allows: QEMU, which looks at what remains before
    it stops the guest, finds what was written since, and stops it only if that fits too.
    """

    def __init__(self, migrator: Migrator, ceiling_s: float) -> None:
        self._migrator = migrator
        self._unthrottled_s = highest_limit_s(ceiling_s, migrator.handover_s)
        self._lock = asyncio.Lock()
        self._before_stop_s: float | None = None
        self._throttle = self._strongest = 0.0
        self._was_ms = migrator.was_limit_ms
        """As far as it was told."""

    @property
    def _highest_s(self) -> float:
        return self._unthrottled_s - sleep_s(self._strongest)

    @property
    def limit_s(self) -> float:
        """In force."""
        return self._migrator.limit_ms / 1000

    async def do(self, action: Action) -> list[str]:
        """Returns what was done, in words; nothing for what is so already.

        Raises `UsageError` for what makes no sense or cannot be done, `MonitorError`.
        """
        if not isinstance(action, Action):
            raise UsageError(f"a policy must return an Action, not {action!r}")
        if action.defer is not None:
            raise UsageError(NO_DEFERRAL)
        if action.give_up:
            await self._migrator.cancel()
            return ["cancel"]
        if action.postcopy:
            await self._migrator.start_postcopy()
            return ["post-copy"]
        did: list[str] = []
        async with self._lock:
            if action.throttle is not None:
                did += await self._slow(number_within("the throttle", action.throttle, 0, 1))
            did += await self._limit(action)
        return did

    async def undo(self) -> None:
        """No policy's limit and throttle any more. Raises `MonitorError`."""
        async with self._lock:
            self._before_stop_s = None
            if self._throttle and self._migrator.no_throttle is None:
                await self._slow(0.0)
            await self._migrator.look()
            await self._limit(Action(downtime_limit_s=self._migrator.was_limit_ms / 1000))

    async def _limit(self, action: Action) -> list[str]:
        asked_s = action.downtime_limit_s
        if asked_s is not None:
            number_within("the downtime limit", asked_s, 0, math.inf, "seconds")
        elif not action.stop and self._before_stop_s is None:
            return []
        await self._migrator.look()
        was_ms = self._migrator.was_limit_ms
        if was_ms != self._was_ms:
            self._before_stop_s = None  # theirs stays until the policy wants another
        if action.stop:
            if self._before_stop_s is None:
                self._before_stop_s = self.limit_s
            if asked_s is not None:
                self._before_stop_s = asked_s
            asked_s = math.inf
        elif self._before_stop_s is not None:  # QEMU did not stop: more was written
            asked_s = self._before_stop_s if asked_s is None else asked_s
            self._before_stop_s = None
        if asked_s is None:
            return []
        least_s = self._migrator.lowest_limit_ms / 1000
        new_ms = _whole_ms(min(max(asked_s, least_s), self._highest_s))
        if new_ms == self._migrator.limit_ms:
            return []
        await self._migrator.set_limit(new_ms)
        did = f"{'stop and copy: ' * action.stop}downtime limit {new_ms} ms"
        if was_ms != self._was_ms:
            self._was_ms = was_ms
            did += f" (somebody else has set {was_ms} ms, which is put back at the end)"
        return [did]

    async def _slow(self, throttle: float) -> list[str]:
        if throttle == self._throttle:
            return []
        if self._migrator.no_throttle is not None:
            self._throttle = throttle
            return [f"no throttle of {throttle:.0%}: {self._migrator.no_throttle}"]
        most_s = self._unthrottled_s / 2  # the other half is to send what remains
        most = int(100 * most_s / (most_s + _SLICE_S))
        percent = min(max(round(throttle * 100), GENTLEST), most, STRONGEST)
        self._strongest = max(self._strongest, percent / 100)
        did: list[str] = []
        if self.limit_s > self._highest_s:
            did = await self._limit(Action(downtime_limit_s=self._highest_s))
        await self._migrator.throttle(percent)
        self._throttle = throttle
        return [f"throttle {percent} %", *did]
