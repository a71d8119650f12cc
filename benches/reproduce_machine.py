"""QEMUs that run the experiment's guests: booted once, and resumed from there for each run."""

from __future__ import annotations

import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reproduce_guests import KEPT, Guest, Machine

_BUSY_S = 3.0


@contextmanager
def machine(
    guest: Guest,
    accel: str,
    folder: Path,
    name: str,
    incoming: str | None = None,
    *,
    inside: Sequence[str] = (),
) -> Iterator[Machine]:
    """Gone at the end. `accel` is as QEMU's -accel takes it; `inside` runs a command elsewhere."""
    command = [
        *inside, "setpriv", "--pdeathsig", "KILL", "--", "qemu-system-x86_64", "-accel", accel,
        "-m", str(guest.ram_mib), "-nodefaults", "-display", "none", "-no-reboot",
        *guest.options(folder, name),
    ]  # fmt: skip
    command += ["-incoming", incoming] if incoming else guest.boot(folder)
    for socket in ("qmp", "look"):
        command += ["-qmp", f"unix:{folder / name}.{socket},server=on,wait=off"]
    with (folder / f"{name}.stderr").open("w") as stderr:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
        )
    try:
        yield Machine(process, folder, name)
    finally:
        process.kill()
        process.wait()


def resumed(guest: Guest, accel: str) -> str:
    """What QEMU's -incoming takes for the guest as it is some seconds after its start.

    It is booted, and what it is then is kept in a file, if that is not so yet.
    """
    kind = zlib.crc32(guest.content())
    state = KEPT / f"{guest.name}-{accel.partition(',')[0]}-{kind:08x}.state"
    if not state.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        partial = state.with_suffix(".partial")
        with (
            tempfile.TemporaryDirectory() as folder,
            machine(guest, accel, Path(folder), "first") as here,
        ):
            guest.wait_until_busy(here)
            time.sleep(_BUSY_S)
            here.ask("stop")
            here.ask("migrate", uri=f"exec:cat > '{partial}'")
            here.wait_for(lambda: here.ask("query-migrate")["status"] == "completed", "a state")
        partial.rename(state)
    return f"exec:cat '{state}'"
