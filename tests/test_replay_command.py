"""`mempattern replay`: tables, the object, the files beside it, and what it refuses."""

import contextlib
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_predict_command import write
from test_replay_report import KEYS, ROW_KEYS, SUMMARY_KEYS, TRACE_KEYS
from waiting import until
from workloads import hot, idle, intervals

from mempattern.cli.main import main

DOCS = Path(__file__).parents[1] / "docs"
OWN = Path(__file__).parent / "own_policies.py"
ASK = ["--bandwidth", "840Mbit", "--max-downtime", "1s"]
FEW = [*ASK, "--policy", "stock,relaxed", "--jobs", "1"]


def replay(capsys, *arguments):
    """Exit code, stdout, stderr."""
    try:
        code = main(["replay", *map(str, arguments)])
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()
    return code, said.out, said.err


def replay_json(capsys, *arguments, code=0):
    found, out, _ = replay(capsys, *arguments, "--json")
    assert found == code
    (line,) = out.splitlines()
    return json.loads(line)


@pytest.fixture(scope="module")
def hot_trace(tmp_path_factory):
    """Just above half of 100 MiB: 0.52 s at 840 Mbit/s."""
    return write(tmp_path_factory.mktemp("hot") / "hot.mpt", intervals(hot(13_300), 40))


@pytest.fixture(scope="module")
def idle_trace(tmp_path_factory):
    return write(tmp_path_factory.mktemp("idle") / "idle.mpt", intervals(idle, 40))


# ---- the command ---------------------------------------------------------------------------------


def test_the_command(hot_trace, capsys):
    code, out, err = replay(capsys, hot_trace, *FEW)
    assert (code, err) == (0, "")
    text = out.splitlines()
    assert text[2] == "840 Mbit/s; downtime at most 1 s"
    assert [line.split()[:2] for line in text[5:8]] == [
        ["stock", "no:"], ["relaxed", "yes"], ["oracle", "yes"],
    ]  # fmt: skip
    assert "note: 1 of 3 replays goes on after the trace's end" in out


def test_the_object(hot_trace, idle_trace, capsys):
    said = replay_json(
        capsys, hot_trace, idle_trace, "--policy", "relaxed", "--jobs", "2",
        "--bandwidth", "2Gbit+400Mbit@1s,840Mbit", "--max-downtime", "1s,200ms",
    )  # fmt: skip
    assert said["schema"] == "mempattern.replay/1"
    assert [one["trace"] for one in said["traces"]] == [hot_trace, idle_trace]
    assert len(said["replays"]) == 2 * 2 * 2 * 2
    assert [one["bandwidth_changes"] for one in said["replays"][::8]] == [[], []]
    assert said["replays"][4]["bandwidth_changes"] == [{"from_s": 1.0, "bandwidth_Bps": 5e7}]
    assert {one["traces"] for one in said["summary"]} == {2}
    assert said["unfinished"] == []
    links = [(one["bandwidth_Bps"], one["max_downtime_s"]) for one in said["summary"][::2]]
    assert links == [(1.05e8, 0.2), (1.05e8, 1.0), (2.5e8, 0.2), (2.5e8, 1.0)]


def test_how_it_is_migrated(hot_trace, capsys):
    def stock(*arguments):
        return replay_json(capsys, hot_trace, *FEW, *arguments)["replays"][0]

    assert stock("--downtime-limit", "900ms")["moved"]
    assert stock("--past-end", "refuse")["end"] == "trace ended"
    assert stock("--max-time", "4s")["total_s"] < 5
    usual, fewer = stock("--downtime-limit", "900ms"), ["--zero-pages", "40MiB"]
    assert stock("--downtime-limit", "900ms", *fewer)["sent_bytes"] < usual["sent_bytes"] - 30e6
    later_s = stock("--start", "3s")["extrapolated_s"] - stock()["extrapolated_s"]
    assert later_s == pytest.approx(3.0, abs=0.5)


def test_policies_of_ones_own(hot_trace, capsys):
    names = f"{OWN}:Patient,{OWN}:Raises,{OWN}:Nonsense"
    said = replay_json(capsys, hot_trace, *ASK, "--policy", names)
    patient, raises, nonsense, oracle = said["replays"]
    assert (patient["policy"], patient["moved"]) == ("Patient", True)
    assert (raises["end"], nonsense["end"]) == ("failed", "failed")
    assert "no pages to divide by" in raises["error"]
    assert "\n" not in raises["error"] + nonsense["error"]
    assert oracle["policy"] == "oracle"


def test_traces_that_fail_among_others(hot_trace, tmp_path, capsys):
    damaged = tmp_path / "damaged.mpt"
    damaged.write_bytes(Path(hot_trace).read_bytes()[:9000])
    files = [tmp_path / "none.mpt", hot_trace, damaged]
    code, out, err = replay(capsys, *files, *FEW)
    assert code == 1
    assert [line.split(":")[0] for line in err.splitlines()] == ["mempattern"] * 2
    assert "none.mpt" in err.splitlines()[0]
    assert "damaged.mpt" in err.splitlines()[1]
    assert "840 Mbit/s" in out
    said = replay_json(capsys, *files, *FEW, code=1)
    assert [bool(one["error"]) for one in said["traces"]] == [True, False, True]
    assert len(said["replays"]) == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--bandwidth", "0Gbit"], "not positive"),
        (["--bandwidth", "fast"], "10Gbit, 1.25GB/s or 125MiB/s"),
        (["--bandwidth", "1Gbit+2Gbit"], "does not say from when on"),
        (["--bandwidth", "1Gbit+2Gbit@9s+3Gbit@2s"], "do not rise"),
        (["--bandwidth", ",".join(["1Gbit"] * 17)], "16 at most"),
        (["--max-downtime", "300"], "has no unit"),
        (["--max-downtime=-1s"], "not positive"),
        (["--downtime-limit", "nan"], "is not a duration"),
        (["--start", "soon"], "is not a duration"),
        (["--max-time", "1e999s"], "not positive and finite"),
        (["--max-time", "100000s"], "more than a day"),
        (["--past-end", "guess"], "invalid choice"),
        (["--accel", "xen"], "invalid choice"),
        (["--jobs", "0"], "from 1 to"),
        (["--policy", "stok"], "there is no policy 'stok'; there are stock, "),
        (["--policy", "stock,"], "has an empty name"),
        (["--policy", f"{OWN}:Patent"], "its policies are: Patient"),
        (["--policy", "none.py:P"], "there is no file none.py"),
        (["--plot", "picture.pdf"], "must end in .png or .svg"),
        (["--plot", "p.png", "--bandwidth", "1Gbit,2Gbit,3Gbit,4Gbit",
          "--max-downtime", "1s,2s,3s,4s"], "12 panels at most"),
    ],
)  # fmt: skip
def test_arguments_that_make_no_sense(arguments, says, hot_trace, capsys, tmp_path):
    with contextlib.chdir(tmp_path):
        code, out, err = replay(capsys, hot_trace, *ASK, *arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--start", "1h"], "start"), (["--zero-pages", "lots"], "neither a number of pages"),
     (["--zero-pages", "100001"], "more than the 25600 pages")],
)  # fmt: skip
def test_what_a_trace_does_not_bear(arguments, says, hot_trace, capsys):
    code, out, err = replay(capsys, hot_trace, *FEW, *arguments)
    assert (code, out) == (1, "")
    assert says in err
    assert err.count("\n") == 1


# ---- files ---------------------------------------------------------------------------------------


def test_parquet(hot_trace, idle_trace, tmp_path, capsys):
    pq = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "replays.parquet"
    said = replay_json(
        capsys, hot_trace, idle_trace, *FEW, "--bandwidth", "1Gbit,1Gbit+2Gbit@1s",
        "--parquet", file,
    )  # fmt: skip
    table = pq.read_table(file)
    assert table.to_pylist() == said["replays"]
    assert set(table.column_names) == ROW_KEYS
    types = {field.name: str(field.type) for field in table.schema}
    assert (types["total_s"], types["passes"], types["moved"]) == ("double", "int64", "bool")
    assert table.schema.metadata[b"schema"] == b"mempattern.replay/1"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("kind", ["png", "svg", "SVG"])
def test_a_picture(kind, hot_trace, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    file = tmp_path / f"picture.{kind}"
    assert replay(capsys, hot_trace, *FEW, "--plot", file)[0] == 0
    written = file.read_bytes()
    if kind == "png":
        assert written.startswith(b"\x89PNG")
    else:
        text = written.decode()
        for words in ("relaxed", "oracle", "not moved: stock", "840 Mbit/s", "downtime"):
            assert words in text
    assert replay(capsys, hot_trace, *FEW, "--plot", file, "--force")[0] == 0
    assert file.read_bytes() == written  # the same from the same


def test_a_picture_of_nothing_that_moved(hot_trace, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    file = tmp_path / "picture.svg"
    assert replay(capsys, hot_trace, *FEW, "--max-downtime", "10ms", "--plot", file)[0] == 0
    assert "no policy moved the guest" in file.read_text()


@pytest.mark.parametrize("option", ["--parquet", "--plot"])
def test_files_that_exist_are_kept(option, hot_trace, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    pytest.importorskip("matplotlib")
    file = tmp_path / "there.png"
    file.write_text("mine")
    code, out, err = replay(capsys, hot_trace, *FEW, option, file)
    assert (code, out) == (4, "")
    assert err.endswith("exists; name another file, or overwrite it with --force\n")
    assert file.read_text() == "mine"
    assert replay(capsys, hot_trace, *FEW, option, file, "--force")[0] == 0
    assert file.read_bytes() != b"mine"
    code, out, err = replay(capsys, hot_trace, *FEW, option, tmp_path / "no" / "dir.png")
    assert (code, out) == (4, "")
    assert "there is no directory" in err


def test_a_file_that_cannot_be_written_costs_no_results(hot_trace, tmp_path, capsys, monkeypatch):
    pytest.importorskip("pyarrow")

    def full(_self, _target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    file = tmp_path / "t.parquet"
    code, out, err = replay(capsys, hot_trace, *FEW, "--parquet", file)
    assert code == 4
    assert "relaxed" in out
    assert err == f"mempattern: {file} cannot be written: No space left on device\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("package", "option", "extra"),
    [("pyarrow", "--parquet", "arrow"), ("matplotlib", "--plot", "plot")],
)
def test_a_package_that_is_missing(package, option, extra, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    for module in ("mempattern.report.parquet", "mempattern.report.pareto"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    code, out, err = replay(capsys, "t.mpt", *FEW, option, "t.png")
    assert (code, out) == (1, "")
    assert err.endswith(f"pip install 'mempattern[{extra}]'\n")
    assert err.count("\n") == 1


# ---- interrupted ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "code"), [("Interrupts", 130), ("Terminates", 143)])
def test_what_was_done_when_it_is_interrupted(policy, code, idle_trace, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    large = write(tmp_path / "large.mpt", intervals(idle, 5, n_pages=30_000))
    file = tmp_path / "done.parquet"
    files = [idle_trace, large, str(tmp_path / "later.mpt")]
    arguments = [*files, *ASK, "--jobs", "1", "--policy", f"{OWN}:{policy}"]
    before = signal.getsignal(signal.SIGTERM)
    found, out, err = replay(capsys, *arguments, "--json", "--parquet", file)
    assert found == code
    assert signal.getsignal(signal.SIGTERM) is before
    said = json.loads(out)
    assert [one["trace"] for one in said["traces"]] == [idle_trace]
    assert said["unfinished"] == files[1:]
    assert err == "mempattern: interrupted: 1 of 3 traces was replayed, and is all that is shown\n"
    assert file.exists()


def test_processes_end_when_it_is_interrupted(hot_trace, idle_trace, tmp_path):
    """Ctrl-C at a terminal goes to all of them; here only to the first one."""
    policy = tmp_path / "waits.py"
    flag = tmp_path / "begun"
    policy.write_text(
        "import pathlib, time\nfrom mempattern.migration import Action, Policy\n"
        "class Waits(Policy):\n"
        "    def begin(self, task):\n"
        f"        pathlib.Path({str(flag)!r}).touch()\n"
        "        time.sleep(600)\n"
        "        return Action()\n"
    )
    command = [sys.executable, "-m", "mempattern.cli.main", "replay", hot_trace, idle_trace, *ASK,
               "--jobs", "2", "--policy", f"{policy}:Waits"]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not flag.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "mempattern: interrupted: none of 2 traces was replayed\n"
    while is_there(process.pid):  # the last ones end when they see that it did
        time.sleep(0.01)


def is_there(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_bar_on_a_terminal_only(hot_trace, monkeypatch, capsys):
    ours, theirs = pty.openpty()
    with open(theirs, "w") as terminal:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stderr", terminal)
        assert main(["replay", hot_trace, *FEW]) == 0
    assert b"replaying" in os.read(ours, 1 << 16)
    os.close(ours)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert main(["replay", hot_trace, *FEW]) == 0
    assert sys.stderr.getvalue() == ""


# ---- the documentation ---------------------------------------------------------------------------


def test_the_keys_are_documented():
    text = (DOCS / "replay.md").read_text()
    for key in KEYS | TRACE_KEYS | ROW_KEYS | SUMMARY_KEYS:
        assert f"`{key}`" in text, key


def test_the_options_are_documented(capsys):
    with pytest.raises(SystemExit):
        main(["replay", "--help"])
    text = (DOCS / "replay.md").read_text()
    options = set(re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    for option in options - {"--version", "--debug"}:  # of all commands: docs/reference/commands.md
        assert f"`{option}" in text, option


# ---- what must not be lost or left ---------------------------------------------------------------


def test_files_that_are_not_to_be_written(hot_trace, tmp_path, capsys):
    """Also with --force: a device, a trace that is read, and one file for two things."""
    trace = tmp_path / "own.mpt"
    trace.write_bytes(Path(hot_trace).read_bytes())
    before = trace.read_bytes()
    twice = tmp_path / "twice.png"
    for files, said in [
        (["--parquet", "/dev/null"], "/dev/null is no regular file"),
        (["--parquet", trace], "is a trace to read, or another file to write"),
        (["--parquet", twice, "--plot", twice], "is a trace to read, or another file to write"),
    ]:
        code, out, err = replay(capsys, trace, *FEW, "--force", *files)
        assert code != 0
        assert out == ""
        assert said in err
    assert trace.read_bytes() == before
    assert not Path("/dev/null").is_file()
    assert not twice.exists()


def in_session(session):
    """Processes of that session, but for those that are only to be waited for."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.parent.name))
    return found


def test_workers_end_with_a_command_that_is_killed(hot_trace, tmp_path):
    traces = [tmp_path / f"{number}.mpt" for number in range(40)]
    for trace in traces:
        trace.symlink_to(hot_trace)
    command = [sys.executable, "-m", "mempattern.cli.main", "replay", *map(str, traces), *ASK,
               "--jobs", "2"]  # fmt: skip
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as process:  # fmt: skip
        session = process.pid
        until(lambda: len(in_session(session)) >= 4)
        process.kill()
    until(lambda: not in_session(session))
