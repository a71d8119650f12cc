"""What grows is measured as it says, on guests too small to tell anything; page and picture."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent.parent / "benches"))
sys.path.append(str(Path(__file__).parent.parent / "docs"))
import growth
import growth_report
import tiles

KINDS = ("dense", "sparse", "clustered")
GIB = 0.25


@pytest.fixture(scope="module")
def found():
    """As `growth.main` has it, of a small guest."""
    few = {"rounds": 3, "most": 2}
    return {
        "machine_info": {"cpu": {"count": 2}, "processor": "x86_64", "system": "Linux",
                         "release": "6", "python_version": "3", "numpy": "2"},
        "classes": dict.fromkeys(KINDS, "a trace"),
        "middle_gib": GIB,
        "memory": list(growth.memory(GIB, many=40)),
        "by_size": list(growth.by_size((GIB, 2 * GIB))),
        "by_density": list(growth.by_density(GIB)),
        "by_group": list(growth.by_group(GIB)),
        "by_threads": list(growth.by_threads(GIB, **few)),
    }  # fmt: skip


def test_every_work_is_timed_at_every_size_and_class(found):
    seen = {(row["work"], row["kind"], row["gib"]) for row in found["by_size"]}
    assert seen == {(work, kind, gib) for work in growth.WORK for kind in KINDS
                    for gib in (GIB, 2 * GIB)}  # fmt: skip
    assert all(min(row["seconds"]) > 0 for row in found["by_size"])


def test_threads_take_turns_and_each_number_has_all_rounds(found):
    assert {(row["kind"], row["threads"]) for row in found["by_threads"]} == {
        (kind, n) for kind in KINDS for n in (1, 2)
    }
    assert all(len(row["seconds"]) == 3 for row in found["by_threads"])


def test_shares_are_those_of_the_bitmaps(found):
    names = [row["name"] for row in found["by_density"] if row["name"]]
    assert names == [trace.name for trace in tiles.corpus()]
    shares = [row["share"] for row in found["by_density"] if not row["name"]]
    assert np.allclose(shares, growth.SHARES, rtol=0.1, atol=1e-5)


def test_memory_is_what_the_features_say_of_themselves(found):
    rows = {(row["feature"], row["kind"]): row for row in found["memory"]}
    assert len(rows) == 4 * len(KINDS)
    n_pages = GIB * (1 << 18)
    for (feature, _), row in rows.items():
        assert row["n_pages"] == n_pages
        if feature == "GroupStats":  # two bitmaps and 44 bytes a group, and the alignment
            assert row["reserved_bytes"] >= n_pages / 4 + n_pages / 512 * 44
            assert row["reserved_bytes"] <= n_pages / 4 + n_pages / 512 * 44 + (2 << 20)


def test_clocks_stop_early_only_where_the_time_is_up():
    assert len(growth.rounds_s(lambda: None, 7)) == 7


def test_the_page_has_a_row_for_each_and_the_goal(found, tmp_path):
    path = tmp_path / "growth.json"
    path.write_text(json.dumps(found))
    page = growth_report.markdown(path)
    assert page.count(f"| {GIB:g} GiB, ") == len(KINDS)
    assert page.count("| `") == len(tiles.corpus())
    assert page.count("| pages anywhere |") == len(growth.SHARES)
    assert "bits a guest page:\nreserved " in page


@pytest.mark.parametrize(
    ("n_bytes", "said"),
    [(24, "reserved 1.50, reached; backed 1.50, reached"),
     (25, "reserved 1.56, MISSED; backed 1.56, MISSED")],
)  # fmt: skip
def test_the_goal_is_the_statistics_own(n_bytes, said):
    own = {"feature": "GroupStats", "n_pages": 128, "reserved_bytes": n_bytes,
           "backed_bytes": n_bytes}  # fmt: skip
    other = {**own, "feature": "DistinctPages", "reserved_bytes": 10**6}
    assert growth_report.verdict([own, other]) == said


def test_speeds_of_threads_are_told_from_one_s():
    rows = [{"threads": n, "kind": "dense", "seconds": [s]} for n, s in ((1, 1.0), (2, 1.25))]
    assert growth_report.thread_lines(rows)[-2:] == ["| 1 | 1.00 |", "| 2 | 1.60 |"]


def test_the_picture_is_drawn(found, tmp_path):
    pytest.importorskip("matplotlib").use("agg")
    import draw_growth  # noqa: PLC0415 - needs matplotlib

    path = tmp_path / "growth.json"
    path.write_text(json.dumps(found))
    draw_growth.draw(path, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 10_000
