"""QEMU's pre-copy, pass by pass, over a memory that is replayed or expected.

As migration/migration.c and migration/ram.c of QEMU 7.2 do it: RAM is sent in steps of some 50 ms;
once what remains is below bandwidth times downtime limit, the dirty log is fetched, and if it still
is, the guest is stopped, the log is fetched once more, and the rest is sent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mempattern._checks import number_within, positive, positive_seconds
from mempattern.errors import UsageError
from mempattern.interval import Interval
from mempattern.migration.bandwidth import Bandwidth
from mempattern.migration.memory import Memory, Outstanding, PageMemory
from mempattern.migration.policies.base import NOTHING, Action, Pass, Policy, Progress, Task

if TYPE_CHECKING:
    from mempattern.migration.recording import Recording

PAGE_HEADER_BYTES = 8
"""Before each page of the block that was sent last (`save_page_header`)."""
ZERO_PAGE_BYTES = 9
"""A header and one byte (`save_zero_page_to_file`)."""
_STEP_S = 0.051
"""`ram_save_iterate` ends when more than 50 whole milliseconds are over (MAX_WAIT) ..."""
_LOOK_PAGES = 64
"""... at which it looks after so many pages: half as many too late, on average, since a socket
takes pages in bursts, and no two steps look at the same moments."""
_MOST_THROTTLE = 0.99
"""`max-cpu-throttle`."""
_DAY_S = 86400.0
_LONGEST_S = 3600.0
"""What none of a host's times exceeds."""
_MEASURE_S = 0.1
"""The bandwidth is what was sent since the last look, at least this long ago (BUFFER_DELAY)."""


@dataclass(frozen=True, slots=True)
class Host:
    """What a migration takes besides the link's bandwidth; defaults as measured with QEMU 7.2.

    Raises `UsageError` for numbers that are not finite, negative ones, or no zero pages a second.
    """

    zero_pages_per_s: float = 2e6
    """Pages a second that are found to hold only zeros."""
    buffer_s: float = 0.02
    """What the sockets and the link hold, in seconds of the bandwidth: sent as soon as it is there,
    and filled while zero pages are looked for."""
    switchover_s: float = 0.002
    """Of the downtime, what is not the sending of pages: stopping vCPUs, the devices' state."""
    setup_s: float = 0.03
    """Before the first page is sent."""

    def __post_init__(self) -> None:
        positive("zero_pages_per_s", self.zero_pages_per_s, "pages/s")
        for name in ("buffer_s", "switchover_s", "setup_s"):
            number_within(name, getattr(self, name), 0, _LONGEST_S, "seconds")


MEASURED = Host()


@dataclass(frozen=True, slots=True)
class Course:
    """How one migration went; if it did not converge, until it was given up, without downtime."""

    converged: bool
    """The guest moved: it was stopped for the rest, or went on by post-copy."""
    total_s: float
    """From the migration's beginning until all memory is at the destination, or it is given up."""
    sent_bytes: float
    """Over the link in all of that time, with page headers; a page of zeros is 9 bytes."""
    downtime_s: float
    """NaN if the guest was not stopped."""
    throttled_s: float
    """Guest time taken by throttling."""
    passes: tuple[Pass, ...]
    """One for each sync."""
    cancelled: bool = False
    """It was the policy that gave it up, and not its patience that was over."""
    postcopy_pages: float = 0.0
    """Fetched after the guest went on at the destination: it faulted at most so many times."""


def usual_patience_s(n_pages: int, page_bytes: int, bandwidth_Bps: float) -> float:
    """Ten times what sending all of RAM once takes, at least a minute, and at most a day."""
    once_s = n_pages * (page_bytes + PAGE_HEADER_BYTES) / bandwidth_Bps
    return min(max(10 * once_s, 60.0), _DAY_S)


class _Link:
    """The link, and what it holds: bytes handed to it are gone, until it is full."""

    def __init__(self, memory: Memory, bandwidth_Bps: float, host: Host) -> None:
        self._memory, self._host = memory, host
        self._page_bytes = memory.page_bytes + PAGE_HEADER_BYTES
        self._room_s = self._most_s = host.buffer_s
        self.sent_bytes = 0.0
        self.carry(bandwidth_Bps)

    def carry(self, bandwidth_Bps: float) -> None:
        """So many bytes/s from now on."""
        self.bandwidth_Bps = bandwidth_Bps
        self._page_s = self._page_bytes / bandwidth_Bps
        self._zero_s = self._zero_page_s(bandwidth_Bps)
        self.step_s = _STEP_S + self._page_s * _LOOK_PAGES / 2

    def _zero_page_s(self, bandwidth_Bps: float) -> float:
        return max(ZERO_PAGE_BYTES / bandwidth_Bps, 1 / self._host.zero_pages_per_s)

    def send(self, duration_s: float) -> float:
        """Send for about so long; returns the time it took."""
        sent = self._memory.send(duration_s, self._page_s, self._zero_s)
        n_bytes = (sent.pages - sent.zero_pages) * self._page_bytes
        n_bytes += sent.zero_pages * ZERO_PAGE_BYTES
        self.sent_bytes += n_bytes
        looking_s = sent.zero_pages * self._zero_s
        sending_s = sent.duration_s - looking_s
        at_once_s = min(self._room_s, sending_s)
        drained_s = looking_s - sent.zero_pages * ZERO_PAGE_BYTES / self.bandwidth_Bps
        self._room_s = min(self._room_s - at_once_s + drained_s, self._most_s)
        return sent.duration_s - at_once_s

    def time_for(self, rest: Outstanding, bandwidth: Bandwidth, now_s: float) -> float:
        """How long it takes to send it all."""
        now_Bps = bandwidth.at(now_s)
        looking_s = rest.zero_pages * self._zero_page_s(now_Bps)
        n_bytes = (rest.pages - rest.zero_pages) * self._page_bytes
        n_bytes -= min(self._room_s * now_Bps, n_bytes)
        return looking_s + bandwidth.time_for(n_bytes, now_s + looking_s)


def precopy(
    memory: Memory,
    bandwidth: float | Bandwidth,
    downtime_limit_s: float,
    *,
    policy: Policy | None = None,
    ceiling_s: float | None = None,
    observed: Callable[[], Recording | None] = lambda: None,
    zero_pages: int = 0,
    host: Host = MEASURED,
    patience_s: float = 3600.0,
    seed: int = 0,
) -> Course:
    """One migration of the memory over a link of that many bytes/s.

    It is given up after `patience_s`, or when the policy says so. The policy, by default none, is
    told of `ceiling_s`, the longest downtime allowed (by default the limit), and may ask for what
    was `observed` before. `seed` picks the guest's course.

    Raises `UsageError` for a bandwidth or a patience that is not positive and finite, for an action
    that makes no sense, or one that needs to know pages where the memory does not.
    """
    if not isinstance(bandwidth, Bandwidth):
        bandwidth = Bandwidth((0.0, positive("bandwidth", bandwidth, "bytes/s")))
    task = Task(
        memory.n_pages, memory.page_bytes, bandwidth.at(0.0), downtime_limit_s,
        downtime_limit_s if ceiling_s is None else ceiling_s,
        positive_seconds("patience_s", patience_s), zero_pages, observed,
    )  # fmt: skip
    return _Migration(memory, bandwidth, task, policy or Policy(), host).run(seed)


class _Migration:
    """One under way."""

    def __init__(
        self, memory: Memory, bandwidth: Bandwidth, task: Task, policy: Policy, host: Host
    ) -> None:
        self._memory, self._bandwidth, self._task = memory, bandwidth, task
        self._policy, self._host = policy, host
        self._pages = memory if isinstance(memory, PageMemory) else None
        self._is_watched = type(policy).watch is not Policy.watch and self._pages is not None
        self._link = _Link(memory, bandwidth.at(0.0), host)
        self._changes_s = bandwidth.change_after(0.0)
        self._now_s = host.setup_s
        self._limit_s = task.downtime_limit_s
        self._throttle = self._throttled_s = 0.0
        self._measured_Bps, self._looked_s, self._looked_bytes = 0.0, self._now_s, 0.0
        self._polled_s = self._now_s
        self._passes: list[Pass] = []

    def run(self, seed: int) -> Course:
        self._memory.start(seed)
        action = self._do(self._policy.begin(self._task))
        self._sync()
        while not _ends(action) and self._now_s < self._task.patience_s:
            if self._is_low(self._sendable_pages):
                action = self._end_pass()
            if not _ends(action):
                self._send()
                action = self._poll()
        return self._end(action)

    def _end_pass(self) -> Action:
        """With less than the limit left: fetch the log, and stop the guest if that is still so."""
        action = self._do(self._policy.after(self._sync()))
        return Action(stop=True) if not _ends(action) and self._is_low() else action

    def _end(self, action: Action) -> Course:
        if action.give_up:
            return self._course(False, math.nan, cancelled=True)
        if action.postcopy:
            return self._go_on_there()
        return self._switch_over() if action.stop else self._course(False, math.nan)

    @property
    def _sendable_pages(self) -> float:
        deferred = 0.0 if self._pages is None else self._pages.deferred_pages
        return self._memory.pending_pages - deferred

    def _is_low(self, pages: float | None = None) -> bool:
        pages = self._memory.pending_pages if pages is None else pages
        return pages < 1 or pages * self._memory.page_bytes < self._measured_Bps * self._limit_s

    def _sync(self) -> Pass:
        left = self._memory.pending_pages
        self._memory.sync()
        found: dict[str, Any] = {} if self._pages is None else {"found": self._pages.found}
        done = Pass(left_pages=left, **found, **self._standing(len(self._passes) + 1))
        self._passes.append(done)
        return done

    def _standing(self, number: int) -> dict[str, Any]:
        """The fields of a `Progress`."""
        standing: dict[str, Any] = {
            "number": number,
            "at_s": self._now_s,
            "sent_bytes": self._link.sent_bytes,
            "pending_pages": self._memory.pending_pages,
            "page_bytes": self._memory.page_bytes,
            "bandwidth_Bps": self._measured_Bps,
            "limit_s": self._limit_s,
        }
        if self._policy.sees_ahead and self._pages is not None:
            standing["downtime_s"] = self._downtime_s
        return standing

    def _downtime_s(self) -> float:
        """If the guest were stopped now."""
        assert self._pages is not None
        rest_s = self._link.time_for(self._pages.outstanding(), self._bandwidth, self._now_s)
        return self._host.switchover_s + rest_s

    def _poll(self) -> Action:
        policy = self._policy
        if self._is_watched and self._pages is not None:
            for interval in self._pages.seen():
                policy.watch(interval)
        if self._now_s < self._polled_s + policy.poll_s:
            return NOTHING
        self._polled_s = self._now_s
        action = self._do(policy.poll(Progress(**self._standing(len(self._passes)))))
        if action.stop:
            self._sync()  # as when the limit is raised so high that QEMU ends the pass
        return action

    def _do(self, action: Action) -> Action:
        name = type(self._policy).__name__
        if not isinstance(action, Action):
            raise UsageError(f"{name} must return an Action, not {action!r}")
        if action.downtime_limit_s is not None:
            self._limit_s = number_within(
                f"the downtime limit that {name} asks for", action.downtime_limit_s, 0, math.inf,
                "seconds",
            )  # fmt: skip
        if action.throttle is not None:
            throttle = number_within(f"the throttle that {name} asks for", action.throttle, 0, 1)
            self._throttle = min(throttle, _MOST_THROTTLE)
        if action.defer is not None:
            if not isinstance(action.defer, Interval):
                raise UsageError(
                    f"{name} must defer the pages of an Interval, not {action.defer!r}"
                )
            if self._pages is None:
                raise UsageError("pages can be deferred only where they are known: replay a trace")
            self._pages.defer(action.defer)
        return action

    def _send(self) -> None:
        if self._now_s >= self._changes_s:
            self._link.carry(self._bandwidth.at(self._now_s))
            self._changes_s = self._bandwidth.change_after(self._now_s)
        # A step over a slow link takes long, and does not outlast it by more than others would.
        step_s = min(self._link.step_s, max(self._changes_s - self._now_s, 2 * _STEP_S))
        # With nothing to send but what is deferred, time passes all the same.
        took_s = self._link.send(step_s) if self._sendable_pages else step_s
        self._memory.run(took_s * (1 - self._throttle))
        self._throttled_s += took_s * self._throttle
        self._now_s += took_s
        if self._now_s >= self._looked_s + _MEASURE_S:
            sent = self._link.sent_bytes - self._looked_bytes
            self._measured_Bps = sent / (self._now_s - self._looked_s)
            self._looked_s, self._looked_bytes = self._now_s, self._link.sent_bytes

    def _switch_over(self) -> Course:
        if self._pages is not None:
            self._pages.defer(None)
        self._sync()
        paused_s = self._host.switchover_s + self._send_rest()
        return self._course(True, paused_s, more_s=paused_s)

    def _go_on_there(self) -> Course:
        """Post-copy: the guest waits for its devices' state, and later for each page it misses."""
        if self._pages is not None:
            self._pages.defer(None)
        self._sync()
        missing, paused_s = self._memory.pending_pages, self._host.switchover_s
        more_s = paused_s + self._send_rest()
        return self._course(True, paused_s, more_s=more_s, postcopy_pages=missing)

    def _send_rest(self) -> float:
        took_s = 0.0
        while self._memory.pending_pages:
            now_s = self._now_s + took_s
            self._link.carry(self._bandwidth.at(now_s))
            took_s += self._link.send(self._bandwidth.change_after(now_s) - now_s)
        return took_s

    def _course(
        self, converged: bool, downtime_s: float, *, more_s: float = 0.0,
        cancelled: bool = False, postcopy_pages: float = 0.0,
    ) -> Course:  # fmt: skip
        return Course(
            converged, self._now_s + more_s, self._link.sent_bytes, downtime_s, self._throttled_s,
            tuple(self._passes), cancelled, postcopy_pages,
        )  # fmt: skip


def _ends(action: Action) -> bool:
    return action.stop or action.postcopy or action.give_up
