"""Policies replayed over one recorded trace: what each would have made of the same migration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mempattern.interval import Bitmap
from mempattern.migration.bandwidth import Bandwidth
from mempattern.migration.memory import CHUNK_PAGES
from mempattern.migration.policies.base import Policy
from mempattern.migration.precopy import MEASURED, Host
from mempattern.migration.recording import Recording

End = Literal["completed", "cancelled", "not converged", "trace ended", "failed"]
"""How a replay ended: the guest moved; the policy gave up; the patience was over; the trace was,
which was not to be looped; the policy raised an error, or asked for what makes no sense."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one migration under one policy."""

    policy: str
    end: End
    total_s: float
    """Until the guest was at the destination with all its memory, or the migration ended."""
    sent_bytes: float
    downtime_s: float
    """NaN if the guest was not stopped."""
    passes: int
    """Bitmap syncs, as QEMU counts them."""
    throttled_s: float
    """Guest time that throttling took."""
    postcopy_pages: float
    """At most so many faults over the network, of a guest that went on at the destination."""
    extrapolated_s: float
    """Of guest time that lies beyond the trace's end, where it goes on at `Recording.loop_s`."""
    error: str = ""
    """Of a policy that failed."""

    @property
    def success(self) -> bool:
        """The guest moved."""
        return self.end == "completed"


def simulate(
    recording: Recording,
    policies: Mapping[str, Callable[[], Policy]],
    bandwidth: float | Bandwidth,
    ceiling_s: float,
    *,
    downtime_limit_s: float = 0.3,
    start_s: float = 0.0,
    zero: Sequence[Bitmap] | None = None,
    past_end: Literal["loop", "refuse"] = "loop",
    chunk_pages: int = CHUNK_PAGES,
    host: Host = MEASURED,
    patience_s: float | None = None,
) -> list[Outcome]:
    """The same migration under each policy, in their order; `oracle` is reckoned from all of it.

    It begins `start_s` into the recording, over a link of that many bytes/s. `ceiling_s` is the
    longest downtime that a policy may cause, `downtime_limit_s` QEMU's setting at the beginning.
    `patience_s` is when it is given up: by default ten times what sending all of RAM once takes,
    and at least a minute.

    Raises `UsageError` for numbers that make no sense. What a policy raises is told in its outcome.
    """
    raise NotImplementedError
