"""Proxmox VE's doubling limit."""

from __future__ import annotations

from mempattern.migration.policies.base import NOTHING, Action, Policy, Progress, Task

_FIRST_S = 0.1
_MOST_RISES = 5
_OFTEN_S = 0.1


class Proxmox(Policy):
    """Proxmox VE: double the limit whenever what remains rose at more than five polls.

    `phase2` in qemu-server's src/PVE/QemuMigrate.pm. It starts with 100 ms (`migrate_downtime`) and
    polls once a second, and ten times a second once less remains than was sent from one poll to
    the next on average. A poll at which nothing remains counts as a rise. There is no highest
    limit, so the ceiling may be exceeded.
    """

    def __init__(self) -> None:
        self.poll_s: float = 1.0
        self._limit_s = _FIRST_S
        self._polls = self._rises = 0
        self._sent_bytes = 0.0
        self._before_pages = 0.0

    def begin(self, task: Task) -> Action:
        return Action(downtime_limit_s=self._limit_s)

    def poll(self, now: Progress) -> Action:
        self._polls += 1
        mean_bytes = self._sent_bytes / self._polls  # what was sent since is not in it
        if now.sent_bytes == self._sent_bytes:
            return NOTHING
        self._sent_bytes = now.sent_bytes
        if now.pending_bytes < mean_bytes:
            self.poll_s = _OFTEN_S
        before_pages, self._before_pages = self._before_pages, now.pending_pages
        self._rises += 0 < before_pages < now.pending_pages or now.pending_pages == 0
        if self._rises <= _MOST_RISES:
            return NOTHING
        self._rises = 0
        self._limit_s *= 2
        return Action(downtime_limit_s=self._limit_s)
