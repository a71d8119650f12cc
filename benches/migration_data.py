"""The recorded migrations, as `migration_run.py` left them."""

from __future__ import annotations

import json
import math
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from migration_cases import Case

from mempattern.interval import Bitmap, Interval
from mempattern.migration.recording import Recording
from mempattern.migration.zeros import zeros_by_group
from mempattern.trace import TraceReader


@dataclass(frozen=True)
class Run:
    """One migration: what was asked for, what was seen before and during it, what QEMU said."""

    case: Case
    before: list[Interval]
    """Until it began: all that a forecast may use."""
    during: list[Interval]
    started_ns: int
    passes: list[dict[str, Any]]
    polls: list[dict[str, Any]]
    result: dict[str, Any]
    nonzero_pages: list[list[int]]

    @property
    def completed(self) -> bool:
        return bool(self.result["status"] == "completed")

    @property
    def total_s(self) -> float:
        return self.result["total-time"] / 1e3

    @property
    def downtime_s(self) -> float:
        return self.result["downtime"] / 1e3

    @property
    def sent_bytes(self) -> int:
        return int(self.result["ram"]["transferred"])

    @property
    def limit_s(self) -> float:
        return self.case.downtime_limit_ms / 1e3

    @property
    def chunk_pages(self) -> int:
        """Under TCG a sync clears the log."""
        return 1 << self.case.clear_shift if self.case.accel == "kvm" else 0


HERE = Path(__file__).parent
SETS = ("dev", "held")
"""For choosing, and for judging."""


def unpacked(which: str) -> Path:
    """The directory of a set's runs, which the repository has as one archive."""
    directory = HERE.parent / "build/migrations" / which
    if not directory.exists():
        with tarfile.open(HERE / f"data/migrations-{which}.tar.xz") as archive:
            archive.extractall(directory.parent, filter="data")
    return directory


def runs(directory: Path) -> Iterator[Run]:
    for path in sorted(directory.glob("*.json")):
        yield read(path)


def read(path: Path) -> Run:
    said = json.loads(path.read_text())
    with TraceReader(path.with_suffix(".mpt")) as trace:
        intervals = list(trace)
    start = said["started_ns"]
    return Run(
        case=Case(**said["case"]),
        before=[interval for interval in intervals if interval.end_ns <= start],
        during=[interval for interval in intervals if interval.end_ns > start],
        started_ns=start,
        passes=said["passes"],
        polls=said["polls"],
        result=said["result"],
        nonzero_pages=said["nonzero_pages"],
    )


@dataclass(frozen=True)
class Ran:
    """What the guest of a run wrote, until QEMU stopped it, and what its memory was before."""

    recording: Recording
    start_s: float
    """When the migration began."""
    zero: list[Bitmap]
    """Pages that held only zeros then."""


def while_it_ran(run: Run) -> Ran:
    intervals = list(_guest_time(run))
    recording = Recording(intervals)
    start_s = sum(
        (min(interval.end_ns, run.started_ns) - interval.start_ns) / 1e9
        for interval in intervals if interval.start_ns < run.started_ns
    )  # fmt: skip
    before = recording.until(start_s)
    if before is None:
        raise ValueError(f"{run.case} was not traced before it migrated")
    zero = zeros_by_group(before, run.nonzero_pages)
    return Ran(recording, start_s, zero)


def _guest_time(run: Run) -> Iterator[Interval]:
    """All intervals until QEMU stopped the guest: what was seen after that is not guest time."""
    ran_s = run.total_s - run.downtime_s if run.completed else math.inf
    stopped_ns = run.started_ns + ran_s * 1e9
    for interval in (*run.before, *run.during):
        if interval.end_ns <= stopped_ns:
            yield interval
        elif interval.start_ns < stopped_ns:
            yield replace(interval, end_ns=round(stopped_ns))
