"""What is to be expected of a migration: figures, and between what they are expected to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mempattern.migration.precopy import Course

MODEL_ERROR = 0.04
"""Of time and bytes, and ..."""
_DOWNTIME_ERROR = 0.03
DOWNTIME_ERROR_S = 0.01
"""... both of the downtime: by how much real runs differ from a course that is exactly theirs. The
development runs of docs/forecast-results.md were within, nine of ten."""
SURE = 0.9
"""Share of the courses that makes a statement."""


@dataclass(frozen=True, slots=True)
class Range:
    """A figure, and between what it is expected to be (nine of ten times)."""

    low: float
    """The 5 % quantile of the courses, less the model's own error where one is known."""
    middle: float
    """Their median."""
    high: float
    """Their 95 % quantile, and that error more."""

    def __str__(self) -> str:
        return f"{self.middle:.4g} ({self.low:.4g} to {self.high:.4g})"


@dataclass(frozen=True, slots=True)
class Outlook:
    """What one way to migrate will do.

    Figures are of the courses that converged; None if none did. `likelihood` is their share.
    """

    likelihood: float
    total_s: Range | None
    """From the migration's beginning to the last byte, with the downtime."""
    sent_bytes: Range | None
    """Over the link in all of that time, with page headers."""
    downtime_s: Range | None
    """From the stop of the guest until it can go on at the destination."""
    passes: Range | None
    """Bitmap syncs, as QEMU counts them."""
    throttled_s: float
    """Guest time that throttling takes, the mean."""

    @property
    def converges(self) -> bool | None:
        """None where it may and may not."""
        return None if 1 - SURE < self.likelihood < SURE else self.likelihood >= SURE


@dataclass(frozen=True, slots=True)
class PostCopy:
    """Switching to post-copy after the first pass."""

    total_s: Range
    """From the migration's beginning to the last byte."""
    sent_bytes: Range
    """Over the link in all of that time, with page headers."""
    missing_pages: Range
    """Pages that the guest may have to wait for: at most so many faults over the network."""
    degraded_s: Range
    """How long it may have to wait."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A better moment to start than now, of a workload that repeats itself."""

    wait_s: float
    """From the end of what was observed."""
    period_s: float
    """After which the workload repeats itself."""
    outlook: Outlook
    """With the same downtime limit, started then."""


def outlook_of(courses: list[Course]) -> Outlook:
    ended = [course for course in courses if course.converged]
    throttled = float(np.mean([course.throttled_s for course in courses]))
    likelihood = len(ended) / len(courses)
    if not ended:
        return Outlook(likelihood, None, None, None, None, throttled)
    return Outlook(
        likelihood,
        total_s=range_of([c.total_s for c in ended], MODEL_ERROR),
        sent_bytes=range_of([c.sent_bytes for c in ended], MODEL_ERROR),
        downtime_s=range_of([c.downtime_s for c in ended], _DOWNTIME_ERROR, DOWNTIME_ERROR_S),
        passes=range_of([len(c.passes) for c in ended]),
        throttled_s=throttled,
    )


def range_of(
    values: Sequence[float], share: float = 0.0, amount: float = 0.0, *, more: float = 0.0
) -> Range:
    """Of equally likely values, widened by the model's own error, and upwards by `more`."""
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return Range(
        max(float(low) * (1 - share) - amount, 0.0),
        float(middle),
        float(high) * (1 + share) + amount + more,
    )
