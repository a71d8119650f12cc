"""What the rules look at: what is known of a VM or a region, and what of it needs no rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mempattern.classify.features import Order
from mempattern.classify.kinds import Evidence


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known of a VM or a region; of the rows that are intervals the last is the newest."""

    past: npt.NDArray[np.uint64]
    """(n_groups, n_pages) of the sample: bit i says if the page was dirty i intervals ago."""
    places: npt.NDArray[np.int64]
    """(n_groups,): where a row's pages begin, in pages."""
    known: npt.NDArray[np.int64]
    """(n_groups,): how many intervals of a row's past are known."""
    fraction: float
    """Sampled pages as a share of the pages of all groups that were active lately."""
    counts: npt.NDArray[np.int64]
    """(n, 5): dirty, redirtied and fresh pages, active groups, runs."""
    times_ns: npt.NDArray[np.int64]
    """(n, 2): start and end."""
    lost_pages: npt.NDArray[np.int64]
    """(n,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """What the rules look at."""

    seen: Known
    n: int
    """Intervals of the window: the last ones, of which the sample knows the past."""
    past: npt.NDArray[np.uint64]
    """Of the groups known for so long; older bits are 0."""
    places: npt.NDArray[np.int64]
    fraction: float
    order: Order
    evidence: Evidence

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        return self.seen.counts[-self.n :]

    @property
    def lengths_s(self) -> npt.NDArray[np.float64]:
        return np.asarray(np.diff(self.seen.times_ns[-self.n :], axis=1)[:, 0] / 1e9)


def measure(seen: Known, past: npt.NDArray[np.uint64], n: int) -> Evidence:
    """What needs no rule."""
    dirty, redirtied = (int(column.sum()) for column in seen.counts[-n:, :2].T)
    lengths_s = np.diff(seen.times_ns[-n:], axis=1)[:, 0] / 1e9
    span_s = float(seen.times_ns[-1, 1] - seen.times_ns[-n, 0]) / 1e9
    often = np.bitwise_count(past[past != 0]).astype(np.int64)
    mean = float(often.mean()) if often.size else 0.0
    distinct = dirty / mean if mean else 0.0
    share = np.minimum(seen.counts[-n:, 0] / max(distinct, 1.0), 1.0)  # of them, by interval
    random, even = float((share * (1 - share)).sum()), mean % 1 * (1 - mean % 1)
    lost = int(seen.lost_pages[-n:].sum())
    return Evidence(
        n_intervals=n,
        duration_s=span_s,
        dirty_pages_per_s=dirty / float(lengths_s.sum()),
        redirtied_share=redirtied / dirty if dirty else 0.0,
        distinct_pages=distinct,
        sampled_pages=int(often.size),
        rewritten_share=mean / n,
        spread=(float(often.var()) - even) / (random - even) if random > even + 1e-9 else 1.0,
        known_share=min(1.0, float(lengths_s.sum()) / span_s) * (1 - lost / max(1, lost + dirty)),
    )
