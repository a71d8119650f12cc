"""QEMU's pre-copy, pass by pass, over a memory that is replayed or expected.

As migration/migration.c and migration/ram.c of QEMU 7.2 do it: RAM is sent in steps of some 50 ms;
once what remains is below bandwidth times downtime limit, the dirty log is fetched, and if it still
is, the guest is stopped, the log is fetched once more, and the rest is sent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mempattern._checks import number_within, positive, positive_seconds
from mempattern.migration.memory import Memory
from mempattern.migration.policies import Pass, Policy, Stock

PAGE_HEADER_BYTES = 8
"""Before each page of the block that was sent last (`save_page_header`)."""
ZERO_PAGE_BYTES = 9
"""A header and one byte (`save_zero_page_to_file`)."""
_STEP_S = 0.0505
"""`ram_save_iterate` ends when more than 50 whole milliseconds are over (MAX_WAIT) ..."""
_STEP_PAGES = 64
"""... at which it looks after so many pages."""
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
    total_s: float
    sent_bytes: float
    downtime_s: float
    """NaN if the guest was not stopped."""
    throttled_s: float
    """Guest time taken by throttling."""
    passes: tuple[Pass, ...]
    """One for each sync."""


class _Link:
    """The link, and what it holds: bytes handed to it are gone, until it is full."""

    def __init__(self, memory: Memory, bandwidth_Bps: float, host: Host) -> None:
        self._memory, self._bandwidth = memory, bandwidth_Bps
        self._page_bytes = memory.page_bytes + PAGE_HEADER_BYTES
        self.page_s = self._page_bytes / bandwidth_Bps
        self._zero_s = max(ZERO_PAGE_BYTES / bandwidth_Bps, 1 / host.zero_pages_per_s)
        self._room_s = self._most_s = host.buffer_s
        self.sent_bytes = 0.0

    def send(self, duration_s: float) -> float:
        """Send for about so long; returns the time it took."""
        sent = self._memory.send(duration_s, self.page_s, self._zero_s)
        n_bytes = (sent.pages - sent.zero_pages) * self._page_bytes
        n_bytes += sent.zero_pages * ZERO_PAGE_BYTES
        self.sent_bytes += n_bytes
        looking_s = sent.zero_pages * self._zero_s
        sending_s = sent.duration_s - looking_s
        at_once_s = min(self._room_s, sending_s)
        drained_s = looking_s - sent.zero_pages * ZERO_PAGE_BYTES / self._bandwidth
        self._room_s = min(self._room_s - at_once_s + drained_s, self._most_s)
        return sent.duration_s - at_once_s


def precopy(
    memory: Memory,
    bandwidth_Bps: float,
    downtime_limit_s: float,
    *,
    policy: Policy | None = None,
    host: Host = MEASURED,
    patience_s: float = 3600.0,
    seed: int = 0,
) -> Course:
    """One migration of the memory over a link of that many bytes/s.

    It is given up after `patience_s`, or when the policy says so. `seed` picks the guest's course.
    Raises `UsageError` for a bandwidth or a patience that is not positive and finite.
    """
    bandwidth_Bps = positive("bandwidth_Bps", bandwidth_Bps, "bytes/s")
    patience_s = positive_seconds("patience_s", patience_s)
    policy = policy or Stock()
    link = _Link(memory, bandwidth_Bps, host)
    step_s = link.page_s * _STEP_PAGES * math.ceil(_STEP_S / (link.page_s * _STEP_PAGES))
    now_s, throttle, throttled_s = host.setup_s, 0.0, 0.0
    looked_s, looked_bytes, measured_Bps = now_s, 0.0, 0.0
    passes: list[Pass] = []

    def sync() -> Pass:
        left = memory.pending_pages
        pending = memory.sync()
        passes.append(Pass(len(passes) + 1, now_s, link.sent_bytes, left, pending,
                           memory.page_bytes, measured_Bps))  # fmt: skip
        return passes[-1]

    def is_low() -> bool:
        pending = memory.pending_pages
        return pending < 1 or pending * memory.page_bytes < measured_Bps * downtime_limit_s

    memory.start(seed)
    sync()
    while now_s < patience_s:
        if is_low():
            action = policy.after(sync())
            if action.give_up:
                break
            if action.downtime_limit_s is not None:
                downtime_limit_s = action.downtime_limit_s
            if action.throttle is not None:
                throttle = action.throttle
            if action.stop or is_low():
                sync()
                paused_s = host.switchover_s + link.send(math.inf)
                return Course(True, now_s + paused_s, link.sent_bytes, paused_s, throttled_s,
                              tuple(passes))  # fmt: skip
        took_s = link.send(step_s)
        memory.run(took_s * (1 - throttle))
        throttled_s += took_s * throttle
        now_s += took_s
        if now_s >= looked_s + _MEASURE_S:
            measured_Bps = (link.sent_bytes - looked_bytes) / (now_s - looked_s)
            looked_s, looked_bytes = now_s, link.sent_bytes
    return Course(False, now_s, link.sent_bytes, math.nan, throttled_s, tuple(passes))
