"""Forecasts to hold ours against, from the same trace and with the same knowledge.

The Huawei-style predictor: QEMU patch series "migration prediction", 2023, not merged. The
geometric series: any textbook on pre-copy (Clark et al. 2005 have its idea).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from migration_data import Run

from mempattern.curve import DirtyCurve
from mempattern.migration.migrations import Migrations, memories
from mempattern.migration.outlook import Outlook
from mempattern.migration.precopy import Course
from mempattern.migration.recording import Recording
from mempattern.migration.replayed import ReplayedMemory
from mempattern.migration.zeros import zeros_by_group

PAGE, HEADER, ZERO = 4096, 8, 9


@dataclass(frozen=True)
class Predicted:
    """None: not said by this model."""

    converges: bool | None
    total_s: float | None = None
    sent_bytes: float | None = None
    downtime_s: float | None = None


def ours(run: Run) -> Migrations:
    """The recording played out over the run's link."""
    recording = Recording(run.before)
    zeros = zeros_by_group(recording, run.nonzero_pages)
    return Migrations(
        recording, memories(recording, None, zeros, run.chunk_pages),
        run.case.bandwidth_Bps, patience_s=run.case.patience_s,
    )  # fmt: skip


def ours_from_curve(run: Run, curve: DirtyCurve) -> Migrations:
    """The same with nothing but D(t)."""
    return Migrations(
        curve, memories(curve, *pages(run), run.chunk_pages),
        run.case.bandwidth_Bps, patience_s=run.case.patience_s,
    )  # fmt: skip


def plain_replay(run: Run) -> Migrations:
    """The same with one course alone, which starts where the trace does."""
    recording = Recording(run.before)
    zeros = zeros_by_group(recording, run.nonzero_pages)
    memory = ReplayedMemory(recording, [0.0], zeros, chunk_pages=run.chunk_pages)
    return Migrations(
        recording, [memory], run.case.bandwidth_Bps, patience_s=run.case.patience_s, courses=1
    )


def courses(run: Run) -> list[Course]:
    """What the forecast is made of."""
    return ours(run).courses_with(run.limit_s)


def middles(said: Outlook) -> Predicted:
    if said.likelihood < 0.5 or not (said.total_s and said.sent_bytes and said.downtime_s):
        return Predicted(False)
    return Predicted(True, said.total_s.middle, said.sent_bytes.middle, said.downtime_s.middle)


def ranges(said: Outlook) -> dict[str, tuple[float, float]]:
    figures = {
        "total_s": said.total_s, "sent_bytes": said.sent_bytes, "downtime_s": said.downtime_s
    }  # fmt: skip
    return {name: (one.low, one.high) for name, one in figures.items() if one is not None}


def pages(run: Run) -> tuple[int, int]:
    """All, and those that hold only zeros."""
    n_pages = sum(region.n_pages for region in run.before[-1].regions)
    return n_pages, n_pages - sum(map(sum, run.nonzero_pages))


def huawei(run: Run, curve: DirtyCurve) -> Predicted:
    """Pass times t_k = bytes / B and pages D(t_k), until t_k is within the limit."""
    bandwidth = run.case.bandwidth_Bps
    n_pages, zero = pages(run)
    sent = (n_pages - zero) * (PAGE + HEADER) + zero * HEADER
    total_s, n_bytes, pass_s = 0.0, 0.0, sent / bandwidth
    while pass_s > run.limit_s:
        total_s += pass_s
        n_bytes += pass_s * bandwidth
        if total_s > run.case.patience_s:
            return Predicted(False)
        pass_s = curve.at(pass_s).pages * (PAGE + HEADER) / bandwidth
    return Predicted(True, total_s + pass_s, n_bytes + pass_s * bandwidth, pass_s)


def geometric(run: Run, curve: DirtyCurve) -> Predicted:
    """A constant dirty rate, that of a second: each pass is the one before times rate / B."""
    bandwidth = run.case.bandwidth_Bps
    n_pages, zero = pages(run)
    ratio = curve.at(1.0).pages * PAGE / bandwidth
    first_s = (n_pages - zero) * PAGE / bandwidth
    if first_s <= run.limit_s:
        rounds = 0
    elif ratio >= 1:
        return Predicted(False)
    elif ratio <= 0:
        rounds = 1
    else:
        rounds = math.ceil(math.log(run.limit_s / first_s) / math.log(ratio))
    total_s = sum(first_s * ratio**k for k in range(rounds + 1))
    if total_s > run.case.patience_s:
        return Predicted(False)
    return Predicted(True, total_s, total_s * bandwidth, first_s * ratio**rounds)


def qemus_own(run: Run) -> Predicted:
    """`expected-downtime`, as QEMU said it last before it stopped the guest."""
    said = [p["expected-downtime"] for p in run.polls if "expected-downtime" in p]
    return Predicted(None, downtime_s=said[-1] / 1e3 if said else None)
