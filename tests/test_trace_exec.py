"""A command that executes another program in its place is followed; a PID is not."""

import errno
import json
import os
import subprocess
import sys
import time

import pytest
from target import Target

from mempattern.analysis.watch import Watch
from mempattern.cli import attach
from mempattern.cli.follow import open_executed
from mempattern.cli.main import main as mempattern_main
from mempattern.cli.stop import Stop
from mempattern.cli.trace import main
from mempattern.errors import ProcessError
from mempattern.interval import Provenance
from mempattern.regions import Region
from mempattern.report.text import summary_lines
from mempattern.trace import TraceReader

PAGES = sorted({(7 * i * i) % 3000 for i in range(400)})

# It writes the same pages again and again until its stdin ends.
WRITER = f"""
import ctypes, mmap, os, select, sys
memory = mmap.mmap(-1, 3000 * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
turn = 0
while not select.select([0], [], [], 0.005)[0]:
    turn += 1
    for page in {PAGES}:
        memory[page * 4096] = turn % 256
    if turn == 1:
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        print("address", address, flush=True)
os._exit(5)
"""


class Traced:
    """mempattern-trace with `sh -c 'read go; exec ...'`, which waits for go(). A context manager
    that leaves nothing behind.
    """

    def __init__(self, *arguments, then):
        shell = ["sh", "-c", 'read go && exec "$@"', "sh", *then]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mempattern.cli.trace", *arguments, "--", *shell],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.out, self.err = self.process.stdout, self.process.stderr

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()  # which ends what was started, too
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(30)
        self.out.close()
        self.err.close()


@pytest.mark.usefixtures("uffd")
def test_the_next_programs_pages_are_seen(tmp_path, capsys):
    file = tmp_path / "t.mpt"
    arguments = ["--json", "--interval", "0.02", "-o", str(file)]
    with Traced(*arguments, then=["env", sys.executable, "-c", WRITER]) as it:
        assert "tracing pid" in it.err.readline()
        lines = [it.out.readline(), it.out.readline()]
        it.go()
        said = []
        while not (any("address" in s for s in said) and any("now tracing" in s for s in said)):
            said.append(it.err.readline())
            assert said[-1]
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            lines.append(it.out.readline())
        it.process.stdin.close()
        lines += it.out.readlines()
        said += it.err.readlines()
        assert it.process.wait(30) == 0
    *intervals, summary = map(json.loads, lines)
    notes = [line for line in said if line.startswith("mempattern-trace: ")]
    assert all("it executed another program; now tracing pid" in note for note in notes)
    assert summary["execs"] == len(notes) >= 1
    assert (summary["ended"], summary["exit_code"]) == ("exit", 5)
    assert summary["target"] != "sh"
    assert [line["iteration"] for line in intervals] == list(range(summary["intervals"]))

    (address,) = (int(line.split()[1]) for line in said if line.startswith("address"))
    with TraceReader(file) as trace:
        written = set()
        gaps = 0
        end_ns = None
        for interval in trace:
            gaps += end_ns is not None and interval.start_ns > end_ns
            end_ns = interval.end_ns
            for region in interval.regions:
                pages = (region.address - address) // 4096 + interval.pages(region.name)
                written |= {int(page) for page in pages if 0 <= page < 3000}
    assert written == set(PAGES)
    assert gaps == summary["execs"]

    assert mempattern_main(["report", "--json", str(file)]) == 0
    *again, total = map(json.loads, capsys.readouterr().out.splitlines())
    assert again == intervals
    first = ("ended", "exit_code", "execs", "huge_bytes", "target", "attach_s")
    assert {k: v for k, v in total.items() if k not in first} == {
        k: v for k, v in summary.items() if k not in first
    }
    assert total["attach_s"] < summary["attach_s"]


@pytest.mark.usefixtures("uffd")
def test_the_count_is_of_both_programs():
    with Traced("--json", "--count", "25", "--interval", "0.02", then=["sleep", "1"]) as it:
        lines = [it.out.readline()]
        it.go()
        lines += it.out.readlines()
        assert it.process.wait(30) == 0
    *intervals, summary = map(json.loads, lines)
    assert [line["iteration"] for line in intervals] == list(range(25))
    assert (summary["ended"], summary["execs"]) == ("count", 1)


@pytest.mark.usefixtures("uffd")
def test_quiet_says_it_in_the_summary_only():
    with Traced("--json", "--quiet", "--interval", "0.02", then=["sleep", "0.1"]) as it:
        it.out.readline()
        it.go()
        *_, summary = it.out
        assert it.err.read() == ""
        assert it.process.wait(30) == 0
    assert json.loads(summary)["execs"] == 1
    assert json.loads(summary)["target"] == "sleep"


def test_the_summary_in_words():
    watch = Watch((Region("ram", 64),), Provenance("test"))
    text = "execs        2, each to another program that was followed"
    assert text in summary_lines(watch.summary("exit", 0, 2))
    for unsaid in (watch.summary("exit", 0, 0), watch.summary()):
        assert not [line for line in summary_lines(unsaid) if line.startswith("execs")]


@pytest.mark.usefixtures("uffd")
def test_a_program_that_cannot_be_traced_ends_it(monkeypatch, capfd, tmp_path):
    go = tmp_path / "go"
    really_open = attach.open_source

    def open_and_go(*arguments):
        opened = really_open(*arguments)
        go.touch()
        return opened

    def refuse(before, split_thp):
        raise ProcessError(errno.EPERM, f"process {before.pid} belongs to somebody else now")

    monkeypatch.setattr(attach, "open_source", open_and_go)
    monkeypatch.setattr(attach, "open_again", refuse)
    shell = f"until [ -e {go} ]; do sleep 0.02; done; exec sleep 0.5"
    assert main(["--json", "--interval", "0.02", "--", "sh", "-c", shell]) == 3
    said = capfd.readouterr()
    assert said.out, said.err
    summary = json.loads(said.out.splitlines()[-1])
    assert (summary["ended"], summary["execs"]) == ("error", 0)
    assert "belongs to somebody else now\n" in said.err
    assert "goes on, not traced; waiting for its end" in said.err


@pytest.mark.usefixtures("uffd")
def test_the_trace_of_a_pid_ends():
    with Target() as target:
        target.map(64)
        target.process.stdin.write('{"do": "exec"}\n')
        tracer = subprocess.Popen(
            [sys.executable, "-m", "mempattern.cli.trace", "--json", str(target.pid)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        tracer.stderr.readline()
        target.process.stdin.flush()
        out, said = tracer.communicate(timeout=30)
        assert (tracer.returncode, said) == (0, "")
    summary = json.loads(out.splitlines()[-1])
    assert (summary["ended"], summary["execs"]) == ("exec", 0)


def test_who_is_ending():
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert not attach.is_ending(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert attach.is_ending(child.pid)  # a zombie
    finally:
        child.kill()
        child.wait()
    assert attach.is_ending(child.pid)


def test_opening_is_tried_again_while_a_program_is_being_executed():
    errors = [ProcessError(errno.ENXIO, "no memory"), ProcessError(errno.ESRCH, "gone")]

    def open_once():
        if errors:
            raise errors.pop()
        return "source"

    def refused():
        refusals.append(1)
        raise ProcessError(errno.EPERM, "no")

    refusals = []
    with Stop() as stop:
        with pytest.raises(ProcessError, match="gone"):  # nothing is watched: it may have ended
            open_executed(open_once, stop)
        child = subprocess.Popen(["sleep", "60"])
        try:
            stop.watch(child.pid)
            errors.append(ProcessError(errno.ESRCH, "gone"))
            assert open_executed(open_once, stop) == "source"
            with pytest.raises(ProcessError, match="no"):
                open_executed(refused, stop)
            assert refusals == [1]
        finally:
            child.kill()
            child.wait()
        errors.append(ProcessError(errno.ESRCH, "gone"))
        with pytest.raises(ProcessError, match="gone"):
            open_executed(open_once, stop)
