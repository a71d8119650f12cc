"""Will this VM migrate, when, and at what cost: pre-copy played out before it is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsIndex

from mempattern._checks import positive_seconds
from mempattern.curve import DirtyCurve
from mempattern.interval import Bitmap
from mempattern.migration.memory import CHUNK_PAGES
from mempattern.migration.migrations import Migrations, memories
from mempattern.migration.outlook import (
    Outlook,
    Phase,
    PostCopy,
    Range,
)
from mempattern.migration.policies.qemu import AutoConverge
from mempattern.migration.precopy import MEASURED, Host
from mempattern.migration.recording import Recording


@dataclass(frozen=True, slots=True)
class Forecast:
    """What to expect of a migration over this link."""

    bandwidth_Bps: float
    """Of the link."""
    downtime_limit_s: float
    """QEMU's setting, which `stock`, `auto_converge` and `phase` go by."""
    ceiling_s: float
    """The longest downtime that could be allowed."""
    stock: Outlook
    """With this limit, and nothing done during the migration."""
    earliest: Outlook
    """With the ceiling as the limit: switched over as soon as the ceiling allows it."""
    least_limit_s: Range
    """The smallest downtime limit with which it ends."""
    auto_converge: Outlook
    """With this limit, and QEMU's auto-converge throttling the guest."""
    postcopy: PostCopy
    """With post-copy begun after the first pass."""
    phase: Phase | None
    """None where no start is clearly better than now."""
    notes: tuple[str, ...]
    """What limits the trust in these figures."""


def forecast(
    workload: Recording | DirtyCurve,
    bandwidth_Bps: float,
    downtime_limit_s: float = 0.3,
    *,
    ceiling_s: float | None = None,
    n_pages: SupportsIndex | None = None,
    zero: SupportsIndex | Sequence[Bitmap] = 0,
    chunk_pages: SupportsIndex = CHUNK_PAGES,
    host: Host = MEASURED,
    patience_s: float | None = None,
    courses: SupportsIndex | None = None,
) -> Forecast:
    """Play the migration out, from now on, in `courses` equally likely ways.

    `workload` is a recording, or a curve D(t) of a VM of `n_pages`. `zero` says how many pages hold
    only zeros, or which (a bitmap a region). `ceiling_s` is the longest downtime that could be
    allowed, by default the limit. `patience_s` is when a migration that has not ended is given up:
    by default ten times what sending all of RAM once takes, and at least a minute. `courses` is 12
    by default, and fewer for VMs of more than 16 GiB; of a curve they are its three bounds,
    each with its zero pages evenly among the others and behind them.

    Raises `UsageError` for numbers that are not positive and finite, for a curve without n_pages,
    and if sending all memory once takes more than 200 times what was observed.
    """
    migrations = Migrations(
        workload, memories(workload, n_pages, zero, chunk_pages), bandwidth_Bps,
        host=host, patience_s=patience_s, courses=courses,
    )  # fmt: skip
    migrations.check_observed()
    downtime_limit_s = positive_seconds("downtime_limit_s", downtime_limit_s)
    ceiling_s = positive_seconds("ceiling_s", downtime_limit_s if ceiling_s is None else ceiling_s)
    return Forecast(
        bandwidth_Bps=migrations.bandwidth_Bps,
        downtime_limit_s=downtime_limit_s,
        ceiling_s=ceiling_s,
        stock=migrations.outlook(downtime_limit_s),
        earliest=migrations.outlook(ceiling_s),
        least_limit_s=migrations.least_limit_s(),
        auto_converge=migrations.outlook(downtime_limit_s, AutoConverge),
        postcopy=migrations.postcopy(),
        phase=migrations.better_phase(downtime_limit_s),
        notes=notes_on(workload, migrations.longest_pass_s(downtime_limit_s)),
    )


def _extrapolated(workload: Recording | DirtyCurve, longest_pass_s: float) -> str | None:
    """A sentence, if a pass takes longer than was observed."""
    observed_s = (
        workload.duration_s if isinstance(workload, Recording) else float(workload.window_s[-1])
    )
    if longest_pass_s <= observed_s:
        return None
    return (
        f"observed for {observed_s:.1f} s, but a pass takes {longest_pass_s:.1f} s: what is "
        f"written in so long a time was extrapolated; observe for longer"
    )


def notes_on(
    workload: Recording | DirtyCurve, longest_pass_s: float, where: str = ""
) -> tuple[str, ...]:
    """What limits the trust in figures, of which `where` says for which link they are."""
    found = _extrapolated(workload, longest_pass_s)
    faults = workload.faults() if isinstance(workload, Recording) else []
    return (*([where + found] if found else []), *faults)
