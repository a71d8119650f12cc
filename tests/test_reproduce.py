"""The short form of the experiment on real QEMUs (benches/reproduce.py), and how it counts."""

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "benches"))
import reproduce
import reproduce_report
from reproduce_data import CEILING_S, change, load, mean


@pytest.fixture(scope="module")
def file(tmp_path_factory, kvm, qemu, uffd, experiment):
    path = tmp_path_factory.mktemp("reproduce") / "results.jsonl"
    reproduce.run(reproduce.SHORT, reproduce.Results(path))
    return path


def test_the_short_form_comes_out_as_the_long_one(file):
    runs = {(run.guest.name, run.policy): run for run in load(file)}
    assert len(runs) == len(reproduce.SHORT)
    assert all(run.intact for run in runs.values())
    assert not runs["sweep", "stock"].completed
    assert all(run.completed for key, run in runs.items() if key != ("sweep", "stock"))
    assert runs["sweep", "mp"].n_stops == 1
    assert not runs["small-hot", "mp"].is_early
    assert not runs["small-hot", "best"].is_early
    for run in runs.values():  # what the guest saw is what QEMU says
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


def test_guests_count_the_same_however_often_they_ran(tmp_path):
    def line(guest, number, total_s, status="completed"):
        end = {
            "status": status,
            "total_s": total_s,
            "sent_bytes": 1,
            "downtime_s": 1.0,
            "number": 3,
        }
        return json.dumps(
            {
                "arm": "log",
                "guest": guest,
                "policy": "mp",
                "round": number,
                "end": end,
                "blackout_s": 1.0,
                "intact": True,
                "limit_s": None,
                "decisions": [],
            }
        )

    path = tmp_path / "results"
    path.write_text("\n".join([
        line("sweep", 0, 2.0), line("sweep", 1, 4.0), line("sweep", 2, 3.0), line("grow", 0, 9.0),
        line("grow", 1, 99.0, "cancelled"), line("sweep", -1, 99.0),
    ]))  # fmt: skip
    runs = load(path)
    assert len(runs) == 5
    found = mean(runs, lambda run: run.total_s)
    assert found.value == pytest.approx((3 + 9) / 2)
    assert 5.5 <= found.low < 6 < found.high <= 6.5
    half = [run for run in runs if run.guest.name == "sweep"]
    assert change(half, runs, lambda run: run.total_s).value == pytest.approx(0)
