"""What tracing a process costs: its threads' stop, an idle collection, the tracer's own CPU."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from compiled import HERE
from conftest import keep

from mempattern import GroupStats
from mempattern.sources import ProcessWrites, doctor

GIB = 1 << 30
LEFT_FREE = 4 * GIB
PERIOD_S = 0.1

pytestmark = pytest.mark.skipif(
    not next(check.ok for check in doctor.probe() if check.name == "source uffd"),
    reason="the kernel cannot follow another process's writes; see mempattern doctor",
)


@pytest.fixture(scope="session")
def program():
    built = HERE.parent / "build" / "bench-target"
    built.parent.mkdir(exist_ok=True)
    subprocess.run(
        ["cc", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-o", str(built), str(HERE / "target.c"),
         "-lpthread"],
        check=True,
    )  # fmt: skip
    return built


@contextmanager
def running(program, tmp_path, *, gib=0, huge=False, threads=(1, 0)):
    """benches/target.c with so many threads asleep and busy.

    Gives its pid and, an array of one element, the largest gap it saw, in ns.
    """
    gaps = np.memmap(tmp_path / "gaps", np.uint64, "w+", shape=512)
    with open(tmp_path / "gaps", "r+b") as file:
        process = subprocess.Popen(
            [program, *map(str, (gib << 10, int(huge), *threads))],
            stdin=file, stdout=subprocess.PIPE,
        )  # fmt: skip
    try:
        assert process.stdout.readline() == b"ready\n", "the target has no memory"
        yield process.pid, gaps[:1]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize(
    ("threads", "goal_ms"),
    [((1, 0), 5), ((0, 1), 5), ((198, 2), 10)],
    ids=["1 thread, asleep", "1 thread, busy", "200 threads"],
)
def bench_attach(benchmark, program, tmp_path, threads, goal_ms):
    """Attach and detach, over and over: for how long the one thread is stopped, by our clock, and
    what a busy thread sees, against a time as long in which we are as busy without touching it.
    """
    stopped_ms, attaching_ms, without_ms = [], [], []
    took_s = PERIOD_S
    with running(program, tmp_path, threads=threads) as (pid, gap):

        def leave_alone():
            gap[0] = 0
            end = time.perf_counter() + took_s
            while time.perf_counter() < end:
                pass
            without_ms.append(gap[0] / 1e6)
            gap[0] = 0

        def attach():
            nonlocal took_s
            start = time.perf_counter()
            with ProcessWrites(pid) as source:
                stopped_ms.append(source.attach_s * 1e3)
            took_s = time.perf_counter() - start
            attaching_ms.append(gap[0] / 1e6)

        benchmark.pedantic(attach, setup=leave_alone, rounds=200, warmup_rounds=2)
    keep(benchmark, "stopped", stopped_ms[-200:], at_most=goal_ms, unit=" ms")
    worst = np.array(stopped_ms[-200:]).reshape(-1, 20).max(axis=1)
    keep(benchmark, "stopped, worst of 20", worst, at_most=goal_ms, unit=" ms")
    if threads[1]:
        keep(benchmark, "its largest gap, meanwhile", attaching_ms[-200:], unit=" ms")
        keep(benchmark, "the same, left alone", without_ms[-200:], unit=" ms")


@pytest.mark.parametrize("huge", [False, True], ids=["4 KiB pages", "huge pages"])
def bench_idle_collection(benchmark, program, tmp_path, huge):
    """16 GiB, or as much as there is; ten times a second, as a tracer does it."""
    gib = 16
    while gib > 1 and available_bytes() - gib * GIB < LEFT_FREE:
        gib //= 2
    with (
        running(program, tmp_path, gib=gib, huge=huge) as (pid, _),
        ProcessWrites(pid) as source,
    ):
        assert (source.huge_bytes > 0) == huge
        benchmark.pedantic(
            source.collect, setup=lambda: time.sleep(PERIOD_S), rounds=40, warmup_rounds=3
        )
        last = source.collect()
        assert all(len(last.pages(region.name)) == 0 for region in last.regions)
    ms = [1e3 * seconds for seconds in benchmark.stats.stats.data]
    keep(benchmark, f"{gib} GiB", ms, at_most=10, unit=" ms")


def available_bytes():
    text = Path("/proc/meminfo").read_text()
    return int(text.partition("MemAvailable:")[2].split()[0]) << 10


def bench_tracer_cpu(benchmark, program, tmp_path):
    """CPU time at 10 Hz on an idle target of 1 GiB in 4 KiB pages, in percent of one core.

    Of the command its start and its end are subtracted: what it costs for one interval.
    """
    duration_s = 10
    of_command, of_library = [], []
    with running(program, tmp_path, gib=1) as (pid, _):

        def watch():
            whole = command_cpu_s(pid, "--duration", str(duration_s))
            ends = command_cpu_s(pid, "--count", "1")
            of_command.append(100 * (whole - ends) / (duration_s - PERIOD_S))
            of_library.append(100 * library_cpu_s(pid, duration_s) / duration_s)

        benchmark.pedantic(watch, rounds=7)
    keep(benchmark, "mempattern-trace --quiet", of_command, at_most=1, unit=" %")
    keep(benchmark, "ProcessWrites, GroupStats", of_library, at_most=1, unit=" %")


def command_cpu_s(pid, *options):
    process = subprocess.Popen(
        [sys.executable, "-m", "mempattern.cli.trace", str(pid), "--interval", str(PERIOD_S),
         "--quiet", *options],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def library_cpu_s(pid, duration_s):
    with ProcessWrites(pid) as source:
        stats = GroupStats(source.regions)
        start = time.thread_time()
        for interval in source.intervals(PERIOD_S, round(duration_s / PERIOD_S)):
            stats.update(interval)
        return time.thread_time() - start
