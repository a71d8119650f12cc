"""The recorded corpus: each file is what its README says, and can be recorded again."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from waiting import until

from mempattern.trace import TraceReader

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benches"))

import corpus  # noqa: E402
import corpus_table  # noqa: E402
from corpus_parts import Case  # noqa: E402

FOLDER = ROOT / "benches/data/corpus"
ALWAYS = {"case", "what", "date", "command", "accel", "versions", "kernel", "mempattern", "target"}
SOURCES = {"kvm-dirty-log", "kvm-dirty-ring", "userfaultfd"}


@pytest.mark.parametrize("name", corpus.CASES)
def test_a_trace_has_its_length_and_its_provenance(name):
    with TraceReader(FOLDER / f"{name}.mpt") as trace:
        assert len(trace) >= 300
        assert trace.dropped == 0
        assert trace.provenance.source in SOURCES
        assert trace.meta.keys() >= ALWAYS
        assert trace.meta["case"] == name
        assert trace.meta["what"] == corpus.CASES[name].what
        assert json.loads(trace.meta["versions"]).keys() >= set(corpus.CASES[name].packages)
        if (seed := corpus.CASES[name].seed) is not None:
            assert trace.meta["seed"] == str(seed)
        is_guest = name.startswith(("guest-", "linux-"))
        assert ("nonzero_pages" in trace.meta) == (trace.meta.get("guest") == "1") == is_guest
        seconds = np.array([interval.duration_s for interval in trace])
        assert 0.095 < np.median(seconds) < 0.11
        assert 0.095 < seconds.mean() < 0.13


def test_the_corpus_has_its_limits():
    assert {path.stem for path in FOLDER.glob("*.mpt")} == corpus.CASES.keys()
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 6.5e6
    data = [path for path in FOLDER.parent.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in data) <= 21e6


def test_the_readme_is_made_from_the_traces(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["corpus_table.py", str(FOLDER)])
    corpus_table.main()
    assert capsys.readouterr().out == (FOLDER / "README.md").read_text()


def test_one_is_recorded_anew(kvm, tmp_path):
    case = corpus.CASES["guest-ring-zipf"]
    path = corpus.record(case, tmp_path, 1.0)
    assert [path] == list(tmp_path.iterdir())
    with TraceReader(path) as trace:
        assert len(trace) == 10
        assert trace.meta.keys() >= ALWAYS | {"seed", "nonzero_pages", "guest"}
        assert sum(int(np.bitwise_count(i.bitmaps["ram"]).sum()) for i in trace) > 100


def run(monkeypatch, folder, *names):
    monkeypatch.setattr(sys, "argv", ["corpus.py", str(folder), *names])
    before = signal.getsignal(signal.SIGTERM)
    try:
        return corpus.main()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_fails_is_told_and_what_exists_is_kept(monkeypatch, tmp_path, capsys):
    tried = []

    def start(folder):
        tried.append(folder)
        raise OSError("there is no such thing")

    cases = {name: Case(name, "nothing", start) for name in ("first", "second", "kept")}
    monkeypatch.setattr(corpus, "CASES", cases)
    (tmp_path / "kept.mpt").write_bytes(b"as it was")
    assert run(monkeypatch, tmp_path) == 1
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == ["first", "second"]
    assert all("there is no such thing" in line for line in said)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.mpt"]
    assert len(tried) == 2
    assert not any(folder.exists() for folder in tried)


def test_a_name_that_is_none(monkeypatch, tmp_path):
    with pytest.raises(SystemExit):
        run(monkeypatch, tmp_path, "nonsense")


def test_what_was_started_ends_even_when_we_are_killed(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from corpus_parts import running\n"
        "with running(['sleep', '600'], Path(sys.argv[1])) as started:\n"
        "    print(started.pid, flush=True); time.sleep(600)"
    )
    recorder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "log")],
        stdout=subprocess.PIPE, cwd=ROOT / "benches", text=True,
    )  # fmt: skip
    pid = int(recorder.stdout.readline())
    try:
        until(lambda: state(pid)[0] == "(sleep)")
        recorder.kill()
        recorder.communicate()
        until(lambda: state(pid)[1] in "ZX")
    finally:
        recorder.kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def state(pid):
    """Its name in parentheses and a letter, as in proc_pid_stat(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[1:3]
    except (FileNotFoundError, ProcessLookupError):
        return "()", "X"
