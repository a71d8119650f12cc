"""The public API as typed programs use it; checked by mypy and pyright in `make lint`, never run.

A line that must not pass says so with `type: ignore`: should it pass one day, that is an error.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

import mmap
from collections.abc import Iterator
from typing import assert_type

import numpy as np
import numpy.typing as npt

import mempattern
from mempattern import DirtyCurve, DirtyHistory, DistinctPages, GroupStats, Interval, Region
from mempattern.migration import Action, Forecast, Pass, Policy, Recording, forecast
from mempattern.sources import KVMDirtyLog, Memslot, Replay, Source, open_process
from mempattern.trace import TraceReader


def bitmaps_may_be(words: npt.NDArray[np.uint64], mapped: mmap.mmap) -> None:
    counts = mempattern.group_counts(words, n_pages=4096)
    assert_type(counts, npt.NDArray[np.uint32])
    mempattern.group_counts(words.view(np.uint8), 4096, out=counts)
    for given in (b"\0" * 512, bytearray(512), memoryview(b""), mapped):
        mempattern.group_counts(given, 4096)
    mempattern.group_counts("no bitmap", 4096)  # type: ignore[arg-type]
    mempattern.group_counts([0, 1, 2], 4096)  # type: ignore[arg-type]
    mempattern.group_counts(words, 4096, out=words)  # type: ignore[arg-type]


def statistics(words: npt.NDArray[np.uint64], interval: Interval) -> None:
    ram = Region("ram", n_pages=4096)
    history = DirtyHistory([ram], depth=8)
    stats = GroupStats((ram,), 512, half_life_s=2, history=history)
    seen = stats.update({"ram": words}, duration_s=0.1)
    assert_type(seen, mempattern.Seen)
    assert_type(seen.dirty_pages, int)
    assert_type(stats.update(interval), mempattern.Seen)
    assert_type(stats.groups("ram"), mempattern.Groups)
    assert_type(stats.groups("ram").dirty, npt.NDArray[np.uint32])
    assert_type(stats.groups("ram").last_active, npt.NDArray[np.int32])
    assert_type(stats.groups("ram").write_rate, npt.NDArray[np.float64])
    assert_type(history.hot_pages(at_least=2), dict[str, npt.NDArray[np.uint64]])
    assert_type(len(history), int)
    stats.update(words, 0.1)  # type: ignore[arg-type]
    stats.update({"ram": 5}, 0.1)  # type: ignore[dict-item]
    seen.dirty_pages = 1  # type: ignore[misc]
    ram.n_pages = 1  # type: ignore[misc]
    GroupStats(ram)  # type: ignore[arg-type]
    Region("ram", "4096")  # type: ignore[arg-type]


def curves(interval: Interval) -> None:
    distinct = DistinctPages(interval.regions)
    distinct.update(interval)
    assert_type(distinct.curve(), DirtyCurve)
    assert_type(distinct.curve("ram").at(1).high, float)
    assert_type(distinct.groups("ram").pages, npt.NDArray[np.float64])
    assert_type(interval.bitmaps["ram"], npt.NDArray[np.uint64])
    interval.bitmaps["ram"] = b""  # type: ignore[index]


def sources(vm_fd: int, ram: Region) -> None:
    with KVMDirtyLog(vm_fd, [Memslot(1, ram)]) as log:
        assert_type(log, KVMDirtyLog)
        assert_type(log.collect(), Interval)
        assert_type(log.intervals(period_s=0.1, count=5), Iterator[Interval])
    each: list[Source] = [log, Replay("guest.mpt"), open_process(1)]
    assert_type(each[0].regions, tuple[Region, ...])
    open_process(1, "uprobes")  # type: ignore[arg-type]
    KVMDirtyLog(vm_fd, [ram])  # type: ignore[list-item]
    Source()  # type: ignore[abstract]


class Patient(Policy):
    def after(self, done: Pass) -> Action:
        return Action(stop=True) if done.number > 8 else Action()


class Misshapen(Policy):
    def after(self, done: int) -> Action:  # type: ignore[override]
        return Action()


def migrations(trace: TraceReader) -> None:
    assert_type(trace[0], Interval)
    recording = Recording(trace)
    foreseen = forecast(recording, 125e6)
    assert_type(foreseen, Forecast)
