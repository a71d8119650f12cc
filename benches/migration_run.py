"""Real migrations of the guest program between two QEMUs, traced: what forecasts are held against.

python benches/migration_run.py SET DIRECTORY [NAME...]

Each case of `migration_cases.py` gives NAME.json (the case, every pass as it ended, QEMU's figures
ten times a second, the result) and NAME.mpt (the guest's dirty pages from some seconds before the
migration until its end, or its beginning). Cases that have both are left out, so that an
interrupted run goes on. The link is the loopback device of a network namespace behind a token
bucket. Needs root, /dev/kvm, qemu-system-x86_64, and `ip` and `tc` of iproute2.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from link import link
from machine import kernel
from migration_cases import CASES, FILL_BYTES_START, Case
from qemu.qmp import EventListener, QMPClient

from mempattern.microvm import guest_path
from mempattern.qemu.ram import guest_ram_blocks
from mempattern.sources import ProcessWrites
from mempattern.sources.layout import guest_ram
from mempattern.trace import TraceWriter

PERIOD_S = 0.05
POLL_S = 0.1
GROUP_BYTES = 512 * 4096
PORT = 4444


@contextmanager
def qemu(inside: list[str], case: Case, folder: Path, name: str, *more: str):
    """A QEMU of the case's machine; gives the process and its QMP socket."""
    socket = folder / f"{name}.qmp"
    command = [
        *inside, "qemu-system-x86_64", "-machine", f"pc,accel={case.accel}", "-m",
        str(case.ram_mib), "-nodefaults", "-display", "none", "-no-reboot",
        "-serial", f"file:{folder / name}.serial", "-qmp", f"unix:{socket},server=on,wait=off",
        "-kernel", str(guest_path()), "-append", case.command_line,
        "-global", f"migration.x-clear-bitmap-shift={case.clear_shift}", *more,
    ]  # fmt: skip
    if case.fill_mib:
        command += ["-device", f"loader,file={folder}/fill,addr={FILL_BYTES_START},force-raw=on"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=(folder / f"{name}.stderr").open("w"))  # fmt: skip
    try:
        yield process, socket
    finally:
        process.kill()
        process.wait()


def nonzero_pages(pid: int, placed: list[Any]) -> list[list[int]]:
    """Of each group of each region, the pages that hold anything but zeros; all are read."""
    counts: list[list[int]] = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for part in placed:
            groups = []
            for start in range(part.start, part.end, GROUP_BYTES):
                memory.seek(start)
                piece = memory.read(min(GROUP_BYTES, part.end - start))
                words = np.frombuffer(piece, np.uint64).reshape(-1, 512)
                groups.append(int(np.count_nonzero(words.any(axis=1))))
            counts.append(groups)
    return counts


def said(info: dict[str, Any]) -> dict[str, Any]:
    """Of `query-migrate`, what a forecast is held against, and QEMU's own forecast."""
    ram = info.get("ram", {})
    kept = ("transferred", "remaining", "dirty-sync-count", "dirty-pages-rate", "mbps")
    return {key: ram[key] for key in kept if key in ram} | {
        key: info[key] for key in ("status", "expected-downtime") if key in info
    }


class Tracing:
    """Collects every `PERIOD_S`, and at once when told to, until closed; in a thread of its own."""

    def __init__(self, source: ProcessWrites, writer: TraceWriter) -> None:
        self._source, self._writer = source, writer
        self.now = threading.Event()
        self._closed = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._closed:
                self.now.wait(PERIOD_S)
                self.now.clear()
                self._writer.write(self._source.collect())
        except Exception as error:  # told by close
            self._failure = error

    def close(self) -> None:
        self._closed = True
        self._thread.join()
        if self._failure is not None:
            raise self._failure


async def migrate(case: Case, source: Path, on_pass: Callable[[], None]) -> dict[str, Any]:
    """What QEMU said: passes as they ended, polls, the result; times are CLOCK_MONOTONIC ns."""
    client = QMPClient()
    passes: list[dict[str, Any]] = []
    polls: list[dict[str, Any]] = []
    await client.connect(str(source))
    capabilities = [{"capability": "events", "state": True}]
    await client.execute("migrate-set-capabilities", {"capabilities": capabilities})
    await client.execute(
        "migrate-set-parameters",
        {"max-bandwidth": 1 << 40, "downtime-limit": case.downtime_limit_ms},
    )

    async def take(listener: EventListener) -> None:
        async for event in listener:
            now = time.monotonic_ns()
            on_pass()
            info: Any = await client.execute("query-migrate")
            data: Any = event["data"]
            passes.append({"ns": now, "pass": data["pass"], **said(info)})

    with client.listener("MIGRATION_PASS") as listener:
        taking = asyncio.create_task(take(listener))
        started = time.monotonic_ns()
        await client.execute("migrate", {"uri": f"tcp:127.0.0.1:{PORT}"})
        cancelled = False
        info: Any
        while True:
            info = await client.execute("query-migrate")
            polls.append({"ns": time.monotonic_ns(), **said(info)})
            if info["status"] in ("completed", "failed", "cancelled"):
                await asyncio.sleep(0.3)  # the status comes before the figures do
                info = await client.execute("query-migrate")
                break
            seconds = (time.monotonic_ns() - started) / 1e9
            if seconds > case.patience_s and not cancelled:
                cancelled = True
                await client.execute("migrate_cancel")
            await asyncio.sleep(POLL_S)
        ended = time.monotonic_ns()
        taking.cancel()
    version: Any = await client.execute("query-version")
    running: Any = await client.execute("query-status")
    await client.disconnect()
    return {"started_ns": started, "ended_ns": ended, "passes": passes, "polls": polls,
            "result": info, "qemu": version["qemu"],
            "source_status": running["status"]}  # fmt: skip


def record(case: Case, directory: Path) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if case.fill_mib:
            (folder / "fill").write_bytes(os.urandom(1 << 20) * case.fill_mib)
        inside = stack.enter_context(link(case.bandwidth_Bps))
        enter = stack.enter_context
        enter(qemu(inside, case, folder, "destination", "-incoming", f"tcp:127.0.0.1:{PORT}"))
        process, near = enter(qemu(inside, case, folder, "source"))
        wait_for(folder / "source.serial", "pattern=", process)
        time.sleep(case.warm_up_s)
        layout = guest_ram(guest_ram_blocks(process.pid, near).blocks)
        name = directory / case.name
        trace = name.with_suffix(".mpt")
        trace.unlink(missing_ok=True)
        with ProcessWrites(process.pid, layout) as source:
            meta = {"case": json.dumps(asdict(case))}
            with TraceWriter(trace, source.regions, source.provenance, meta, force=True) as writer:
                tracing = Tracing(source, writer)
                try:
                    time.sleep(case.observe_s)
                    nonzero = nonzero_pages(process.pid, source.placed)
                    if case.is_traced_meanwhile:
                        run_ = asyncio.run(migrate(case, near, tracing.now.set))
                finally:
                    tracing.close()
        if not case.is_traced_meanwhile:
            run_ = asyncio.run(migrate(case, near, lambda: None))
        run_ |= {"case": asdict(case), "nonzero_pages": nonzero, "kernel": kernel()}
        name.with_suffix(".json").write_text(json.dumps(run_))
        ram = run_["result"].get("ram", {})
        print(f"{case.name}: {run_['result']['status']}, {ram.get('dirty-sync-count')} passes, "
              f"{run_['result'].get('total-time')} ms, {ram.get('transferred', 0) / 1e6:.1f} MB, "
              f"downtime {run_['result'].get('downtime')} ms", flush=True)  # fmt: skip


def wait_for(path: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while not (path.exists() and text in path.read_text(errors="replace")):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"QEMU ended, or its guest says nothing: {path.parent}")
        time.sleep(0.05)


def main() -> None:
    which, directory, *names = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # with everything cleaned up
    os.nice(-10)  # what else the machine does must not slow the guest
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    for case in CASES[which]:
        done = all((folder / f"{case.name}.{kind}").exists() for kind in ("json", "mpt"))
        if (not names or case.name in names) and not done:
            record(case, folder)


if __name__ == "__main__":
    main()
