"""How much tracing slows real targets down, in interleaved runs.

python benches/slowdown.py RESULTS.json

Each run of a target that is traced is between two of the same process that are not, and its speed
is held against their mean; the ways of tracing take turns. The tracers are
`mempattern-trace PID --quiet` as a user starts it, and QEMU's own `calc-dirty-rate`. Needs
redis-server, redis-benchmark, qemu-system-x86_64 and /dev/kvm.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import machine
import numpy as np
import numpy.typing as npt

from mempattern.microvm import guest_path
from mempattern.monitor.qmp import QMP
from mempattern.monitor.replies import as_object
from mempattern.qemu.ram import guest_ram_blocks

ROUNDS = 7
RUN_S = 4.0
SETTLE_S = 0.5
BEFORE = "before any tracing"
UNTRACED = "no tracing"
TRACED = {"1 Hz": 1.0, "10 Hz": 0.1}
QEMUS_OWN = "calc-dirty-rate"
KEYS = 100_000
GUEST_PAGES = 16384
GUEST_START = 16 << 20
PAGE = 4096

Ways = dict[str, Callable[[], AbstractContextManager[Any]]]
"""How to trace: a context manager, in which the target runs."""
Speeds = dict[str, float]
"""By their unit."""
Run = tuple[str, Speeds]
"""The way, and how fast the target was."""


def interleaved(run: Callable[[], Speeds], ways: Ways) -> list[Run]:
    """Each way `ROUNDS` times, in a rotating order, and before and after each a run untraced."""
    runs: list[Run] = []

    def take(way: str, tracing: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        with tracing():
            time.sleep(SETTLE_S)
            runs.append((way, run()))
        print(f"    {way:<18} {runs[-1][1]}", flush=True)

    names = list(ways)
    for number in range(ROUNDS):
        turn = number % len(names)
        for way in names[turn:] + names[:turn]:
            take(UNTRACED)
            take(way, ways[way])
    take(UNTRACED)
    return runs


# ---- the tracers ------------------------------------------------------------------------------


@contextmanager
def traced(pid: int, interval_s: float) -> Iterator[None]:
    """With `mempattern-trace` attached to the process, all of it."""
    tracer = subprocess.Popen(
        [sys.executable, "-m", "mempattern.cli.trace", str(pid), "--interval", str(interval_s),
         "--quiet"],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not is_registered(pid):
            if tracer.poll() is not None:
                raise SystemExit(f"the tracer ended with exit code {tracer.returncode}")
            time.sleep(0.05)
        yield
        tracer.terminate()
        if tracer.wait(30) != 128 + signal.SIGTERM:
            raise SystemExit(f"the tracer ended with exit code {tracer.returncode}")
    finally:
        tracer.kill()
        tracer.wait()


def is_registered(pid: int) -> bool:
    """Whether a userfaultfd with write-protection is; proc_pid_smaps(5), VmFlags."""
    return " uw" in Path(f"/proc/{pid}/smaps").read_text()


@contextmanager
def calc_dirty_rate(pid: int, socket: Path) -> Iterator[None]:
    """With QEMU's own count under way, again and again; a second is the shortest it does."""
    done = threading.Event()

    def measure() -> None:
        with QMP(socket, pid, timeout_s=60) as session:
            while not done.is_set():
                session.execute("calc-dirty-rate", **{"calc-time": 1, "mode": "dirty-bitmap"})
                command = "query-dirty-rate"
                while as_object(command, session.execute(command)).get("status") != "measured":
                    time.sleep(0.02)

    with ThreadPoolExecutor(1) as pool:
        measured = pool.submit(measure)
        try:
            yield
        finally:
            done.set()
        measured.result()


def ways_of(pid: int) -> Ways:
    return {name: partial(traced, pid, interval_s) for name, interval_s in TRACED.items()}


# ---- redis-server -----------------------------------------------------------------------------


@contextmanager
def redis(directory: Path) -> Iterator[tuple[int, Path]]:
    """Gives the server's pid and its socket."""
    path = directory / "redis.sock"
    server = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", str(path), "--dir", str(directory),
         "--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(path.exists, server)
        yield server.pid, path
    finally:
        server.kill()
        server.wait()


def redis_speeds(pid: int, path: Path, n_requests: int, options: tuple[str, ...]) -> Speeds:
    """As redis-benchmark says, and by the server's own CPU time, which other work does not take."""
    before_s = cpu_s(pid)
    answer = subprocess.run(
        ["redis-benchmark", "-s", str(path), "-t", "set", "-r", str(KEYS), "-n", str(n_requests),
         "--csv", *options],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    per_s = float(answer.splitlines()[-1].split(",")[1].strip('"'))
    return {"SET/s": per_s, "SET per CPU second": round(n_requests / (cpu_s(pid) - before_s))}


def cpu_s(pid: int) -> float:
    """Of all its threads, the kernel's work for them included."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def measure_redis(directory: Path, *options: str) -> list[Run]:
    with redis(directory) as (pid, path):
        redis_speeds(pid, path, 5 * KEYS, ("-P", "16"))  # nearly every key is there
        n_requests = int(RUN_S * redis_speeds(pid, path, KEYS, options)["SET/s"])
        return interleaved(lambda: redis_speeds(pid, path, n_requests, options), ways_of(pid))


# ---- a QEMU guest -----------------------------------------------------------------------------


@contextmanager
def guest(accel: str, socket: Path) -> Iterator[int]:
    """QEMU with the guest program, which writes to random pages as fast as it goes; its pid."""
    process = subprocess.Popen(
        ["qemu-system-x86_64", "-accel", accel, "-m", "128", "-display", "none", "-nodefaults",
         "-no-reboot", "-qmp", f"unix:{socket},server=on,wait=off", "-kernel", str(guest_path()),
         "-append", f"pattern=uniform pages={GUEST_PAGES}"],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(socket.exists, process)
        wait_until(lambda: bool(counters(process.pid).any()), process)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def counters(pid: int) -> npt.NDArray[np.uint32]:
    """How often the guest wrote each page, mod 2**32, as it notes in the page's first word."""
    (block,) = guest_ram_blocks(pid).blocks
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        data = os.pread(memory.fileno(), GUEST_PAGES * PAGE, block.host_start + GUEST_START)
    return np.frombuffer(data, "<u4").reshape(GUEST_PAGES, -1)[:, 0]


def guest_speeds(pid: int) -> Speeds:
    """By the guest's own counters."""
    start, before = time.monotonic(), counters(pid)
    time.sleep(RUN_S)
    end, after = time.monotonic(), counters(pid)
    writes = int((after - before).sum(dtype=np.uint64))
    return {"page writes/s": round(writes / (end - start))}


def measure_guest(accel: str, directory: Path) -> list[Run]:
    socket = directory / f"{accel}.qmp"
    with guest(accel, socket) as pid:
        time.sleep(SETTLE_S)
        before = [(BEFORE, guest_speeds(pid)) for _ in range(3)]
        ways = ways_of(pid)
        if accel == "kvm":  # under TCG this mode of QEMU 7.2 ends in a crash of QEMU
            ways[QEMUS_OWN] = lambda: calc_dirty_rate(pid, socket)
        return before + interleaved(lambda: guest_speeds(pid), ways)


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{process.args!r} did not come up")
        time.sleep(0.05)


def main(results: Path) -> None:
    needed = ("redis-server", "redis-benchmark", "qemu-system-x86_64")
    if missing := [program for program in needed if shutil.which(program) is None]:
        raise SystemExit(
            f"not installed: {', '.join(missing)}; "
            "apt-get install redis-server redis-tools qemu-system-x86"
        )
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise SystemExit("/dev/kvm does not open; see mempattern doctor")
    targets: dict[str, Callable[[Path], list[Run]]] = {
        "redis-server": measure_redis,
        "redis-server, 16 at once": lambda there: measure_redis(there, "-P", "16"),
        "QEMU-KVM guest": lambda there: measure_guest("kvm", there),
        "QEMU-TCG guest": lambda there: measure_guest("tcg", there),
    }
    run: dict[str, Any] = {"machine_info": machine.info(), "targets": []}
    for name, measure in targets.items():
        print(name, flush=True)
        with tempfile.TemporaryDirectory() as directory:
            runs = measure(Path(directory))
        run["targets"].append({"name": name, "runs": runs})
    results.write_text(json.dumps(run, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
