"""The evidence's arithmetic, on migrations made by hand."""

import dataclasses
import math
import sys
from pathlib import Path

import pytest

BENCHES = str(Path(__file__).parent.parent / "benches")
sys.path.insert(0, BENCHES)
import evidence_report as report  # noqa: E402
from evidence_data import Migration  # noqa: E402
from migration_data import read, unpacked, while_it_ran  # noqa: E402

sys.path.remove(BENCHES)

from mempattern.migration.registry import POLICIES  # noqa: E402
from mempattern.migration.simulate import Outcome  # noqa: E402


def migration(trace="t", ceiling_s=1.0, **told):
    """Each policy's total time and downtime; None for one that does not move the guest. All but
    those told take 20 s and 290 ms."""
    outcomes = {}
    for name in POLICIES:
        total_s, downtime_s, *more = told.get(name.replace("-", "_"), (20.0, 0.29)) or (99.0, None)
        moved = downtime_s is not None
        outcomes[name] = Outcome(
            name, "completed" if moved else "not converged", total_s, total_s * 1e8,
            downtime_s if moved else math.nan, 5, *(more or [0.0]), 0.0, total_s / 4,
        )  # fmt: skip
    return Migration("held", trace, 1e8, ceiling_s, outcomes)


EASY = migration("easy", best=(11.0, 0.25), oracle=(10.0, 0.9), relaxed=(10.0, 0.95))
HARD = migration("hard", stock=None, best=(12.0, 0.8), oracle=(10.0, 1.0), mp=(13.0, 1.2),
                 relaxed=(11.5, 0.99))  # fmt: skip
EARLY = migration("early", stock=(15.0, 0.2), best=(16.0, 0.7), oracle=(10.0, 1.0))
HOPELESS = migration("no", stock=None, best=(30.0, 0.9, 9.0), oracle=None, relaxed=None)
ALL = [EASY, HARD, EARLY, HOPELESS]


def row(policy):
    head = report.at_ceiling(ALL).splitlines()[0].strip("| ").split(" | ")
    cells = report.policy_row(policy, ALL)
    assert len(head) == len(cells)
    return cells


def test_a_row_by_hand():
    moves, elsewhere, over, early, time, data, slower, more, both, downtime, *rest = row("best")[1:]
    assert (moves, elsewhere, over, early) == ("3 of 3", "1 of 1", "0", "1")
    assert (time, data, downtime) == ("12.00 s", "1200 MB", "700 ms")  # of 11, 12, 16
    assert (slower, more) == ("20.0 %", "20.0 %")  # of 10, 20, 60 %
    assert both == "35.0 %"  # easy and early: stock moves these, too
    assert rest[0] == "30.0 %"  # 9 of 30 s
    assert rest[-1] == "25.0 %"


def test_what_is_over_the_ceiling_is_not_moved():
    assert row("mp")[1:5] == ["2 of 3", "1 of 1", "1", "0"]
    assert row("stock")[1:5] == ["2 of 3", "0 of 1", "0", "0"]


def test_rivals_by_hand():
    """Who moved the guest where one did not; who was nowhere worse and somewhere better."""
    assert "best" in report.rivals_of("stock", HARD)
    assert "mp" not in report.rivals_of("stock", HARD)  # over the ceiling
    assert report.rivals_of("best", HARD) == []  # relaxed is sooner, but stops it for longer
    assert "stock" in report.rivals_of("best", EARLY)
    assert "oracle" not in report.rivals_of("stock", HOPELESS)
    assert report.clear_rivals_of("best", EASY) == []


def outcome(total_s=10.0, downtime_s=0.2, sent_bytes=1e9, end="completed"):
    return Outcome("p", end, total_s, sent_bytes, downtime_s, 3, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("better", "worse", "clearly"),
    [
        (outcome(), outcome(10.09, 0.209), False),  # too little to tell
        (outcome(10.09), outcome(downtime_s=0.25), True),  # and so it is no loss, either
        (outcome(10.2), outcome(downtime_s=0.25), False),
        (outcome(), outcome(10.2), True),
        (outcome(), outcome(sent_bytes=1.02e9), True),
        (outcome(), outcome(downtime_s=math.nan, end="not converged"), False),
    ],
)
def test_clear_domination_by_hand(better, worse, clearly):
    assert report.clearly_dominates(better, worse) is clearly
    assert not report.clearly_dominates(worse, better)


def test_goals_are_met_or_missed():
    said = report.goals(ALL)
    assert said.count("**Missed**") == 3  # 20 % above 5 %, an early stop, and dominated by stock
    assert "**Met**: success wherever the oracle succeeds, 3 of 3." in said
    assert "**Met**: never over the ceiling, 0 over." in said
    assert "**Missed**: no early stop of a guest that stock would have moved, 1 of 2." in said
    assert "dominated by no baseline, 2 of 4. early at 800 Mbit/s: by stock" in said
    assert "in 0 it throttled a guest that `relaxed` moved" in said


def test_nine_of_ten():
    assert report.tenth(n / 100 for n in range(101)) == "90.0 %"
    assert report.tenth([]) == "-"


@pytest.mark.parametrize("name", ["dev-20", "dev-hard-05"])
def test_guest_time_ends_where_the_guest_was_stopped(name):
    run = read(unpacked("dev") / f"{name}.json")
    ran = while_it_ran(run)
    most_s = run.total_s - run.downtime_s if run.completed else math.inf
    assert ran.recording.duration_s - ran.start_s == pytest.approx(most_s, abs=1e-3)
    uncut = dataclasses.replace(run, result=run.result | {"status": "cancelled"})
    assert while_it_ran(uncut).recording.duration_s > ran.recording.duration_s
