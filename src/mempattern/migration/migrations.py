"""Migrations of one workload over one link, played out when they are asked about."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import SupportsIndex

import numpy as np

from mempattern._checks import positive, positive_seconds, whole_number
from mempattern.curve import DirtyCurve
from mempattern.errors import UsageError
from mempattern.interval import Bitmap
from mempattern.migration.descend import Descend
from mempattern.migration.expected import ExpectedMemory
from mempattern.migration.memory import Memory
from mempattern.migration.outlook import (
    MODEL_ERROR,
    SURE,
    Outlook,
    Phase,
    PostCopy,
    Range,
    outlook_of,
    range_of,
)
from mempattern.migration.policies.base import Policy
from mempattern.migration.policies.qemu import Stock
from mempattern.migration.precopy import (
    MEASURED,
    PAGE_HEADER_BYTES,
    Course,
    Host,
    precopy,
    usual_patience_s,
)
from mempattern.migration.recording import Recording
from mempattern.migration.replayed import ReplayedMemory
from mempattern.migration.zeros import spread_zeros, unwritten
from mempattern.quantities import format_bandwidth, format_duration

COURSES = 12
"""Equally likely courses of the guest that are played out ..."""
_LARGE_PAGES = 1 << 24
"""... and at most three times, of VMs with more pages."""
_PHASES = 12
"""Moments of a period that are tried, ..."""
_GLANCE = 3
"""... with so many courses, before one of them is looked at closely."""
_LONGEST = 200
"""Times what was observed: to replay it more often takes long, and says nothing."""
_QUIET_S = 5.0
"""Without a new low for so long, or for a loop of the recording if that is longer, pending pages
are taken to get no lower."""
_HOPELESS = 0.9
"""A limit so much below the smallest that will do will not."""
_MARGIN_S = 1.0
"""On what the first pass takes: it ends with a step of sending."""
_NEVER_S = 1e-9
"""A downtime limit that ends no pass early."""


class Migrations:
    """Migrations of one workload over one link, played out when they are asked about, and once.

    `memories` are the workload's, of which several migrations may make use in turn; the other
    arguments are those of `forecast`, which has the errors too.
    """

    def __init__(
        self,
        workload: Recording | DirtyCurve,
        memories: Sequence[Memory],
        bandwidth_Bps: float,
        *,
        host: Host = MEASURED,
        patience_s: float | None = None,
        courses: SupportsIndex | None = None,
    ) -> None:
        self.bandwidth_Bps: float = positive("bandwidth_Bps", bandwidth_Bps, "bytes/s")
        self.workload: Recording | DirtyCurve = workload
        self.host: Host = host
        self._memories, memory = memories, memories[0]
        self.page_s: float = (memory.page_bytes + PAGE_HEADER_BYTES) / self.bandwidth_Bps
        if courses is None:
            courses = min(max(_LARGE_PAGES // memory.n_pages, 1) * 3, COURSES)
        n_courses = whole_number(courses, 1, 10_000)
        if n_courses is None:
            raise UsageError(f"courses must be a whole number from 1 to 10000, not {courses!r}")
        # Of a curve each memory goes the same way each time.
        is_curve = isinstance(workload, DirtyCurve)
        self.courses: int = len(memories) if is_curve else max(n_courses, len(memories))
        self._enough_s = usual_patience_s(memory.n_pages, memory.page_bytes, self.bandwidth_Bps)
        self.patience_s: float = positive_seconds(
            "patience_s", self._enough_s if patience_s is None else patience_s
        )
        self._played: dict[tuple[float, Callable[[], Policy]], list[Course]] = {}

    def check_observed(self) -> None:
        """Raises `UsageError` if the recording is so short that to send all memory once takes more
        than 200 times as long."""
        workload, bulk_s = self.workload, self._memories[0].n_pages * self.page_s
        if isinstance(workload, Recording) and bulk_s > _LONGEST * workload.duration_s:
            raise UsageError(
                f"at {format_bandwidth(self.bandwidth_Bps)} all memory takes "
                f"{format_duration(bulk_s)}, and {format_duration(workload.duration_s)} were "
                f"observed, which tells nothing of it; observe for longer, or give a faster link"
            )

    def outlook(self, limit_s: float, policy: Callable[[], Policy] = Stock) -> Outlook:
        """Of a migration with that downtime limit that begins now."""
        return outlook_of(self.courses_with(limit_s, policy))

    def longest_pass_s(self, limit_s: float) -> float:
        """Of all courses with that downtime limit; 0.0 if none got beyond its first pass."""
        return max(
            (
                after.at_s - before.at_s
                for course in self.courses_with(limit_s, Stock)
                for before, after in itertools.pairwise(course.passes)
            ),
            default=0.0,
        )

    def least_limit_s(self) -> Range:
        """The smallest downtime limit with which one ends."""
        return range_of([
            min(done.pending_bytes for done in descent.passes[1:]) / self.bandwidth_Bps
            for descent in self._descents
        ])  # fmt: skip

    def postcopy(self) -> PostCopy:
        """What is pending after the first pass is sent while the guest runs at the destination."""
        firsts = [course.passes[1] for course in self._descents]
        pages = [done.pending_pages for done in firsts]
        left_s = [n * self.page_s for n in pages]
        total_s = [done.at_s + s for done, s in zip(firsts, left_s, strict=True)]
        sent = [done.sent_bytes + s * self.bandwidth_Bps
                for done, s in zip(firsts, left_s, strict=True)]  # fmt: skip
        more = max(self._most_pages(firsts[-1].at_s) - max(pages), 0.0)
        return PostCopy(
            total_s=range_of(total_s, MODEL_ERROR, more=more * self.page_s),
            sent_bytes=range_of(sent, MODEL_ERROR, more=more * self.page_s * self.bandwidth_Bps),
            missing_pages=range_of(pages, more=more),
            degraded_s=range_of(left_s, more=more * self.page_s),
        )

    def _most_pages(self, duration_s: float) -> float:
        """That may be written in a time longer than was observed, 0 if it is not: D(t) is concave,
        so that t is at most so many times what was seen."""
        workload = self.workload
        if isinstance(workload, DirtyCurve) or duration_s <= workload.duration_s:
            return 0.0
        return min(workload.touched_pages * duration_s / workload.duration_s, workload.n_pages)

    def better_phase(self, limit_s: float) -> Phase | None:
        """Start later, but within a period: is any moment clearly better than now?

        So must be the moments before and after it, a twelfth of the period away: nobody starts a
        migration more exactly than that.
        """
        workload = self.workload
        if isinstance(workload, DirtyCurve) or workload.period_s is None:
            return None
        (memory,) = self._memories
        assert isinstance(memory, ReplayedMemory)
        now, best = self.outlook(limit_s), None
        if now.converges is False and self._is_hopeless(limit_s):
            return None  # the descents went through all phases
        waits_s = [float(s) for s in np.arange(1, _PHASES) * workload.period_s / _PHASES]
        outlooks = [self._later(memory, wait_s, limit_s, _GLANCE) for wait_s in waits_s]
        better = [_is_better(then, now) for then in outlooks]
        for i in range(1, len(waits_s) - 1):
            clearly = all(better[i - 1 : i + 2])
            if clearly and (best is None or _is_better(outlooks[i], outlooks[best])):
                best = i
        if best is None:
            return None
        then = self._later(memory, waits_s[best], limit_s, self.courses)
        phase = Phase(waits_s[best], workload.period_s, then)
        return phase if _is_better(then, now) else None

    def _later(
        self, memory: ReplayedMemory, wait_s: float, limit_s: float, courses: int
    ) -> Outlook:
        seeds = range(min(courses, self.courses))
        with memory.started_later(wait_s):
            return outlook_of(self._play(limit_s, Stock, self.patience_s, seeds))

    @property
    def _first_pass_s(self) -> float:
        """No first pass takes longer, whether all pages hold only zeros or none does."""
        page_s = max(self.page_s, 1 / self.host.zero_pages_per_s)
        return self.host.setup_s + self._memories[0].n_pages * page_s + _MARGIN_S

    @functools.cached_property
    def _descents(self) -> list[Course]:
        """Each ends its first pass, whatever the patience is."""
        workload = self.workload
        loop_s = workload.duration_s - workload.loop_s if isinstance(workload, Recording) else 0.0
        return self._play(
            _NEVER_S, lambda: Descend(max(_QUIET_S, loop_s)),
            max(self.patience_s, self._enough_s, self._first_pass_s), range(self.courses),
        )  # fmt: skip

    def courses_with(self, limit_s: float, policy: Callable[[], Policy] = Stock) -> list[Course]:
        """Of a migration with that downtime limit that begins now, one by one."""
        if (limit_s, policy) not in self._played:
            self._played[limit_s, policy] = self._new_courses(limit_s, policy)
        return self._played[limit_s, policy]

    def _new_courses(self, limit_s: float, policy: Callable[[], Policy]) -> list[Course]:
        """It takes its time to wait for the patience to end, in course after course: that is left
        out where the descents show that it would."""
        if policy is Stock and "_descents" in vars(self) and self._is_hopeless(limit_s):
            return self._descents
        first = self._play(limit_s, policy, self.patience_s, range(1))
        if policy is Stock and not first[0].converged and self._is_hopeless(limit_s):
            return self._descents
        return first + self._play(limit_s, policy, self.patience_s, range(1, self.courses))

    def _is_hopeless(self, limit_s: float) -> bool:
        return limit_s < _HOPELESS * self.least_limit_s().low

    def _play(
        self, limit_s: float, policy: Callable[[], Policy], patience_s: float, seeds: range
    ) -> list[Course]:
        return [
            precopy(
                self._memories[seed % len(self._memories)], self.bandwidth_Bps, limit_s,
                policy=policy(), host=self.host, patience_s=patience_s, seed=seed,
            )
            for seed in seeds
        ]  # fmt: skip


def _is_better(then: Outlook, now: Outlook) -> bool:
    if then.likelihood < SURE or then.total_s is None:
        return False
    if now.likelihood < SURE or now.total_s is None:
        return True
    return then.total_s.high < now.total_s.low


def memories(
    workload: Recording | DirtyCurve,
    n_pages: SupportsIndex | None,
    zero: SupportsIndex | Sequence[Bitmap],
    chunk_pages: SupportsIndex,
) -> list[Memory]:
    """What migrations of the workload work on. Raises `UsageError` as `forecast` does."""
    if isinstance(workload, DirtyCurve):
        if isinstance(zero, Iterable) or n_pages is None:
            raise UsageError(
                "a curve does not say how large the VM is: give n_pages, and zero as a number"
            )
        return [
            ExpectedMemory(
                workload, n_pages, zero, bound=bound, zeros=zeros, chunk_pages=chunk_pages
            )
            for zeros in (("evenly", "last") if zero else ("evenly",))
            for bound in ("low", "pages", "high")
        ]
    zeros: list[Bitmap] | None
    if isinstance(zero, Iterable):
        zeros = unwritten(workload, zero)
    else:
        n_zero = whole_number(zero, 0, workload.n_pages)
        if n_zero is None:
            raise UsageError(
                f"zero must be a whole number of pages from 0 to the VM's {workload.n_pages}, or a "
                f"bitmap for each region, not {zero!r}"
            )
        zeros = spread_zeros(workload, n_zero) if n_zero else None
    return [ReplayedMemory(workload, workload.starts_s, zeros, chunk_pages=chunk_pages)]
