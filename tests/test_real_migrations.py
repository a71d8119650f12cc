"""The forecast of recorded QEMU migrations: held to QEMU, and to the results in the repository."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benches"))

import forecast_models  # noqa: E402
from migration_data import read, unpacked  # noqa: E402

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
