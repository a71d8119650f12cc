"""Threads hammering one object: each call is served or refused, and what was served is right."""

import itertools
import sys
import threading

import numpy as np
import pytest
from traces import HERE, assert_same, make_intervals, read_all, write

from mempattern import DirtyHistory, DistinctPages, GroupStats, Interval, Region
from mempattern.errors import BusyError, ClosedError, TraceError
from mempattern.sources import Replay
from mempattern.trace import TraceReader, TraceWriter

N_THREADS, N_CALLS = 4, 150
RAM = Region("ram", 20_000)
WORDS = np.random.default_rng(1).integers(0, 2**64, RAM.n_words, dtype=np.uint64)
N_DIRTY = int(np.bitwise_count(WORDS[:-1]).sum()) + (int(WORDS[-1]) & (1 << 32) - 1).bit_count()


@pytest.fixture(autouse=True)
def often():
    """Threads take turns in the middle of everything."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def hammer(call, *refusals):
    """How often the call, made by all at once, was served."""
    served, wrong = itertools.count(), []
    together = threading.Barrier(N_THREADS)

    def work():
        together.wait()
        for _ in range(N_CALLS):
            try:
                call()
                next(served)
            except refusals:
                pass
            except BaseException as error:
                wrong.append(error)
                raise

    threads = [threading.Thread(target=work) for _ in range(N_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    return next(served)


def test_statistics_and_history():
    history = DirtyHistory([RAM], 4)
    stats = GroupStats([RAM], history=history)

    def call():
        stats.update({"ram": WORDS}, duration_s=1.0)
        stats.groups("ram").write_rate.sum()
        history.hot_pages(1)
        history.distinct_pages(2)

    assert hammer(call, BusyError) > 0
    n = stats.n_intervals
    assert n > 0
    assert stats.update({"ram": WORDS}, duration_s=1.0).dirty_pages == N_DIRTY
    assert stats.n_intervals == n + 1
    assert (stats.groups("ram").active_intervals[:-1] == n + 1).all()
    assert history.distinct_pages(4) == N_DIRTY


def test_windows():
    distinct = DistinctPages([RAM])

    def call():
        distinct.update({"ram": WORDS}, duration_s=1.0)

    served = hammer(call, BusyError)
    assert distinct.n_intervals == served
    assert distinct.windows()[0].n_windows == served
    assert {windows.pages for windows in distinct.windows()} == {N_DIRTY}


def test_a_writer(tmp_path):
    """Of two intervals at once one is refused: the file keeps their order."""
    numbers = itertools.count()
    writer = TraceWriter(tmp_path / "a.mpt", (RAM,), HERE)

    def call():
        number = next(numbers)
        writer.write(Interval(number, number * 10, number * 10 + 10, (RAM,), {"ram": WORDS}, HERE))

    served = hammer(call, BusyError, TraceError)
    writer.close()
    assert len(read_all(writer.path)) == served


def test_a_writer_that_another_thread_closes(tmp_path, monkeypatch):
    """What `write` took is in the file, also if `close` is called while it runs."""
    writer = TraceWriter(tmp_path / "a.mpt", (RAM,), HERE)
    offer = writer._commits.offer
    closing = threading.Thread(target=writer.close)

    def slow(interval):
        closing.start()
        closing.join(0.2)
        offer(interval)

    monkeypatch.setattr(writer._commits, "offer", slow)
    writer.write(Interval(0, 0, 10, (RAM,), {"ram": WORDS}, HERE))
    closing.join()
    assert len(read_all(writer.path)) == 1
    with pytest.raises(ClosedError):
        writer.write(Interval(1, 10, 20, (RAM,), {"ram": WORDS}, HERE))


@pytest.mark.parametrize("kind", [TraceReader, Replay])
def test_a_reader(tmp_path, kind):
    intervals = make_intervals(8)
    path = write(tmp_path / "a.mpt", intervals)
    with kind(path) as reader:
        trace = getattr(reader, "trace", reader)
        places = itertools.count()

        def call():
            place = next(places) % 8
            assert_same(trace[place], intervals[place])

        assert hammer(call) == N_THREADS * N_CALLS
        assert_same(trace[3], intervals[3])
