"""The guests of the corpus: the library's guest program under KVM, and Linux in QEMU under TCG."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from corpus_linux import initramfs, kernel
from corpus_parts import Case, Opened, running, says, traced, wait_for

from mempattern import Region
from mempattern.analysis.target import Target
from mempattern.microvm import Logging, MicroVM, Workload
from mempattern.sources.content import sample_content
from mempattern.sources.layout import Block

WARM_UP_S = 5.0
CSRC = Path(__file__).parent.parent / "csrc"

# ---- the guest program -----------------------------------------------------------------------


@contextmanager
def micro_vm(logging: Logging, n_pages: int, workload: Workload, _folder: Path) -> Iterator[Opened]:
    region = Region("ram", n_pages)
    with MicroVM([region], workload, logging=logging) as vm, vm.dirty_source() as source:
        vm.resume()
        for _ in source.intervals(0.1, int(WARM_UP_S / 0.1)):  # a ring must not fill up
            vm.check()
        block = Block(region, vm.page_writes("ram").ctypes.data)
        target = Target("micro VM", None, f"guest RAM, 1 memslot, {logging}", None, True)
        facts = target.to_meta() | sample_content(os.getpid(), [block]).to_meta()
        yield Opened(source, facts | {"command": workload.command_line(), "accel": "kvm"})
        vm.check()


def _micro_vm(logging: Logging, n_pages: int, workload: Workload) -> Case:
    name = f"guest-{logging}-{workload.pattern}"
    ways = {"log": "KVM_GET_DIRTY_LOG", "ring": "the KVM dirty ring"}
    what = f"the guest program, pattern {workload.pattern}, by {ways[logging]}"
    return Case(name, what, partial(micro_vm, logging, n_pages, workload), (), workload.seed)


_SMALL, _LARGE = 32_768, 65_536  # pages: 128 and 256 MiB

MICRO_VMS = (
    _micro_vm("log", _SMALL, Workload("idle", 1024, seed=11, rate=1000)),
    _micro_vm("log", _SMALL, Workload("sweep", 24_000, seed=12, rate=6000)),
    _micro_vm("log", _SMALL, Workload("stride", 16_000, seed=13, rate=4500, stride=40)),
    _micro_vm("log", _SMALL, Workload("hotset", 20_000, seed=14, rate=8000, hot_pages=1500)),
    _micro_vm("log", _SMALL, Workload("uniform", 16_000, seed=15, rate=1500)),
    _micro_vm("log", _SMALL, Workload("zipf", 30_000, seed=16, rate=3500)),
    _micro_vm("log", _SMALL, Workload("phased", 16_000, seed=17, rate=6000, hot_pages=3000,
                                      phases=("hotset", "idle"), phase_steps=15_000)),
    _micro_vm("ring", _LARGE, Workload("idle", 1024, seed=21, rate=1000)),
    _micro_vm("ring", _LARGE, Workload("sweep", 50_000, seed=22, rate=20_000)),
    _micro_vm("ring", _LARGE, Workload("stride", 40_000, seed=23, rate=12_000, stride=512)),
    _micro_vm("ring", _LARGE, Workload("hotset", 40_000, seed=24, rate=2500, hot_pages=6000)),
    _micro_vm("ring", _LARGE, Workload("uniform", 60_000, seed=25, rate=1000)),
    _micro_vm("ring", _LARGE, Workload("zipf", 60_000, seed=26, rate=1500)),
    _micro_vm("ring", _LARGE, Workload("phased", 40_000, seed=27, rate=12_000,
                                       phases=("sweep", "idle"), phase_steps=40_000)),
)  # fmt: skip

# ---- Linux -----------------------------------------------------------------------------------

REDIS = """
redis-server --save "" --port 0 --unixsocket /tmp/redis >/dev/null &
until redis-cli -s /tmp/redis ping >/dev/null 2>&1; do sleep 0.2; done
load() { redis-benchmark -s /tmp/redis -q "$@" >/dev/null; }
load -t set -r 100000 -n 100000 -d 700 -P 50
ready
while :; do
    load -t set -r 100000 -n 3000 -d 700 -c 4 -P 4
    load -t incr,lpush,hset -r 20000 -n 1000 -d 100 -c 4
    sleep 0.5
done
"""
COMPILER = """
cd /sources
cc1 -fpreprocessed -quiet -O2 $(ls | head -n 1) -o /tmp/first.s
ready
while :; do
    for file in *.i; do cc1 -fpreprocessed -quiet -O2 $file -o /tmp/${file%.i}.s; done
done
"""
IDLE = """
ready
while :; do sleep 60; done
"""


def preprocessed(folder: Path) -> dict[str, bytes]:
    """Our own C files, each with all its headers in it: what a build gives the compiler."""
    sources = {}
    for path in sorted(CSRC.glob("[bms]*/*.c")):
        command = ["gcc", "-E", f"-I{CSRC}/include", f"-I{CSRC}", str(path)]
        done = subprocess.run(command, capture_output=True, check=False, cwd=folder)
        if done.returncode == 0:
            sources[f"sources/{path.parent.name}-{path.stem}.i"] = done.stdout
    return sources


@contextmanager
def linux(mib: int, script: str, programs: tuple[str, ...], folder: Path) -> Iterator[Opened]:
    image, versions = kernel()
    files: Mapping[str, bytes] = {}
    if script is COMPILER:
        cc1 = subprocess.check_output(["gcc", "-print-prog-name=cc1"], text=True).strip()
        programs, files = (cc1,), preprocessed(folder)
    versions |= initramfs(folder / "initrd", script, programs, files)
    serial, monitor = folder / "serial", folder / "qmp"
    command = [
        "qemu-system-x86_64", "-machine", "pc,accel=tcg", "-cpu", "max", "-m", str(mib),
        "-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{serial}",
        "-qmp", f"unix:{monitor},server=on,wait=off", "-kernel", str(image),
        "-initrd", f"{folder}/initrd", "-append", "console=ttyS0 quiet panic=-1",
    ]  # fmt: skip
    log = folder / "qemu.log"
    with running(command, log) as qemu:
        wait_for(says(serial, "corpus: ready"), qemu, log)
        time.sleep(WARM_UP_S)
        command[command.index(str(image))] = image.name
        with traced(qemu.pid, command, folder, "--qmp", str(monitor), accel="tcg") as opened:
            facts = {"versions": json.dumps(versions), "init": " ".join(script.split())}
            yield Opened(opened.source, opened.facts | facts)


LINUX = (
    Case("linux-idle", "Linux in QEMU under TCG, idle: busybox's init, syslogd, crond",
         partial(linux, 256, IDLE, ()), ("qemu-system-x86",)),
    Case("linux-redis", "Linux in QEMU under TCG: redis-server, and redis-benchmark in bursts",
         partial(linux, 384, REDIS, ("redis-server", "redis-cli", "redis-benchmark")),
         ("qemu-system-x86", "redis-server", "redis-tools")),
    Case("linux-cc1", "Linux in QEMU under TCG: gcc's cc1 compiles our C files one by one",
         partial(linux, 512, COMPILER, ()), ("qemu-system-x86", "gcc-12", "cpp-12")),
)  # fmt: skip
