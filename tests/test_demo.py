"""`mempattern demo`, on a real guest and from the recorded sample."""

import errno
import fcntl
import os
import pty
import re
import resource
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

from mempattern import microvm
from mempattern.cli import demo
from mempattern.cli.demo import recorded_labels, sample_path
from mempattern.cli.main import main
from mempattern.microvm import PATTERNS, MicroVM
from mempattern.report.units import format_bytes, format_seconds, format_share
from mempattern.trace import TraceReader, TraceWriter

COMMAND = [sys.executable, "-m", "mempattern.cli.main", "demo"]


def run(*arguments, **options):
    return subprocess.run(
        [*COMMAND, *arguments], check=False, capture_output=True, text=True, timeout=120, **options
    )


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize("logging", ["log", "manual", "initially-set", "ring"])
def test_live_and_replayed_show_the_same_numbers(logging, tmp_path):
    trace = tmp_path / "demo.mpt"
    live = run("--interval", "0.02", "--per-pattern", "3", "--logging", logging,
               "--record", str(trace))  # fmt: skip
    assert live.returncode == 0, live.stderr
    assert live.stderr == ""
    rows = [line for line in live.stdout.splitlines() if re.match(r" *\d+ +\d", line)]
    assert len(rows) == 3 * 7
    assert all(any(f" {work.pattern} |" in row for row in rows) for work in demo.SHOW)
    assert "lost         nothing" in live.stdout
    again = run("--replay", str(trace))
    assert again.stdout == live.stdout


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOENT, "there is no /dev/kvm: load the module"),
        (errno.EACCES, "join the group"),
        (errno.EPERM, "allow the device in this container"),
        (errno.ENODEV, "enable virtualization"),
        (errno.ENOTTY, "pass the device through"),
        (errno.ENOTSUP, "lacks what was asked"),
    ],
)
def test_without_kvm_it_says_why_in_one_line_and_shows_the_sample(
    number, remedy, monkeypatch, capsys
):
    monkeypatch.setattr(MicroVM, "_create", lambda vm: raise_(microvm._cannot_open(number)))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert main(["demo"]) == 0
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1
    assert remedy in said.err
    assert "showing a recorded guest instead" in said.err
    shows_the_sample(said.out)


def raise_(error):
    raise error


def shows_the_sample(text):
    with TraceReader(sample_path()) as sample:
        assert f"{len(sample)} intervals" in text
        assert sample.provenance.source == "kvm-dirty-log"


@pytest.mark.parametrize(
    ("dev", "said"),
    [
        ("true", "there is no /dev/kvm"),
        ("touch /dev/kvm", "/dev/kvm is there but is not KVM's device"),
    ],
)
def test_with_dev_kvm_really_gone_or_masked(dev, said):
    """In a mount namespace of its own, whose /dev has nothing else."""
    inside = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*inside, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a mount namespace needs root or user namespaces: run as root")
    done = subprocess.run(
        [*inside, "sh", "-c", f'mount -t tmpfs none /dev && {dev} && exec "$@"', "sh", *COMMAND],
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"mempattern: {said}")
    assert len(done.stderr.splitlines()) == 1
    shows_the_sample(done.stdout)


def test_on_a_terminal_it_draws_and_ctrl_c_ends_it_with_the_summary():
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [*COMMAND, "--replay", str(sample_path())])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 130, 0, 0))
    said, stopped = b"", False
    try:
        while True:
            try:
                chunk = os.read(terminal, 65536)
            except OSError:  # the child has closed its end
                break
            if not chunk:
                break
            said += chunk
            if not stopped and said.count(b"address") >= 3:
                os.kill(child, signal.SIGINT)
                stopped = True
    finally:
        _, status = os.waitpid(child, 0)
        os.close(terminal)
    text = said.decode("utf-8", "replace")
    assert "\x1b[" in text
    assert "summary" in text
    assert "Traceback" not in text
    assert os.waitstatus_to_exitcode(status) == 130


def test_a_killed_demo_leaves_no_guest_behind(kvm):
    process = subprocess.Popen([*COMMAND], stdout=subprocess.DEVNULL)
    time.sleep(1.0)
    process.kill()
    assert process.wait(10) == -signal.SIGKILL


def test_wrong_usage_is_one_line_and_code_2_or_1(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["demo", "--interval", "0"])
    assert caught.value.code == 2
    assert main(["demo", "--replay", str(tmp_path / "none.mpt")]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("mempattern: ")
    assert "none.mpt" in said
    other = tmp_path / "other.mpt"
    other.write_text("not a trace")
    assert main(["demo", "--replay", str(other)]) == 1
    assert "is not a mempattern trace" in capsys.readouterr().err


def test_numbers_are_written_as_people_read_them():
    assert [format_bytes(n) for n in (0, 1023, 1024, 5 << 20, 3 << 40)] == [
        "0 B", "1023 B", "1.0 KiB", "5.0 MiB", "3.0 TiB",
    ]  # fmt: skip
    assert [format_seconds(s) for s in (12.34, 0.9996, 0.034, 0.0009996, 0.00056)] == [
        "12.3 s", "1.0 s", "34 ms", "1 ms", "560 us",
    ]  # fmt: skip
    assert [format_share(1, 8), format_share(0, 0)] == ["12 %", "-"]


def test_recording_without_a_guest_fails_and_not_both_files(tmp_path, monkeypatch, capsys):
    trace = tmp_path / "demo.mpt"
    with pytest.raises(SystemExit) as caught:
        main(["demo", "--record", str(trace), "--replay", str(sample_path())])
    assert caught.value.code == 2
    monkeypatch.setattr(MicroVM, "_create", lambda vm: raise_(microvm._cannot_open(errno.ENOENT)))
    assert main(["demo", "--record", str(trace)]) == 1
    assert "there is no /dev/kvm" in capsys.readouterr().err
    assert not trace.exists()


@pytest.mark.parametrize(
    "labels",
    ["not JSON", "5", '[["x", 1]]', '[["idle", 1.5]]', '[["idle", 10001]]', "[[[1]]]"],
)
def test_labels_that_make_no_sense(labels, tmp_path, capsys):
    with (
        TraceReader(sample_path()) as sample,
        TraceWriter(
            tmp_path / "t.mpt", sample.regions, sample.provenance, {"demo_labels": labels}
        ) as trace,
    ):
        trace.write(sample[0])
    assert main(["demo", "--replay", str(tmp_path / "t.mpt")]) == 1
    assert "labels make no sense" in capsys.readouterr().err


def test_labels_go_by_the_guests_intervals_though_some_were_dropped(tmp_path):
    labels = '[["idle", 2], ["sweep", 3]]'
    with (
        TraceReader(sample_path()) as sample,
        TraceWriter(
            tmp_path / "t.mpt", sample.regions, sample.provenance, {"demo_labels": labels}
        ) as trace,
    ):
        for position in (0, 2, 4, 5):
            trace.write(sample[position])
    with TraceReader(tmp_path / "t.mpt") as trace:
        label_of = recorded_labels(trace)
        assert [label_of(interval) for interval in trace] == ["idle", "sweep", "sweep", ""]


def test_intervals_that_the_disk_was_too_slow_for_are_told(tmp_path, monkeypatch, capsys, kvm):
    monkeypatch.setattr(TraceWriter, "dropped", 3)
    path = tmp_path / "t.mpt"
    assert main(["demo", "--interval", "0.01", "--per-pattern", "1", "--record", str(path)]) == 0
    assert f"3 intervals are not in {path}" in capsys.readouterr().err


@pytest.mark.usefixtures("kvm")
def test_a_recording_that_cannot_be_written_ends_it_with_code_4(tmp_path):
    path = tmp_path / "t.mpt"
    most = (50_000, 50_000)
    done = run("--interval", "0.02", "--per-pattern", "3", "--record", str(path),
               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, most))  # fmt: skip
    assert done.returncode == 4
    assert f"{path} cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("n_intervals", [0, 1, 3])
def test_a_recording_that_was_cut_short_is_shown_as_far_as_it_goes(n_intervals, tmp_path, capsys):
    labels = '[["idle", 2], ["sweep", 10000]]'
    with (
        TraceReader(sample_path()) as sample,
        TraceWriter(
            tmp_path / "cut.mpt", sample.regions, sample.provenance, {"demo_labels": labels}
        ) as trace,
    ):
        for number in range(n_intervals):
            trace.write(sample[number])
    assert main(["demo", "--replay", str(tmp_path / "cut.mpt")]) == 0
    said = capsys.readouterr().out
    assert f"{n_intervals} intervals" in said
    shown = [pattern for row in said.splitlines() for pattern in PATTERNS if f" {pattern} |" in row]
    assert shown == ["idle", "idle", "sweep"][:n_intervals]


@pytest.mark.usefixtures("kvm")
def test_an_interrupted_recording_can_be_replayed(tmp_path):
    trace = tmp_path / "cut.mpt"
    process = subprocess.Popen(
        [*COMMAND, "--record", str(trace)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        for line in process.stdout:
            if re.match(r" *1 +\d", line):  # the second row
                process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.communicate()
    again = run("--replay", str(trace))
    assert again.returncode == 0, again.stderr
    assert " idle |" in again.stdout


@pytest.mark.usefixtures("kvm")
def test_each_pattern_has_its_own_pages_and_no_other(tmp_path, monkeypatch):
    work = microvm.Workload("uniform", n_pages=50_000, rate=50_000)
    monkeypatch.setattr(demo, "SHOW", (work, microvm.Workload("idle"), work))
    trace = tmp_path / "demo.mpt"
    arguments = ["--interval", "0.02", "--per-pattern", "2", "--record", str(trace)]
    assert main(["demo", *arguments]) == 0
    with TraceReader(trace) as recorded:
        dirty = [sum(len(i.pages(region.name)) for region in i.regions) for i in recorded]
    assert [n > 0 for n in dirty] == [True, True, False, False, True, True]


@pytest.mark.usefixtures("kvm")
def test_a_guest_that_dies_ends_the_show(monkeypatch, capsys):
    deadly = microvm.Workload("sweep", n_pages=1000, first_page=50_000)
    monkeypatch.setattr(demo, "SHOW", (deadly,))
    assert main(["demo", "--interval", "0.05", "--per-pattern", "10000"]) == 1
    assert "vCPU 0 died" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [("--interval", "1"), ("--per-pattern", "2"), ("--logging", "ring")]
)
def test_options_of_a_guest_go_not_with_a_recording(option, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["demo", "--replay", str(sample_path()), *option])
    assert caught.value.code == 2
    assert f"{option[0]} is of a running guest" in capsys.readouterr().err
