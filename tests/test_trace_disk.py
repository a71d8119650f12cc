"""Recordings that are killed, forked or left open; disks that are slow, stuck, full or broken."""

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from traces import HERE, REGIONS, assert_same, make_intervals, query, read_all

from mempattern import Region
from mempattern.errors import TraceError
from mempattern.trace import TraceReader, TraceWriter, commits


@pytest.fixture
def path(tmp_path):
    return tmp_path / "t.mpt"


_PRELUDE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from mempattern.errors import ClosedError
from test_trace_disk import *
"""


def run(program, *arguments, prefix=()):
    """A Python program that has this directory's modules, to its end."""
    return subprocess.run(
        [*prefix, sys.executable, "-c", _PRELUDE + program, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


# ---- slow --------------------------------------------------------------------------------------

N_BYTES = sum(region.n_words for region in REGIONS) * 8


def wait_for(trace, n_intervals):
    """Until so many are in the file, and out of the queue."""
    while trace.written < n_intervals:
        time.sleep(0.001)


class Gate:
    """In place of the compressor: nothing passes while it is shut."""

    def __init__(self, monkeypatch):
        self._open, self.reached = threading.Event(), threading.Event()
        self._pack = commits.Packer().pack
        monkeypatch.setattr(commits.Packer, "pack", lambda _, words: self.pack(words))

    def pack(self, words):
        self.reached.set()
        self._open.wait(60)
        return self._pack(words)

    def open(self):
        self._open.set()


@pytest.fixture
def gate(monkeypatch):
    gate = Gate(monkeypatch)
    yield gate
    gate.open()


def test_what_the_disk_is_too_slow_for_is_dropped_counted_and_recorded(path, gate, monkeypatch):
    monkeypatch.setattr(commits, "_QUEUE_BYTES", 3 * N_BYTES)
    intervals = make_intervals(9)
    with TraceWriter(path, REGIONS, HERE) as trace:
        for interval in intervals[:5]:  # 0 is being written, 1 and 2 wait
            trace.write(interval)
        assert trace.dropped == 2
        gate.open()
        wait_for(trace, 3)
        gate._open.clear()
        for interval in intervals[5:]:  # 5, 6, 7
            trace.write(interval)
        assert trace.dropped == 3
        gate.open()
    kept = [intervals[index] for index in (0, 1, 2, 5, 6, 7)]
    with TraceReader(path) as trace:
        assert trace.dropped == 3
        for interval, expected in zip(trace, kept, strict=True):
            assert_same(interval, expected)  # with its index and its start as they were
    assert query(path, "select * from dropped") == [(3, 2), (6, 1)]
    dropped = query(path, "select dropped_before from timeline order by id")
    assert [number for (number,) in dropped] == [0, 0, 0, 2, 0, 0]


def test_regions_that_grew_in_a_dropped_interval(path, gate, monkeypatch):
    monkeypatch.setattr(commits, "_QUEUE_BYTES", 1)
    grown = (*REGIONS, Region("new", 100))
    first = make_intervals(1)[0]
    dropped, last = (
        dataclasses.replace(interval, start_ns=first.end_ns + n, end_ns=first.end_ns + n + 1)
        for n, interval in enumerate(make_intervals(3, grown)[1:])
    )
    with TraceWriter(path, REGIONS, HERE) as trace:
        for interval in (first, dropped):
            trace.write(interval)
        gate.open()
        wait_for(trace, 1)
        trace.write(last)
    assert trace.dropped == 1
    for interval, expected in zip(read_all(path), (first, last), strict=True):
        assert_same(interval, expected)
    assert query(path, "select first_interval from region") == [(0,), (0,), (1,)]


def test_one_interval_may_always_wait(path, monkeypatch):
    monkeypatch.setattr(commits, "_QUEUE_BYTES", 1)
    intervals = make_intervals(3)
    with TraceWriter(path, REGIONS, HERE) as trace:
        for number, interval in enumerate(intervals, 1):
            trace.write(interval)
            wait_for(trace, number)
    assert (len(read_all(path)), trace.dropped) == (3, 0)


def test_what_waits_together_is_committed_together(path, gate, monkeypatch):
    monkeypatch.setattr(commits, "_GATHER_S", 60)
    with TraceWriter(path, REGIONS, HERE) as trace:
        trace.write(make_intervals(1)[0])
        assert gate.reached.wait(60)
        for interval in make_intervals(6)[1:]:
            trace.write(interval)
        gate.open()
        seen = set()
        while trace.written < 6:
            seen.add(trace.written)
            time.sleep(0.0005)
    assert seen <= {0}
    assert len(read_all(path)) == 6


def test_of_what_waits_together_a_failure_leaves_all_or_nothing(path, gate, monkeypatch):
    put, n_put = commits.Commits._put, itertools.count()

    def fails_at_the_fourth(*args):
        if next(n_put) == 3:
            raise OSError("no more of that")
        put(*args)

    monkeypatch.setattr(commits.Commits, "_put", fails_at_the_fourth)
    monkeypatch.setattr(commits, "_GATHER_S", 60)
    trace = TraceWriter(path, REGIONS, HERE)
    for interval in make_intervals(6):
        trace.write(interval)
    gate.open()
    with pytest.raises(TraceError, match="no more of that"):
        trace.close()
    assert (trace.written, read_all(path)) == (0, [])


def test_closing_does_not_wait_for_ever_for_a_slow_disk(path, gate, monkeypatch):
    monkeypatch.setattr(commits, "_FLUSH_S", 0.05)
    trace = TraceWriter(path, REGIONS, HERE)
    for interval in make_intervals(5):
        trace.write(interval)
    assert gate.reached.wait(60)
    opener = threading.Timer(0.3, gate.open)
    opener.start()
    trace.close()
    opener.join()
    assert (trace.written, trace.dropped) == (1, 4)
    with TraceReader(path) as reader:
        assert (len(reader), reader.dropped) == (1, 4)


def test_ctrl_c_while_closing(path, gate):
    trace = TraceWriter(path, REGIONS, HERE)
    for interval in make_intervals(5):
        trace.write(interval)
    assert gate.reached.wait(60)
    interrupt = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    opener = threading.Timer(0.4, gate.open)

    def close():
        interrupt.start()
        opener.start()
        trace.close()

    with pytest.raises(KeyboardInterrupt):
        close()
    opener.join()
    trace.close()
    assert (trace.written, trace.dropped) == (1, 4)
    with TraceReader(path) as reader:
        assert (len(reader), reader.dropped) == (1, 4)


def test_closing_does_not_wait_for_ever_for_a_disk_that_does_not_answer(path, gate, monkeypatch):
    monkeypatch.setattr(commits, "_FLUSH_S", 0.05)
    monkeypatch.setattr(commits, "_LAST_S", 0.05)
    trace = TraceWriter(path, REGIONS, HERE)
    for interval in make_intervals(3):
        trace.write(interval)
    with pytest.raises(TraceError, match="the disk does not answer; the first 0 intervals"):
        trace.close()
    gate.open()
    trace._commits._thread.join(60)
    assert not trace._commits._thread.is_alive()


# ---- full or broken ----------------------------------------------------------------------------

_FILL = """
path, counts = Path(sys.argv[1]), []
intervals = make_intervals(200, kinds=["dense"])
try:
    with TraceWriter(path, REGIONS, HERE) as trace:
        for interval in intervals:
            trace.write(interval)
            time.sleep(0.0005)
except TraceError as error:
    print(error)
try:
    trace.write(intervals[-1])
except ClosedError:
    print("closed")
trace.close()
found = read_all(path)
for interval, expected in zip(found, intervals):
    assert_same(interval, expected)
print(len(found), trace.written)
"""


def assert_said_and_safe(done, path, error):
    said, closed, counts = done.stdout.splitlines()
    n_found, n_written = map(int, counts.split())
    assert said.startswith(f"{path} cannot be written: {error}"), done
    assert f"its first {n_written} intervals are safe" in said
    assert closed == "closed"
    assert 0 < n_found == n_written < 200
    assert done.stderr == ""


def test_a_full_disk(path):
    """A tiny file system in a mount namespace of its own, which goes with the process."""
    inside = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*inside, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a mount namespace needs root or user namespaces: run as root")
    mount = f'mount -t tmpfs -o size=300k none {path.parent} && exec "$@"'
    done = run(_FILL, path, prefix=[*inside, "sh", "-c", mount, "sh"])
    assert_said_and_safe(done, path, "database or disk is full")


def test_a_file_that_may_not_grow(path):
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
    assert_said_and_safe(run(limit + _FILL, path), path, "")


def test_no_room_even_for_the_head_leaves_an_old_file_alone(path):
    path.write_bytes(b"precious")
    program = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    TraceWriter(sys.argv[1], REGIONS, HERE, force=True)
except TraceError as error:
    print(error)
"""
    done = run(program, path)
    assert done.stdout.startswith(f"{path} cannot be written: "), done
    assert path.read_bytes() == b"precious"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_whatever_fails_in_the_thread_is_told_by_write_and_by_close(path, monkeypatch):
    def fail(self, words):
        raise MemoryError("no memory")

    intervals = make_intervals(3)
    trace = TraceWriter(path, REGIONS, HERE)
    trace.write(intervals[0])
    wait_for(trace, 1)
    monkeypatch.setattr(commits.Packer, "pack", fail)
    trace.write(intervals[1])
    while not trace._commits.failure:
        time.sleep(0.001)
    message = "cannot be written: no memory; its first 1 intervals are safe, and none after"
    with pytest.raises(TraceError, match=message):
        trace.write(intervals[2])
    with pytest.raises(TraceError, match=message):
        trace.close()
    trace.close()
    assert_same(*read_all(path), intervals[0])


# ---- left by an exception, left open, forked, read ----------------------------------------------


def test_an_exception_in_the_middle_leaves_what_was_written(path):
    def fail():
        with TraceWriter(path, REGIONS, HERE) as trace:
            for interval in make_intervals(3):
                trace.write(interval)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(read_all(path)) == 3
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_writer_that_nobody_closed(path):
    done = run(
        "trace = TraceWriter(sys.argv[1], REGIONS, HERE)\n"
        "for interval in make_intervals(5):\n    trace.write(interval)",
        path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(read_all(path)) == 5
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_writer_that_nobody_references_ends(path):
    trace = TraceWriter(path, REGIONS, HERE)
    thread = trace._commits._thread
    trace.write(make_intervals(1)[0])
    del trace
    thread.join(60)
    assert not thread.is_alive()
    assert len(read_all(path)) == 1


def test_a_forked_child_neither_writes_nor_closes(path):
    """And its end, an interpreter's as usual, takes nothing away from its parent."""
    program = """
intervals = make_intervals(6)
trace = TraceWriter(sys.argv[1], REGIONS, HERE)
for interval in intervals[:3]:
    trace.write(interval)
child = os.fork()
if child == 0:
    try:
        trace.write(intervals[3])
    except ClosedError as error:
        print(error, flush=True)
    trace.close()
    sys.exit(7)
_, status = os.waitpid(child, 0)
for interval in intervals[3:]:
    trace.write(interval)
trace.close()
print(os.waitstatus_to_exitcode(status), len(read_all(sys.argv[1])))
"""
    done = run(program, path)
    refused, counts = done.stdout.splitlines()
    assert refused.endswith("is written by the process that opened it, not by a fork")
    assert counts == "7 6"
    assert done.stderr == ""


def test_a_reader_that_has_the_file_open_when_it_is_closed(path):
    trace = TraceWriter(path, REGIONS, HERE)
    trace.write(make_intervals(1)[0])
    wait_for(trace, 1)
    with TraceReader(path) as reader:
        trace.close()
        assert len(reader) == 1
        assert_same(reader[0], make_intervals(1)[0])
    assert len(read_all(path)) == 1


# ---- killed ------------------------------------------------------------------------------------

_WRITE_FOREVER = """
intervals = large_intervals()
with TraceWriter(sys.argv[1], LARGE, HERE) as trace:
    for number in range(10**9):
        trace.write(nth(intervals, number))
        print(trace.written, flush=True)
"""
LARGE = (Region("ram", 1 << 22), Region("vga", 1 << 20))  # half a megabyte, so that writing lasts


def large_intervals():
    return make_intervals(3, LARGE, seed=5, kinds=["dense"])


def nth(intervals, number):
    """They come again and again, grown in time, and with one more page from time to time."""
    first = 10**9 * number
    like = intervals[number % len(intervals)]
    return dataclasses.replace(like, index=number, start_ns=first, end_ns=first + 10**9)


@pytest.mark.parametrize("after", [0, 1, 2, 5, 9, 14])
def test_a_killed_writer_leaves_what_it_committed(path, after):
    """Its thread hardly does anything but write, so it is killed in the middle of an interval."""
    with subprocess.Popen(
        [sys.executable, "-c", _PRELUDE + _WRITE_FOREVER, path], stdout=subprocess.PIPE, text=True
    ) as writer:
        committed = 0
        for line in writer.stdout:
            committed = int(line)
            if committed > after:
                time.sleep(0.001 * after)
                writer.send_signal(signal.SIGKILL)
                break
        committed = max([committed, *(int(line) for line in writer.stdout)])
    assert writer.returncode == -signal.SIGKILL
    expected, found = large_intervals(), read_all(path)
    assert len(found) >= committed
    for interval in found:
        assert_same(interval, nth(expected, interval.index))
    for at, n_dropped in query(path, "select * from dropped"):
        assert found[at].index - found[at - 1].index == n_dropped + 1
    query(path, "pragma journal_mode = delete")  # as docs/trace.md says, and it is one file again
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert len(read_all(path)) == len(found)
