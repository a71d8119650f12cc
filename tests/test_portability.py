"""What portability.py finds and the page it is told on; the order in the ring's arm64 code."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "benches"))
import portability
import portability_report

ROOT = Path(__file__).parent.parent


def test_the_rings_arm64_code_acquires_and_releases(tmp_path):
    """As KVM_CAP_DIRTY_LOG_RING_ACQ_REL asks; where it is inlined does not matter."""
    compiler, disassembler = "aarch64-linux-gnu-gcc", "aarch64-linux-gnu-objdump"
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    built = tmp_path / "ring.o"
    includes = [f"-I{ROOT / 'csrc' / folder}" for folder in ("include", "bitmap")]
    subprocess.run(
        [compiler, "-std=gnu11", "-O2", *includes, "-c", ROOT / "csrc/kvm/harvest.c", "-o", built],
        check=True,
    )
    code = subprocess.run(
        [disassembler, "-d", built], capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"\b(ldar|ldapr)h?\tw", code)
    assert re.search(r"\bstlr\tw", code)


def test_the_kept_page_is_made_of_the_kept_results():
    results = ROOT / "benches/results/portability.json"
    made = subprocess.run(
        [sys.executable, portability_report.__file__, results],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert made == (ROOT / "docs/portability.md").read_text()


def test_what_was_not_found_is_told():
    assert "not run" in portability_report.row("3.14", {"python": "3.14", "found": False})


def test_a_python_is_found_by_its_version():
    ours = "{}.{}".format(*sys.version_info[:2])
    found = portability.find_python(ours)
    assert found is None or portability.answer(found, "--version").startswith(f"Python {ours}.")
    assert portability.find_python("3.0") is None


def test_the_log_of_meson_is_read(tmp_path):
    logs = tmp_path / "meson-logs"
    logs.mkdir()
    lines = [
        {"name": "mempattern:test_b", "result": "SKIP", "duration": 0.04},
        {"name": "mempattern:test_a", "result": "OK", "duration": 1.26},
    ]
    (logs / "testlog.json").write_text("\n".join(map(json.dumps, lines)))
    read = portability.c_tests(tmp_path)
    assert [(row["name"], row["result"], row["duration_s"]) for row in read] == [
        ("test_a", "OK", 1.3),
        ("test_b", "SKIP", 0.0),
    ]
