"""The short form of the experiment on real QEMUs (benches/reproduce.py), and how it counts."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent.parent / "benches"))
import reproduce
import reproduce_report
from blackout import Blackout
from reproduce_data import CEILING_S, load, mean
from reproduce_program import _wrong


@pytest.fixture(scope="module")
def file(tmp_path_factory, kvm, qemu, uffd, experiment):
    path = tmp_path_factory.mktemp("reproduce") / "results.jsonl"
    reproduce.run(reproduce.SHORT, reproduce.Results(path))
    return path


def test_the_short_form_comes_out_as_the_long_one(file):
    runs = {(run.guest.name, run.policy): run for run in load(file)}
    assert len(runs) == len(reproduce.SHORT)
    kvm = [run for run in runs.values() if run.arm == "log"]  # QEMU loses writes under TCG
    assert all(run.intact for run in kvm)
    assert not runs["sweep", "stock"].completed
    assert all(run.completed for key, run in runs.items() if key != ("sweep", "stock"))
    assert runs["sweep", "mp"].n_stops == 1
    assert not runs["small-hot", "mp"].is_early
    assert not runs["small-hot", "best"].is_early
    for run in kvm:  # what the guest saw is what QEMU says
        if run.completed:
            assert run.downtime_s - 0.01 < run.blackout_s < run.downtime_s + 0.2
            assert run.downtime_s < 1.2 * CEILING_S  # the link's speed goes up and down


def test_what_is_there_is_not_done_again(file, monkeypatch):
    monkeypatch.setattr(reproduce, "migrate", lambda *_: pytest.fail("migrated again"))
    before = file.read_text()
    reproduce.run(reproduce.SHORT, reproduce.Results(file))
    assert file.read_text() == before


def test_a_report_is_made_of_it(file):
    text = "\n".join(reproduce_report.report(load(file)))
    assert "**Met**: stock moves none of the intensive guests: 0 of 1" in text
    assert "| **mp** | 2 of 2 |" in text


def test_a_round_has_each_once_and_in_its_own_order():
    first, second = (
        reproduce.cells(number, at_home=True) + reproduce.cells(number, at_home=False)
        for number in (0, 1)
    )
    assert len(set(first)) == len(first)
    assert sorted(cell[:3] for cell in first) == sorted(cell[:3] for cell in second)
    assert [cell[:3] for cell in first] != [cell[:3] for cell in second]
    assert {cell[2] for cell in first if cell[:2] == ("tcg", "sweep")} == set(reproduce.FEW)
    assert {cell[2] for cell in first if cell[:2] == ("tcg", "redis")} == set(reproduce.POLICIES)


def line(guest, policy, number, total_s, *, status="completed", did=(), **more):
    end = {"status": status, "total_s": total_s, "sent_bytes": 1, "downtime_s": 0.2, "number": 3}
    end |= {key: more.pop(key) for key in ("downtime_s",) if key in more}
    decisions = [{"did": each} for each in did]
    return json.dumps({"arm": "log", "guest": guest, "policy": policy, "round": number, "end": end,
                       "blackout_s": 0.2, "intact": True, "limit_s": None, "passes": [],
                       "decisions": decisions} | more)  # fmt: skip


def loaded(tmp_path, *lines):
    path = tmp_path / "results"
    path.write_text("\n".join(lines))
    return load(path)


def seconds(run):
    return run.total_s


def test_guests_count_the_same_however_often_they_ran(tmp_path):
    runs = loaded(
        tmp_path,
        line("sweep", "mp", 0, 2.0), line("sweep", "mp", 1, 4.0), line("sweep", "mp", 2, 3.0),
        line("grow", "mp", 0, 9.0), line("grow", "mp", 1, 9.0), line("grow", "mp", 2, 9.0),
        line("grow", "mp", 3, 99.0, status="cancelled"), line("sweep", "mp", -1, 99.0),
    )  # fmt: skip
    assert len(runs) == 7
    found = mean(runs, seconds)
    assert found.value == pytest.approx((3 + 9) / 2)
    assert found.n_guests == 2
    low, high = found.interval
    assert 5.5 <= low < 6 < high <= 6.5
    assert mean(runs[:2], seconds).interval is None  # two runs tell no spread
    assert mean([], seconds) is None


def test_a_policy_is_compared_guest_by_guest_with_those_that_both_move(tmp_path):
    runs = loaded(
        tmp_path,
        line("sweep", "mp", 0, 2.0), line("sweep", "stock", 0, 4.0),
        line("grow", "mp", 0, 9.0), line("grow", "stock", 0, 10.0),
        line("zipf", "mp", 0, 3.0), line("zipf", "stock", 0, 2.0),
        line("phased", "mp", 0, 1.0), line("phased", "stock", 0, 99.0, status="cancelled"),
    )  # fmt: skip
    found = reproduce_report.changed(runs, "mp", "stock", seconds)
    assert found.value == pytest.approx((2 / 4 + 9 / 10 + 3 / 2) / 3 - 1)
    assert found.n_guests == 3
    low, high = found.interval
    assert -0.5 <= low < found.value < high <= 0.5
    back = reproduce_report.changed(runs, "stock", "mp", seconds)
    assert back.value == pytest.approx((4 / 2 + 10 / 9 + 2 / 3) / 3 - 1)


@pytest.mark.parametrize(
    ("more", "early", "over", "intact"),
    [
        ({}, False, False, True),
        ({"downtime_s": 0.31}, False, False, True),
        ({"downtime_s": 0.33}, True, False, True),
        ({"downtime_s": 1.51, "blackout_s": 1.4}, True, True, True),
        ({"downtime_s": 1.4, "blackout_s": 1.51}, True, True, True),
        ({"intact": False}, False, False, False),
        ({"blackout_s": None}, False, False, False),  # it never ran where it arrived
        ({"status": "cancelled", "downtime_s": None, "blackout_s": None}, False, False, True),
    ],
)
def test_a_run_is_judged_by_all_that_was_seen(more, early, over, intact, tmp_path):
    (run,) = loaded(tmp_path, line("sweep", "mp", 0, 2.0, **more))
    assert (run.is_early, run.is_over, run.intact) == (early, over, intact)


def test_the_last_limit_is_the_one_that_was_set_last(tmp_path):
    runs = loaded(
        tmp_path,
        line("sweep", "mp", 0, 2.0),
        line("sweep", "mp", 1, 2.0, limit_s=0.7),
        line("sweep", "mp", 2, 2.0,
             did=["downtime limit 40 ms", "stop and copy: downtime limit 1395 ms", "cancel"]),
    )  # fmt: skip
    assert [run.last_limit_s for run in runs] == [0.3, 0.7, 1.395]
    assert [run.n_stops for run in runs] == [0, 0, 1]


def test_what_has_not_run_is_no_goal_met():
    text = "\n".join(reproduce_report.verdicts([], [], []))
    assert "Met" not in text
    assert "**Open**" in text


@pytest.mark.parametrize(
    ("best", "word"),
    [((1.0, 3.0, 2.0), "Met"), ((9.0, 10.0, 9.0), "Missed"), ((1.0, 9.0, 4.0), "Open")],
)
def test_what_the_runs_do_not_settle_is_open(best, word, tmp_path):
    guests = ("sweep", "grow", "zipf")
    runs = loaded(
        tmp_path,
        *(line(guest, "mp", 0, 4.0) for guest in guests),
        *(line(guest, "best", 0, total_s) for guest, total_s in zip(guests, best, strict=True)),
    )
    text = "\n".join(reproduce_report.verdicts(runs, [], runs))
    assert f"- **{word}**: `best` takes less time than `mp`: " in text


@pytest.mark.parametrize("what", ["fill", "page", "count", "lost"])
def test_wrong_memory_is_seen(what):
    memory, source = FakeMemory(), FakeMemory()
    assert _wrong(memory, source, 3, np.array([0, 1, 0, 2, 1])) == ""
    if what == "fill":
        memory.fill[-1] ^= 1
    elif what == "page":
        memory.pages[1, 1023] = 1
    elif what == "count":
        memory.pages[:, 0] = 3, 0, 1
    else:  # consistent, but of a time before the migration
        memory.pages[:, 0] = 1, 1, 0
    assert _wrong(memory, source, 3, np.array([0, 1, 0, 2, 1]))


class FakeMemory:
    """A program that has written pages 0, 1, 0 and 2."""

    def __init__(self):
        self.pages, self.fill = np.zeros((3, 1024), np.uint32), np.arange(100, dtype=np.uint32)
        self.pages[:, 0] = 2, 1, 1

    def steps(self):
        return 4

    def words(self, start, n_bytes):
        return self.pages.ravel() if n_bytes == 3 * 4096 else self.fill


def test_a_blackout_lasts_until_the_guest_goes_beyond_what_it_was():
    here, there = iter([1, 2, 3, 3, 3, 3, 3, 3]), iter([0, 1, 2, 2, 3, 3, 3, 4])
    read = {"here": 3, "there": 4}

    def next_of(values, name):
        read[name] = next(values, read[name])
        return read[name]

    with Blackout(lambda: next_of(here, "here"), lambda: next_of(there, "there")) as blackout:
        time.sleep(0.2)
    assert 0 < blackout.seconds < 0.2
    with Blackout(lambda: 3, lambda: 3) as blackout:  # it arrived, and never ran
        time.sleep(0.05)
    assert blackout.seconds is None
