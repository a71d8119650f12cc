"""Recorded QEMU migrations: forecasts of them, and replays over the pages written while they ran.

Both are held to what QEMU reported; forecasts to the results in the repository, too.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from migrations import BARE, PAGES
from recordings import idle, record

from mempattern.migration.precopy import precopy
from mempattern.migration.replayed import ReplayedMemory

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benches"))

import forecast_models  # noqa: E402
from migration_data import read, unpacked  # noqa: E402
from replay_eval import Replay, reported  # noqa: E402

FIGURES = ("total_s", "sent_bytes", "downtime_s")
# Chunked and whole logs, phases, a sweep near the link's speed, and what does not end.
CASES = ("dev-02", "dev-05", "dev-20", "dev-22", "dev-33", "dev-39", "dev-fierce-09", "dev-hard-05",
         "dev-fierce-01", "dev-hard-17")  # fmt: skip


@pytest.fixture(scope="module")
def results():
    rows = json.loads((ROOT / "benches/results/forecast.json").read_text())["dev"]
    return {row["case"]["name"]: row for row in rows}


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_migration(name, results):
    run = read(unpacked("dev") / f"{name}.json")
    assert run.before[-1].end_ns <= run.started_ns
    said = forecast_models.middles(forecast_models.ours(run).outlook(run.limit_s))
    assert said.converges == run.completed
    for figure in FIGURES if run.completed else ():
        actual, stored = getattr(run, figure), results[name]["predicted"]["mempattern"][figure]
        slack = {"rel": 0.2, "abs": 0.012} if figure == "downtime_s" else {"rel": 0.06}
        assert getattr(said, figure) == pytest.approx(actual, **slack)
        assert getattr(said, figure) == pytest.approx(stored, rel=0.02, abs=1e-3)


# One pass, and up to 27; chunked and whole logs; both accelerators; limits of 100 ms to 1 s.
REPLAYED = ("dev-05", "dev-07", "dev-09", "dev-21", "dev-33", "dev-39", "dev-fierce-09",
            "dev-hard-14", "dev-hard-20", "dev-hard-21")  # fmt: skip


@pytest.mark.parametrize("name", REPLAYED)
def test_a_replayed_migration(name):
    run = read(unpacked("dev") / f"{name}.json")
    said, replay = reported(run), Replay(run)
    ours = replay.figures(replay.migrate())
    assert ours["converges"]
    assert ours["passes"] == pytest.approx(said["passes"], abs=1, rel=0.1)
    assert ours["sent_bytes"] == pytest.approx(said["sent_bytes"], rel=0.02)
    assert ours["total_s"] == pytest.approx(said["total_s"], rel=0.025)
    # A step is 51 ms, and the last one ends anywhere below the limit.
    assert ours["downtime_s"] == pytest.approx(said["downtime_s"], abs=0.02, rel=0.06)
    assert ours["extrapolated_s"] < 0.01 * ours["total_s"]


@pytest.mark.parametrize("name", ["dev-18", "dev-fierce-00", "dev-hard-06"])
def test_a_replayed_migration_that_does_not_end(name):
    run = read(unpacked("dev") / f"{name}.json")
    said, replay = reported(run), Replay(run)
    ours = replay.figures(replay.migrate())
    assert not ours["converges"]
    assert ours["passes"] == pytest.approx(said["passes"], abs=1, rel=0.05)
    assert ours["sent_bytes"] == pytest.approx(said["sent_bytes"], rel=0.01)


@pytest.mark.parametrize("name", ["dev-hard-17", "dev-fierce-06", "dev-fierce-00", "dev-hard-23"])
def test_a_step_is_as_long_as_qemus(name):
    """QEMU's `mbps` is of two steps and a whole number of milliseconds, which tells their pages."""
    run = read(unpacked("dev") / f"{name}.json")
    bandwidths = {poll["mbps"] for poll in (*run.polls, *run.passes) if poll.get("mbps")}
    pages = [found for mbps in bandwidths if (found := _pages_of_two_steps(mbps))]
    assert len(pages) > 30
    # With no limit at all, a migration goes on until it knows its bandwidth: for two steps.
    memory = ReplayedMemory(record(idle(PAGES, 10)), [0.0])
    ours = precopy(memory, run.case.bandwidth_Bps, 1e9, host=BARE).passes[1].sent_bytes / 4104
    assert ours == pytest.approx(np.mean(pages), rel=0.08)


def _pages_of_two_steps(mbps):
    """A step is 1 + 64 k pages of 4104 bytes, with 18 bytes around them."""
    for ms in range(100, 260):
        n_bytes = mbps * ms * 125
        pages, more = divmod(round(n_bytes) - 36, 4104)
        if abs(n_bytes - round(n_bytes)) < 2e-3 and more == 0 and pages % 64 == 2:
            return pages
    return None
