"""`mempattern migrate` over a QEMU that answers by a script: what it prints and how it ends."""

import asyncio
import errno
import json
import signal
import socket
import subprocess
import sys
import threading

import pytest
from fake_qmp import MIB, PARAMETERS, FakeQemu, active, completed
from rich.console import Console

from mempattern.cli.main import main
from mempattern.errors import ProcessError, TraceError
from mempattern.live.controller import MigrationController
from mempattern.live.decisions import Decision, Passed, Result
from mempattern.live.figures import Figures
from mempattern.live.over_qmp import QMPSocket
from mempattern.report.migrating import LiveMigration

PENDING = 90 * MIB
LATE = [active(n, PENDING, at_s=n) for n in range(1, 4)]


@pytest.fixture
def run(tmp_path, capsys):
    def run_(fake, *more, traces=False):
        more += () if traces else ("--no-trace",)
        path = str(tmp_path / "qmp")
        with fake.in_thread(path):
            code = main(["migrate", "--qmp", path, "--to", "tcp:there:1", "--max-downtime", "1s",
                         *more])  # fmt: skip
        said = capsys.readouterr()
        return code, said.out, said.err

    return run_


def popen(path, *more, **how):
    """In a process of its own, where signals and a standard output that fails are safe."""
    return subprocess.Popen(
        [sys.executable, "-m", "mempattern.cli.main", "migrate", "--qmp", path, "--to",
         "tcp:there:1", "--max-downtime", "1s", "--policy", "relaxed", *more],
        stderr=subprocess.PIPE, text=True, **how,
    )  # fmt: skip


def test_lines(run):
    code, out, err = run(FakeQemu(*LATE, completed(4.5, 380)), "--policy", "relaxed")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert "-> downtime limit 930 ms" in lines[0]
    assert "pass 2: 90.0 MiB to send, which takes 944 ms; limit 930 ms" in out
    assert lines[-2:] == [
        "completed after 4.5 s: 5.0 MiB sent, 9 syncs",
        "the guest stood still for 380 ms, within the 1.0 s allowed",
    ]


def test_json(run):
    code, out, _ = run(FakeQemu(*LATE, completed(4.5, 1200)), "--policy", "relaxed", "--json")
    said = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [one["event"] for one in said] == ["decision", "said", "pass", "pass", "end"]
    assert said[0]["new_limit_s"] == 0.93
    assert said[2]["remaining_bytes"] == PENDING
    assert said[-1]["downtime_s"] == 1.2
    assert said[-1]["within_ceiling"] is False


def test_a_failed_one(run):
    failed = {"status": "failed", "error-desc": "Unable to write to socket: Broken pipe"}
    code, out, _ = run(FakeQemu(*LATE, failed), "--policy", "stock")
    assert code == 1
    assert "QEMU says: Unable to write to socket: Broken pipe" in out
    assert out.endswith("the guest is where it was\n")


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (["--policy", "oracle"], 2, "cannot steer a real migration"),
        (["--policy", "all"], 2, "cannot steer a real migration"),
        (["--policy", "hot-pages"], 2, "works in replays only"),
        (["--policy", "nonesuch"], 2, "there is no policy"),
        (["--to", ""], 2, "the destination is empty"),
        (["-o", "x.mpt"], 2, "without tracing there is no trace"),
    ],
)
def test_wrong_usage(run, more, code, says):
    fake = FakeQemu()
    got, _, err = run(fake, *more)
    assert (got, fake.log) == (code, [])
    assert says in err


def test_a_policy_that_needs_pages(run):
    """It fails at its first pass, and QEMU goes on."""
    code, out, _ = run(FakeQemu(*LATE, completed()), "--policy", "mp")
    assert code == 0
    assert "the policy failed: UsageError: MP must know which pages are written" in out


def test_no_qemu(tmp_path, capsys):
    gone = str(tmp_path / "gone")
    assert main(["migrate", "--qmp", gone, "--to", "x", "--max-downtime", "1s"]) == 3
    assert "No such file" in capsys.readouterr().err


def test_ctrl_c_before_we_listen_for_it(monkeypatch, capsys):
    async def cancelled(_controller):  # by asyncio's own handler
        raise asyncio.CancelledError

    monkeypatch.setattr(MigrationController, "run", cancelled)
    assert main(["migrate", "--qmp", "no", "--to", "tcp:x:1", "--max-downtime", "1s"]) == 130
    assert capsys.readouterr().err == "mempattern: ended before the migration was started\n"


def test_qmp_is_lost_on_the_way(run):
    """Where the guest is cannot be said."""
    fake = FakeQemu(*LATE, lambda fake: fake.hang_up())
    code, _, err = run(fake, "--policy", "stock")
    assert code == 5
    assert err.count("\n") == 1
    assert "QEMU hung up on the QMP socket" in err
    assert "the migration was under way" in err


def test_qemu_ends_on_the_way(tmp_path, capsys):
    def end(fake):
        (tmp_path / "qmp").rename(tmp_path / "gone")
        fake.hang_up()
        with socket.socket(socket.AF_UNIX) as nobody:
            nobody.bind(str(tmp_path / "qmp"))

    fake = FakeQemu(*LATE, end)
    path = str(tmp_path / "qmp")
    with fake.in_thread(path):
        code = main(["migrate", "--qmp", path, "--to", "tcp:there:1", "--max-downtime", "1s",
                     "--no-trace", "--policy", "stock"])  # fmt: skip
    assert code == 5
    err = capsys.readouterr().err
    assert "QEMU has ended" in err
    assert "the guest is lost unless it had arrived" in err


def test_let_go_while_qemu_hangs(tmp_path):
    """The first would cancel, if anybody listened."""
    hangs = threading.Event()
    path = str(tmp_path / "qmp")
    with FakeQemu(*LATE, lambda _: hangs.set()).in_thread(path):
        ours = popen(path, "--no-trace", stdout=subprocess.DEVNULL)
        assert hangs.wait(30)
        ours.send_signal(signal.SIGINT)
        ours.send_signal(signal.SIGTERM)  # the same one twice might count once
        _, err = ours.communicate(timeout=30)
    assert ours.returncode in (130, 143)  # whichever Python saw first
    assert err == "mempattern: let go; QEMU goes on by its own rules (to end it: migrate_cancel)\n"


def test_a_refusal_to_start(run):
    fake = FakeQemu()
    fake.refuse["migrate"] = "Migration is disabled when using feature X"
    code, _, err = run(fake, "--policy", "stock")
    assert (code, err.count("\n")) == (3, 1)
    assert "feature X" in err


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (TraceError("x.mpt cannot be written: disk full"), 4, ["x.mpt cannot be written"]),
        (ProcessError(errno.EACCES, "the mappings of process 7: Permission denied"), 3,
         ["the mappings of process 7", "root", "mempattern doctor", "--no-trace"]),
    ],
)  # fmt: skip
def test_what_keeps_it_from_tracing(error, code, says, run, monkeypatch):
    """Nothing is begun."""

    def fail(self):
        raise error

    monkeypatch.setattr(QMPSocket, "ram", fail)
    fake = FakeQemu()
    got, _, err = run(fake, traces=True)
    assert (got, fake.log, err.count("\n")) == (code, [], 1)
    for part in says:
        assert part in err


def test_the_live_view():
    console = Console(width=120, record=True, force_terminal=True, color_system="truecolor")
    view = LiveMigration("migration to tcp:there:1, policy best", console)
    now = Figures("active", 2.5, 3, 10**8, PENDING, bandwidth_Bps=1e8)
    view.looked(now)
    view.passed(Passed(0, now, 0.3, 4096), None)
    why = "Played out, it ends."
    view.decided(Decision(2.5, 3, "downtime limit 700 ms", why, PENDING, 1e8, 0.3, 1.0))
    view.ended(Result(Figures("completed", 3.0, downtime_s=0.5), 1.0, (), ()))
    text = console.export_text()
    for part in ("90.0 MiB", "944 ms", "16.0 MiB", "downtime limit 700 ms", why, "500 ms, within"):
        assert part in text


@pytest.mark.parametrize("how", ["head", "full"])
@pytest.mark.parametrize(("end", "code"), [(completed(4.5, 380), 0), ({"status": "failed"}, 1)])
def test_nobody_reads_its_output(how, end, code, tmp_path):
    """It is followed to its end all the same, and the exit code says where the guest is."""
    path = str(tmp_path / "qmp")
    fake = FakeQemu(*LATE, end)
    with fake.in_thread(path), open("/dev/full", "w") as full:
        ours = popen(path, "--no-trace", stdout=subprocess.PIPE if how == "head" else full)
        if how == "head":
            ours.stdout.close()
        _, err = ours.communicate(timeout=30)
    assert ours.returncode == code
    assert err.count("\n") == 1
    assert "nothing more is shown" in err
    assert (fake.parameters, fake.capabilities["events"]) == (PARAMETERS, False)
