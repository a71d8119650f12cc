"""Clocks that jump and stand still, and tracers and targets that are stopped for a while."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import numpy as np
import pytest
from target import Target

from mempattern import Interval, Provenance, Region
from mempattern.sources import Source, base, open_process
from mempattern.trace import TraceReader

RAM = Region("ram", 64)
SET_BACK = r"""
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
/* Each question for the time of day is answered with an hour less than the last one. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    static long hours;
    int error = (int)syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        now->tv_sec -= 3600 * __atomic_add_fetch(&hours, 1, __ATOMIC_RELAXED);
    return error;
}
"""


class Clock(Source):
    """A clock that goes on only when somebody waits, and a source that collects by it."""

    def __init__(self):
        self.now_s = self.last_s = 100.0
        self.n = 0
        self.jumps = {}
        """Seconds, by the number of the collection that is waited for."""

    def monotonic(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds + self.jumps.get(self.n, 0.0)

    def collect(self):
        start_s, self.last_s = self.last_s, self.now_s
        self.n += 1
        ends = (round(moment * 1e9) for moment in (start_s, self.now_s))
        words = {"ram": np.zeros(1, np.uint64)}
        return Interval(self.n - 1, *ends, (RAM,), words, Provenance("test"))

    def close(self):
        pass


def test_a_jump_ahead_makes_one_interval_long(monkeypatch):
    """As after a SIGSTOP: no burst to catch up with what was missed, and the ticks stay."""
    clock = Clock()
    clock.jumps = {3: 3600.04}
    monkeypatch.setattr(base, "time", clock)
    intervals = list(clock.intervals(0.1, 8, wait=clock.sleep))
    assert [interval.duration_s for interval in intervals] == pytest.approx(
        [0.1, 0.1, 0.1, 3600.14, 0.06, 0.1, 0.1, 0.1]
    )
    assert all(a.end_ns == b.start_ns for a, b in itertools.pairwise(intervals))


@pytest.fixture
def set_back(tmp_path):
    """The environment of a program whose time of day goes back and back."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler")
    source, library = tmp_path / "set_back.c", tmp_path / "set_back.so"
    source.write_text(SET_BACK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    script = "import time; print(time.time() - time.time() > 3000)"
    said = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout == "True\n"
    return environment


@pytest.mark.usefixtures("uffd")
def test_a_tracer_that_is_stopped_while_the_time_of_day_goes_back(set_back, tmp_path):
    """Its intervals follow one another, one is as long as the stop, and no write is missing."""
    file = tmp_path / "stopped.mpt"
    with Target() as target:
        target.map(512)
        arguments = [str(target.pid), "--interval", "0.02", "-o", str(file), "--json"]
        tracer = subprocess.Popen(
            [sys.executable, "-m", "mempattern.cli.trace", *arguments],
            env=set_back, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            for _ in range(5):
                assert tracer.stdout.readline()
            os.kill(tracer.pid, signal.SIGSTOP)
            os.waitpid(tracer.pid, os.WUNTRACED)
            before_ns = time.monotonic_ns()
            target.write(range(100, 300))
            time.sleep(0.3)
            after_ns = time.monotonic_ns()
            os.kill(tracer.pid, signal.SIGCONT)
            for _ in range(30):
                assert tracer.stdout.readline()
            tracer.terminate()
            tracer.communicate()
        finally:
            tracer.kill()
    with TraceReader(file) as trace:
        intervals = list(trace)
        assert trace.dropped == 0
    assert all(a.end_ns == b.start_ns for a, b in itertools.pairwise(intervals))
    assert all(interval.lost_pages == 0 for interval in intervals)
    (long,) = (i for i in intervals if i.start_ns <= before_ns and i.end_ns >= after_ns)
    n_dirty = sum(int(np.bitwise_count(words).sum()) for words in long.bitmaps.values())
    assert n_dirty >= 200


@pytest.mark.usefixtures("uffd")
def test_a_target_that_is_stopped_writes_nothing_and_is_there():
    with Target() as target, ExitStack() as stack:
        address = target.map(64)
        source = stack.enter_context(open_process(target.pid))
        target.write(range(64))
        source.collect()
        os.kill(target.pid, signal.SIGSTOP)
        os.waitpid(target.pid, os.WUNTRACED)
        source.collect()
        interval = source.collect()
        assert not any(words.any() for words in interval.bitmaps.values())
        os.kill(target.pid, signal.SIGCONT)
        target.write([7])
        interval = source.collect()
        (region,) = (r for r in interval.regions if 0 <= address - r.address < r.n_pages * 4096)
        assert (address - region.address) // 4096 + 7 in interval.pages(region.name)
