"""One migration of the experiment: a guest, how its writes are seen, a policy; what came of it.

The policy acts through `mempattern migrate`, as anybody would have it. Measured from outside: for
how long the guest stood still, and whether its memory is whole where it arrived.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from link import link
from machine import kernel
from reproduce_guests import CEILING_S, Checked, Guest, Machine
from reproduce_machine import machine, resumed

URI = "tcp:127.0.0.1:4444"
WARM_UP_S = 1.0
SETTLE_S = 0.3
"""It runs where it arrived for so long before its memory is looked at."""
_OWN = Path(__file__).with_name("reproduce_policies.py")


@dataclass(frozen=True)
class Steered:
    policy: str
    """As `mempattern migrate` takes it."""
    sees_pages: bool = False
    observe_s: float = 0.0


LEAST = "relaxed-least"
"""Stock with the smallest limit with which that guest was seen to migrate."""
AS_MP = "relaxed-as-mp"
"""Stock with a limit that allows the downtime which MP took, had it been known beforehand."""
POLICIES = {
    "stock": Steered("stock"),
    LEAST: Steered("stock"),
    AS_MP: Steered("stock"),
    "relaxed-ceiling": Steered("relaxed"),
    "auto-converge": Steered("auto-converge"),
    "kubevirt-ramp": Steered(f"{_OWN}:Ramp"),
    "kubevirt-stall": Steered(f"{_OWN}:Stall"),
    "mp": Steered("mp", sees_pages=True),
    "best": Steered("best", sees_pages=True, observe_s=4.0),
}


@contextmanager
def pair(guest: Guest, accel: str) -> Iterator[tuple[Machine, Machine]]:
    """The source, where the guest is busy, and the destination, which waits at `URI`."""
    with ExitStack() as stack:
        enter = stack.enter_context
        folder = Path(enter(tempfile.TemporaryDirectory()))
        inside = enter(link(guest.bandwidth_Bps))
        there = enter(machine(guest, accel, folder, "destination", URI, inside=inside))
        here = enter(machine(guest, accel, folder, "source", resumed(guest, accel), inside=inside))
        there.wait("inmigrate")
        here.wait("paused")  # as it was kept
        here.ask("cont")
        time.sleep(WARM_UP_S)
        yield here, there


def migrate(guest: Guest, accel: str, policy: str, limit_s: float | None = None) -> dict[str, Any]:
    """How it went, as one object. `accel` is as QEMU's -accel takes it.

    `limit_s` is QEMU's downtime limit before anybody steers; by default QEMU's own.
    """
    with pair(guest, accel) as (here, there):
        if limit_s is not None:
            here.ask("migrate-set-parameters", **{"downtime-limit": round(limit_s * 1000)})
        qemu = here.ask("query-version")["qemu"]
        versions = {"qemu": "{major}.{minor}.{micro}".format(**qemu), "kernel": kernel()}
        with guest.watch(here, there) as blackout:
            said = _steer(guest, POLICIES[policy], here)
            moved = said["end"]["status"] == "completed"
            checked = _check(guest, there if moved else here, here)
    return {
        "limit_s": limit_s, "blackout_s": blackout.seconds if moved else None,
        "intact": checked.intact, "checked_by": checked.by, "versions": versions, **said,
    }  # fmt: skip


def _check(guest: Guest, now: Machine, source: Machine) -> Checked:
    """Where it runs after the migration, or does not."""
    try:
        now.wait("running")
        time.sleep(SETTLE_S)
        return guest.check(now, source)
    except (RuntimeError, OSError) as error:
        return Checked(False, f"the guest is lost: {error}")


_KEPT = ("at_s", "number", "remaining_bytes", "sent_bytes", "dirty_pages", "limit_s", "throttle")


def _steer(guest: Guest, steered: Steered, here: Machine) -> dict[str, Any]:
    command = [
        str(Path(sys.executable).with_name("mempattern")), "migrate", "--json",
        "--qmp", str(here.qmp), "--to", URI, "--policy", steered.policy,
        "--max-downtime", f"{CEILING_S}s", "--bandwidth", f"{guest.bandwidth_Bps * 8}bit",
        "--max-time", f"{guest.patience_s}s", "--on-nonconvergence", "cancel",
    ]  # fmt: skip
    command += ["--observe", f"{steered.observe_s}s"] if steered.observe_s else []
    command += [] if steered.sees_pages else ["--no-trace"]
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    events: dict[str, list[dict[str, Any]]] = {"pass": [], "decision": [], "end": []}
    for line in done.stdout.splitlines():
        one = json.loads(line)
        events.setdefault(one.pop("event"), []).append(one)
    if not events["end"]:
        raise RuntimeError(f"mempattern migrate ended with {done.returncode}: {done.stderr}")
    return {
        "end": events["end"][0],
        "passes": [{key: one[key] for key in _KEPT} for one in events["pass"]],
        "decisions": [
            {key: one[key] for key in ("at_s", "number", "did", "why", "late_s")}
            for one in events["decision"]
        ],
    }
