"""How much of a workload was observed, and how well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_LARGEST_PAGE = 1 << 16
"""In bytes. What is larger is hugetlb memory, of which a tracer sees whole pages written."""


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """What a verdict on a migration can rest on.

    Arrays have the shape (n,), one number an interval: of all intervals, or of a sample of them.
    """

    durations_s: npt.NDArray[np.float64]
    """(n,) float64: of each interval."""
    dirty_pages: npt.NDArray[np.float64]
    """(n,) float64: pages written in each interval."""
    n_intervals: int
    """Of all, also where the arrays have a sample."""
    duration_s: float
    """Of all intervals together."""
    dirtied_pages: float
    """Dirty pages summed over all intervals."""
    touched_pages: int
    """Distinct ones of all intervals."""
    n_pages: int
    """Of the VM's RAM, written or not."""
    lost_pages: int
    """Dirty pages known to be missing, at least."""
    n_lossy: int
    """Intervals that they are missing from."""
    unseen_s: float
    """Between the intervals."""
    page_bytes: int
    """Of a page, as it was traced."""

    @property
    def is_coarse(self) -> bool:
        """Its pages are larger than what KVM logs and QEMU sends: an upper bound of both."""
        return self.page_bytes > _LARGEST_PAGE

    def __len__(self) -> int:
        return self.n_intervals

    @property
    def usual_s(self) -> float:
        """Half of the time lies in intervals that are at least so long. There must be one."""
        lengths = np.sort(self.durations_s)
        return float(lengths[np.searchsorted(lengths.cumsum(), lengths.sum() / 2)])
