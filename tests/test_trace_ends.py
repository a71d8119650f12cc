"""How `mempattern-trace` ends, and what is then printed and in its file."""

import json
import os
import signal
import subprocess
import time

import pytest
from scripted import FAST, ME, SCRIPTED, Scripted, trace_json, use

from mempattern.cli.stop import Stop
from mempattern.trace import TraceReader


def test_it_ends_by_count_by_time_or_with_the_target(monkeypatch, capsys):
    source = use(Scripted(), monkeypatch)
    code, lines, summary, _ = trace_json(capsys, "--count", "4", ME)
    assert (code, len(lines), summary["ended"]) == (0, 4, "count")
    assert source.n_closed
    use(Scripted(), monkeypatch)
    code, lines, summary, _ = trace_json(capsys, "--duration", "0.1", ME)
    assert (code, summary["ended"]) == (0, "duration")
    assert lines
    ended = subprocess.Popen(["true"])
    use(Scripted(3), monkeypatch)
    try:
        code, lines, summary, _ = trace_json(capsys, str(ended.pid))
    finally:
        ended.wait()
    assert (code, len(lines), summary["ended"]) == (0, 3, "exit")
    use(Scripted(0), monkeypatch)
    code, lines, summary, _ = trace_json(capsys, ME)
    assert (code, lines, summary["intervals"], summary["dirty_pages"]) == (0, [], 0, 0)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)],
    ids=["SIGHUP", "SIGINT", "SIGTERM"],
)
def test_a_signal_ends_it_with_the_summary_and_a_whole_file(number, code, tmp_path):
    file = tmp_path / "t.mpt"
    command = [*SCRIPTED, "0", "3", *FAST, "--json", "-o", str(file), ME]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        lines = [it.stdout.readline() for _ in range(3)]
        it.send_signal(number)
        out, err = it.communicate(timeout=30)
    *rest, summary = map(json.loads, [*lines, *out.splitlines()])
    assert it.returncode == code, err
    assert summary["ended"] == number.name
    assert summary["intervals"] == len(rest)
    assert summary["dirty_pages"] == sum(line["dirty_pages"] for line in rest)
    assert len(err.splitlines()) == 1
    with TraceReader(file) as trace:
        assert len(trace) == len(rest) - summary["dropped_intervals"]
    assert list(tmp_path.iterdir()) == [file]


def test_a_long_interval_does_not_hold_up_ctrl_c():
    command = [*SCRIPTED, "0", "3", "--interval", "60", "--json", ME]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        it.stderr.readline()  # it is attached
        time.sleep(0.2)
        it.send_signal(signal.SIGINT)
        out, _ = it.communicate(timeout=30)
    assert it.returncode == 130
    assert json.loads(out)["ended"] == "SIGINT"


def test_waiting_ends_early_for_signals_and_for_the_target():
    before = signal.getsignal(signal.SIGINT)
    target = subprocess.Popen(["sleep", "60"])
    try:
        with Stop() as stop:
            stop.watch(target.pid)
            assert not stop.ended_within(0)
            target.kill()
            stop.wait(60)
            assert stop.ended_within(0)
            stop.wait(0.001)  # and it does not spin
            signal.raise_signal(signal.SIGINT)
            assert stop.signal == signal.SIGINT
            with pytest.raises(EOFError):
                stop.wait(60)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        target.kill()
        target.wait()
    assert signal.getsignal(signal.SIGINT) is before


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stop() as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop.signal is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_reader_that_leaves_ends_it_quietly(tmp_path):
    file = tmp_path / "t.mpt"
    command = [*SCRIPTED, "0", "3", *FAST, "--json", "-o", str(file), ME]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        it.stdout.readline()
        it.stdout.close()
        err = it.stderr.read()
        assert it.wait(30) == 1
    assert len(err.splitlines()) == 1  # what is traced
    with TraceReader(file) as trace:
        assert len(trace) >= 1


def test_a_full_output_is_one_line_and_code_4():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*SCRIPTED, "3", "3", *FAST, "--json", ME],
            check=False, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 4
    assert "no space left" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_full_disk_ends_it_with_the_summary_and_code_4(tmp_path):
    """A tiny file system in a mount namespace of its own."""
    inside = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*inside, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a mount namespace needs root or user namespaces: run as root")
    mount = f'mount -t tmpfs -o size=300k none {tmp_path} && exec "$@"'
    command = [*SCRIPTED, "3000", "3", *FAST, "--json", "-o", str(tmp_path / "t.mpt"), ME]
    done = subprocess.run(
        [*inside, "sh", "-c", mount, "sh", *command],
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "full" in done.stderr.splitlines()[-1]
    *lines, summary = map(json.loads, done.stdout.splitlines())
    assert summary["ended"] == "file"
    assert summary["dirty_pages"] == sum(line["dirty_pages"] for line in lines)
