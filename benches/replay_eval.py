"""Every recorded migration replayed over the very pages written while it ran, beside QEMU's report.

python benches/replay_eval.py RESULTS.json

Nothing here is a forecast: the guest does what it did, and what differs is the simulator, when in
an interval of 50 ms a page was written, and the machine.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from migration_data import SETS, Run, runs, unpacked, while_it_ran

from mempattern.migration.precopy import Course, precopy
from mempattern.migration.replayed import ReplayedMemory

NEARLY = (1.0, 0.99, 0.9925, 0.995, 0.9975, 1.0, 1.0025, 1.005, 1.0075, 1.01)
"""Times the link's bandwidth, each with another draw of when in an interval a page was written. The
first one counts; from the others follows how much depends on what nobody knows so exactly."""


class Replay:
    """One run's recording, to be migrated any number of times."""

    def __init__(self, run: Run) -> None:
        self._run = run
        ran = while_it_ran(run)
        self.recorded_s = ran.recording.duration_s - ran.start_s
        """Of the migration, until the guest was stopped."""
        self._memory = ReplayedMemory(
            ran.recording, [ran.start_s], ran.zero, chunk_pages=run.chunk_pages
        )

    def migrate(self, seed: int = 0, of_bandwidth: float = 1.0) -> Course:
        """As stock QEMU does, with the run's limit, link and patience."""
        case = self._run.case
        return precopy(
            self._memory, case.bandwidth_Bps * of_bandwidth, self._run.limit_s,
            patience_s=case.patience_s, seed=seed,
        )  # fmt: skip

    def figures(self, course: Course) -> dict[str, Any]:
        """As `reported`; `extrapolated_s` is the guest time beyond what was recorded."""
        said: dict[str, Any] = {
            "converges": course.converged, "total_s": course.total_s,
            "sent_bytes": course.sent_bytes, "passes": len(course.passes),
        }  # fmt: skip
        ran_s = course.total_s
        if course.converged:
            said["downtime_s"] = course.downtime_s
            ran_s -= course.downtime_s
        return said | {"extrapolated_s": max(ran_s - self.recorded_s, 0.0)}


def reported(run: Run) -> dict[str, Any]:
    """What QEMU said in the end, or last of a migration that was cancelled."""
    if not run.completed:
        last = [poll for poll in run.polls if "dirty-sync-count" in poll][-1]
        return {
            "converges": False, "total_s": (last["ns"] - run.started_ns) / 1e9,
            "sent_bytes": last["transferred"], "passes": last["dirty-sync-count"],
        }  # fmt: skip
    return {
        "converges": True, "total_s": run.total_s, "sent_bytes": run.sent_bytes,
        "passes": run.result["ram"]["dirty-sync-count"], "downtime_s": run.downtime_s,
    }  # fmt: skip


def evaluate(run: Run) -> dict[str, Any]:
    replay = Replay(run)
    courses = [replay.migrate(seed, share) for seed, share in enumerate(NEARLY)]
    return {
        "case": asdict(run.case),
        "reported": reported(run),
        "simulated": replay.figures(courses[0]),
        "nearly": [replay.figures(course) for course in courses],
        "reported_passes": [
            {"number": done["pass"], "at_s": (done["ns"] - run.started_ns) / 1e9,
             "sent_bytes": done["transferred"], "remaining_bytes": done["remaining"]}
            for done in run.passes if "transferred" in done
        ],
        "simulated_passes": [
            {"number": done.number, "at_s": done.at_s, "sent_bytes": done.sent_bytes,
             "remaining_bytes": done.pending_bytes}
            for done in courses[0].passes
        ],
    }  # fmt: skip


def main() -> None:
    (out,) = sys.argv[1:]
    results = {name: [evaluate(run) for run in runs(unpacked(name))] for name in SETS}
    Path(out).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
