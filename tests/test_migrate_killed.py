"""`mempattern migrate` is killed at whatever moment: QEMU goes on as if it had never been there."""

import random
import signal
import subprocess
import sys
import time

import pytest
from qemu_pair import qemu_pair
from waiting import until

pytestmark = pytest.mark.usefixtures("qemu", "uffd")

INTENSIVE = "pattern=uniform pages=9000 seed=6 rate=20000"
BYTES_PER_S = 35e6
ENDS = ("completed", "failed", "cancelled")


def command(pair, *more):
    return [
        sys.executable, "-m", "mempattern.cli.main", "migrate", "--qmp", str(pair.qmp),
        "--to", pair.link.uri, "--max-downtime", "1s", "--bandwidth", "36MB/s", *more,
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_killed(seed, tmp_path):
    """The policy throttles, so that a number of settings are changed; a second is too little."""
    rng = random.Random(seed)
    with qemu_pair("tcg", INTENSIVE, tmp_path, BYTES_PER_S) as pair:
        before = pair.settings()
        options = ("--policy", "relaxed", "--on-nonconvergence", "throttle", "--max-time", "2s")
        ours = subprocess.Popen(command(pair, *options), stdout=subprocess.DEVNULL)
        if seed:
            until(lambda: pair.ask("query-migrate").get("status", "none") != "none")
            time.sleep(rng.uniform(0, 3))
        else:
            time.sleep(rng.uniform(0.3, 0.8))  # while it starts
        ours.kill()
        assert ours.wait() in (-signal.SIGKILL, 0)  # or it had ended
        until(lambda: pair.settings()[0] == before[0])
        status = pair.ask("query-migrate").get("status", "none")
        if status not in ("none", *ENDS):
            pair.ask("migrate_cancel")
            until(lambda: pair.ask("query-migrate")["status"] in ENDS)
        until(lambda: pair.settings() == before)
        moved = pair.ask("query-migrate").get("status") == "completed"
        assert pair.is_running() != moved


def test_ctrl_c_while_it_observes(tmp_path):
    with qemu_pair("tcg", INTENSIVE, tmp_path, BYTES_PER_S) as pair:
        before = pair.settings()
        ours = subprocess.Popen(
            command(pair, "--observe", "60s"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert "observing" in ours.stdout.readline()
        ours.send_signal(signal.SIGINT)
        _, err = ours.communicate(timeout=20)
        assert (ours.returncode, "before the migration was started" in err) == (130, True)
        assert pair.settings() == before
        assert pair.is_running()


@pytest.mark.parametrize("how", ["cut", "signal"])
def test_ended_otherwise(how, tmp_path):
    """The link is cut: the guest stays. Ctrl-C: it is cancelled."""
    with qemu_pair("tcg", INTENSIVE, tmp_path, BYTES_PER_S) as pair:
        before = pair.settings()
        ours = subprocess.Popen(
            command(pair, "--policy", "stock"), stdout=subprocess.PIPE, text=True
        )
        until(lambda: pair.ask("query-migrate").get("ram", {}).get("dirty-sync-count", 0) >= 2)
        if how == "cut":
            pair.link.cut()
        else:
            ours.send_signal(signal.SIGINT)
        said, _ = ours.communicate(timeout=20)
        assert ours.returncode == (1 if how == "cut" else 130), said
        assert "the guest is where it was" in said
        assert pair.is_running()
        assert pair.settings() == before
