"""`mempattern-trace` of commands, and of a real process."""

import json
import os
import signal
import subprocess
import sys

import pytest
from scripted import FAST, SCRIPTED
from target import Target
from traced import huge_kib

from mempattern.cli import attach
from mempattern.cli.trace import main
from mempattern.errors import ProcessError


def run_command(*arguments, n_intervals=4, **options):
    return subprocess.run(
        [*SCRIPTED, str(n_intervals), "3", *FAST, *arguments],
        check=False, capture_output=True, text=True, timeout=60, **options
    )  # fmt: skip


def test_a_commands_streams_are_its_own():
    shell = ["sh", "-c", "read line; echo got $line; echo oops >&2; exit 3"]
    done = run_command("--", *shell, input="hello\n")
    assert done.returncode == 0
    assert done.stdout == "got hello\n"
    assert "oops" in done.stderr
    assert "the target exited; the command's exit code was 3" in done.stderr
    assert "4 intervals in" in done.stderr


def test_with_json_a_commands_output_goes_to_stderr():
    done = run_command("--json", "--quiet", "--", "sh", "-c", "echo hello; kill -9 $$")
    *lines, summary = map(json.loads, done.stdout.splitlines())
    assert len(lines) == summary["intervals"] == 4
    assert (summary["ended"], summary["exit_code"]) == ("exit", -9)
    assert done.stderr == "hello\n"


def test_a_command_goes_on_after_the_trace_and_is_waited_for():
    command = [*SCRIPTED, "0", "3", *FAST, "--count", "2", "--", "sh", "-c", "read line; echo end"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as it:
        said = []
        while "goes on, not traced; waiting for its end" not in "".join(said[-1:]):
            said.append(it.stderr.readline())
            assert said[-1], said
        out, _ = it.communicate("\n", timeout=60)
    assert (it.returncode, out) == (0, "end\n")
    assert any("2 intervals in" in line for line in said)


def test_ctrl_c_leaves_a_command_alone():
    """The terminal sends it SIGINT too; here it gets none, and nothing is forwarded."""
    command = [*SCRIPTED, "0", "3", *FAST, "--json", "--", "sh", "-c", "echo $$ >&2; exec sleep 60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        pid = next(int(line) for line in it.stderr if line.strip().isdecimal())
        try:
            it.stdout.readline()
            it.send_signal(signal.SIGINT)
            *_, summary = it.stdout
            assert it.wait(30) == 130
            os.kill(pid, 0)  # it is still there
        finally:
            os.kill(pid, signal.SIGKILL)
    assert json.loads(summary)["exit_code"] is None


def test_a_command_that_does_not_start(capsys):
    assert main(["--", "/no/such/program"]) == 3
    assert capsys.readouterr().err == (
        "mempattern-trace: cannot start '/no/such/program': No such file or directory; "
        "name a program in PATH, or its file\n"
    )


def test_a_command_that_cannot_be_traced_is_ended(monkeypatch, capsys):
    seen = []

    def refuse(pid, options, wait):
        seen.append(pid)
        raise ProcessError(1, "not this one")

    monkeypatch.setattr(attach, "open_source", refuse)
    assert main(["--", "sleep", "60"]) == 3
    assert capsys.readouterr().err == "mempattern-trace: not this one\n"
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)


@pytest.mark.usefixtures("uffd")
def test_a_real_process_is_seen_to_write_just_its_pages():
    pages = list(range(3, 900, 7))
    with Target() as target:
        start = target.map(1000)
        command = [
            *[sys.executable, "-m", "mempattern.cli.trace", "--json", "--interval", "0.05"],
            *["--region", f"{start:x}-{start + 1000 * 4096:x}", str(target.pid)],
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as it:
            assert b"tracing pid" in it.stderr.readline()
            target.write(pages)
            seen = []
            while not seen or json.loads(seen[-1])["touched_pages"] < len(pages):
                seen.append(it.stdout.readline())
            it.send_signal(signal.SIGINT)
            seen += it.stdout.readlines()
            assert it.wait(30) == 130
    summary = json.loads(seen[-1])
    assert summary["dirty_pages"] == summary["touched_pages"] == len(pages)
    assert summary["source"] == "userfaultfd"
    assert summary["attach_s"] > 0


@pytest.mark.usefixtures("uffd")
def test_a_command_that_ends_before_it_can_be_traced(capfd):
    assert main(["--", "sh", "-c", "exit 7"]) == 3
    assert capfd.readouterr().err.endswith(
        "the command ended (exit code 7) before it could be traced\n"
    )


@pytest.mark.usefixtures("uffd")
def test_huge_pages_that_tracing_splits_are_counted(capfd):
    n_pages = 4 * 512
    with Target() as target:
        address = target.map(n_pages, "thp")
        target.write(range(n_pages))
        region = f"{address:x}-{address + n_pages * 4096:x}"
        kib = huge_kib(target.pid, address)
        assert kib >= 2048
        options = ["--region", region, "--count", "1", "--interval", "0.02", str(target.pid)]
        assert main(["--json", *options]) == 0
        summary = json.loads(capfd.readouterr().out.splitlines()[-1])
        assert summary["huge_bytes"] == kib * 1024
        assert main(["--quiet", *options]) == 0
        assert "MiB were in transparent huge pages" in capfd.readouterr().out
