"""The peers' table, from rows made by hand."""

import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "benches"))
import peers_table

ABOUT = {"missing": {"CRoaring": "it is not here"}, "patience_s": 0.2, "n_traces": 29,
         "classes": {"dense": "stress-vm"}}  # fmt: skip


def row(against, values, at_least=None, unit="x"):
    return {"against": against, "values": values, "unit": unit, "at_least": at_least,
            "at_most": None}  # fmt: skip


def found(name, *rows):
    return f"bench_peers[{name}]", {"rows": list(rows), **ABOUT}


RUNS = found("runs-corpus", row("ours", [2.0], unit=" ms"), row("plain C", [0.5], 1.0))
COUNTS = found(
    "counts-64GiB-dense",
    row("ours", [1.0, 2.0, 3.0], unit=" ms"),
    row("NumPy", [9.0, 9.0, 9.0], 10.0),
    row("bitarray", [80.0], 10.0),
    row("limit", [0.9, 0.9, 0.9], 0.8),
)


def test_a_row_has_ours_each_peer_and_what_was_missed(tmp_path):
    path = tmp_path / "peers.json"
    benches = [{"name": name, "extra_info": info} for name, info in (RUNS, COUNTS)]
    path.write_text(json.dumps({"benchmarks": benches}))
    lines = peers_table.markdown(path).splitlines()
    assert [line for line in lines if "corpus |" in line or "GiB" in line] == [
        "| **counts** | 64GiB, dense | 2 ms | 9 (9 to 9) | - | 80 | - | - | - | 0.9 (0.9 to 0.9) "
        "| NumPy |",
        "| runs | corpus | 2 ms | - | - | - | - | 0.5 | - | - | plain C |",
    ]
    assert "*dense* is `stress-vm`" in " ".join(lines)
    assert "Not measured: it is not here." in " ".join(lines)


def test_a_terminal_gets_the_same_and_who_is_missing():
    lines = peers_table.peers_lines([("bench_other", {}), RUNS, COUNTS])
    assert len(lines) == 4
    assert lines[1].split()[:3] == ["runs", "corpus", "2"]
    assert lines[2].endswith("  NumPy")
    assert lines[3] == "it is not here"
    assert peers_table.peers_lines([("bench_other", {})]) == []
