"""Whether what was observed tells what a migration will do: better no advice than a wrong one."""

from __future__ import annotations

import numpy as np

from mempattern.migration.migrations import Migrations
from mempattern.migration.observed import Observed
from mempattern.quantities import format_duration

FEWEST = 20
"""Intervals: it takes so many for a workload's ups and downs to show."""
_MOST_UNSEEN = 0.1
"""Of the time: what a slow disk drops are the intervals in which most was written."""
_MOST_LOST = 0.01
"""Of the dirty pages; how many were lost is known as a lower bound only."""
_COARSE = 2.0
"""Intervals longer than so many downtime limits do not tell what is written in one."""


def doubt(observed: Observed, migrations: Migrations, limit_s: float, *, ends: bool) -> str | None:
    """What there would have to be observed for a verdict on a migration with that downtime limit.

    `ends` is the verdict. That it ends is wrong if more is written than was seen, that it does not
    is right all the more; and the other way round if the pages are too large to tell. None if the
    verdict stands.
    """
    pages, observed_s = observed.dirty_pages, observed.duration_s
    missing = (
        (observed.unseen_s, _MOST_UNSEEN * observed_s,
         f"{format_duration(observed.unseen_s)} between its intervals were not observed"),
        (observed.lost_pages * ends, _MOST_LOST * observed.dirtied_pages,
         f"at least {observed.lost_pages} dirty pages are missing from it"),
        (observed.is_coarse and not ends, 0,
         f"its pages are {observed.page_bytes >> 20} MiB large, and of one QEMU sends only the "
         f"4 KiB that are written, which KVM's dirty log shows"),
    )  # fmt: skip
    for amount, most, words in missing:
        if amount > most:
            return f"observe again: {words}"

    # D(t) is concave: t is at most so many times what was seen.
    longest_s = migrations.longest_pass_s(limit_s)
    more = max(longest_s / observed_s, 1.0)
    most_s = min(observed.touched_pages * more, observed.n_pages) * migrations.page_s
    if ends and most_s <= limit_s:
        return None  # all that is written in the longest pass can be sent while the guest stands
    if len(observed) < FEWEST:
        n = len(observed)
        return f"observe for longer: {n} interval{'s show' if n > 1 else ' shows'} too little"
    if ends and longest_s > observed_s and most_s > observed_s:
        return (
            f"observe for longer: its first pass takes {format_duration(longest_s)}, and only "
            f"{format_duration(observed_s)} were observed"
        )
    usual_s = observed.usual_s
    if usual_s > _COARSE * limit_s and np.quantile(pages, 0.95) * migrations.page_s > limit_s:
        return (
            f"observe in shorter intervals, of {format_duration(limit_s / 2)}: these of "
            f"{format_duration(usual_s)} do not tell how much is written within a downtime"
        )
    return None
