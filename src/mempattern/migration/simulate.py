"""Policies replayed over one recorded trace: what each would have made of the same migration."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, SupportsIndex

from mempattern._checks import number_within, positive, positive_seconds
from mempattern.bitmaps import group_counts
from mempattern.errors import MempatternError
from mempattern.interval import Bitmap
from mempattern.migration.bandwidth import Bandwidth
from mempattern.migration.memory import CHUNK_PAGES
from mempattern.migration.oracle import oracle
from mempattern.migration.policies.base import Policy
from mempattern.migration.precopy import MEASURED, Course, Host, precopy, usual_patience_s
from mempattern.migration.recording import Recording
from mempattern.migration.replayed import ReplayedMemory, TraceEndError

_LONGEST_TEXT = 500

End = Literal["completed", "cancelled", "not converged", "trace ended", "failed"]
"""How a replay ended: the guest moved; the policy gave up; the patience was over; the trace was,
which was not to be looped; the policy raised an error, or asked for what makes no sense."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one migration under one policy."""

    policy: str
    """Its name among those given."""
    end: End
    """As `End` has it. After "trace ended" and "failed" the figures are NaN, and `passes` is 0."""
    total_s: float
    """Until the guest was at the destination with all its memory, or the migration ended."""
    sent_bytes: float
    """Over the link in all of that time, with page headers."""
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
    policies: Mapping[str, Callable[[], Policy] | None],
    bandwidth: float | Bandwidth,
    ceiling_s: float,
    *,
    downtime_limit_s: float = 0.3,
    start_s: float = 0.0,
    zero: Sequence[Bitmap] | None = None,
    past_end: Literal["loop", "refuse"] = "loop",
    chunk_pages: SupportsIndex = CHUNK_PAGES,
    host: Host = MEASURED,
    patience_s: float | None = None,
) -> list[Outcome]:
    """The same migration under each policy, in their order; None stands for the oracle.

    It begins `start_s` into the recording, over a link of that many bytes/s; a policy may ask for
    what was recorded before. `ceiling_s` is the longest downtime that a policy may cause,
    `downtime_limit_s` QEMU's setting at the beginning. `zero[r]` is a bitmap of region r's pages
    that hold only zeros as it begins. `patience_s` is when a migration is given up: by default ten
    times what sending all of RAM once takes, and at least a minute.

    Raises `UsageError` for numbers that make no sense. What a policy raises is told in its outcome.
    """
    if not isinstance(bandwidth, Bandwidth):
        bandwidth = Bandwidth((0.0, positive("bandwidth", bandwidth, "bytes/s")))
    start_s = number_within("start_s", start_s, 0, recording.duration_s, "seconds")
    if patience_s is None:
        patience_s = usual_patience_s(recording.n_pages, recording.page_bytes, bandwidth.at(0.0))
    replay = _Replay(
        ReplayedMemory(
            recording, [start_s], zero, chunk_pages=chunk_pages, loops=past_end == "loop"
        ),
        bandwidth,
        positive_seconds("downtime_limit_s", downtime_limit_s),
        positive_seconds("ceiling_s", ceiling_s),
        host,
        positive_seconds("patience_s", patience_s),
        _count_zeros(recording, zero),
        functools.cache(lambda: recording.until(start_s)),
    )
    return [replay.outcome(name, policy) for name, policy in policies.items()]


@dataclass(frozen=True, slots=True)
class _Replay:
    """One migration, to be played under one policy after the other."""

    memory: ReplayedMemory
    bandwidth: Bandwidth
    limit_s: float
    ceiling_s: float
    host: Host
    patience_s: float
    zero_pages: int
    observed: Callable[[], Recording | None]

    def play(self, policy: Policy) -> Course:
        return precopy(
            self.memory, self.bandwidth, self.limit_s, policy=policy, ceiling_s=self.ceiling_s,
            zero_pages=self.zero_pages, observed=self.observed, host=self.host,
            patience_s=self.patience_s,
        )  # fmt: skip

    def outcome(self, name: str, make: Callable[[], Policy] | None) -> Outcome:
        try:
            course = oracle(self.play, self.ceiling_s) if make is None else self.play(make())
        except TraceEndError as error:
            return _without_end(name, "trace ended", str(error))
        except (Exception, SystemExit, GeneratorExit) as error:  # a policy is anybody's code
            return _without_end(name, "failed", _told(error))
        end: End = "completed" if course.converged else "not converged"
        return Outcome(
            name, "cancelled" if course.cancelled else end, course.total_s, course.sent_bytes,
            course.downtime_s, len(course.passes), course.throttled_s, course.postcopy_pages,
            self._extrapolated_s(course),
        )  # fmt: skip

    def _extrapolated_s(self, course: Course) -> float:
        stopped_s = course.passes[-1].at_s if course.converged else course.total_s
        ran_s = stopped_s - self.host.setup_s - course.throttled_s
        return self.memory.beyond_end_s(ran_s)


def _told(error: BaseException) -> str:
    """In one line, of an error that may fail at telling what it is."""
    try:
        said = str(error) if isinstance(error, MempatternError) else repr(error)
    except Exception:
        said = type(error).__name__
    words = " ".join(said.split())
    return words if len(words) <= _LONGEST_TEXT else words[:_LONGEST_TEXT] + "..."


def _without_end(name: str, end: End, error: str) -> Outcome:
    nan = math.nan
    return Outcome(name, end, nan, nan, nan, 0, nan, nan, nan, error)


def _count_zeros(recording: Recording, zero: Sequence[Bitmap] | None) -> int:
    return sum(
        int(group_counts(words, region.n_pages).sum())
        for words, region in zip(zero or (), recording.regions, strict=False)
    )
