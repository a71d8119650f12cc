"""The public API as typed programs use it; checked by mypy and pyright in `make lint`, never run.

A line that must not pass says so with `type: ignore`: should it pass one day, that is an error.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

import mmap
from collections.abc import Iterator
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import mempattern
from mempattern import (
    DirtyCurve,
    DirtyHistory,
    DistinctPages,
    Estimate,
    GroupStats,
    Interval,
    MempatternError,
    Provenance,
    Region,
    jit,
)  # fmt: skip
from mempattern.classify import MP, Evidence, Kind, Pattern, PatternDetector, Verdict
from mempattern.live.controller import MigrationController
from mempattern.live.decisions import Decision, Result
from mempattern.live.figures import Figures
from mempattern.live.over_libvirt import Domain
from mempattern.migration import (
    Action,
    Advice,
    Course,
    Forecast,
    Host,
    Outcome,
    Outlook,
    Pass,
    Policy,
    Progress,
    Range,
    Recommendation,
    Recording,
    Task,
    advise,
    forecast,
    precopy,
    simulate,
)  # fmt: skip
from mempattern.migration.memory import Memory
from mempattern.sources import (
    KVMDirtyLog,
    KVMDirtyRing,
    Memslot,
    MigrationStream,
    ProcessWrites,
    Replay,
    SoftDirty,
    Source,
    open_process,
)  # fmt: skip
from mempattern.sources.layout import Layout
from mempattern.trace import TraceReader, TraceWriter


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


def whole_numbers_may_be_numpys(
    n: np.int64, words: npt.NDArray[np.uint64], source: Source, trace: TraceReader
) -> None:
    ram = Region("ram", n, np.uint16(4096), address=n)
    assert_type(ram.n_pages, int)
    assert_type(GroupStats([ram], n).group_pages, int)
    assert_type(DistinctPages([ram], n).group_pages, int)
    history = DirtyHistory([ram], depth=n)
    assert_type(history.depth, int)
    assert_type(history.distinct_pages(np.uint8(2)), int)
    history.hot_pages(n)
    mempattern.group_counts(words, n, np.uint32(64))
    mempattern.bitmaps.seen(words, n)
    mempattern.bitmaps.page_numbers(words, n)
    MP(125e6, patience=n).watch(0.1, n)
    source.intervals(count=n)
    forecast(Recording(trace), 125e6, zero=n, courses=n)
    assert_type(trace[n], Interval)
    GroupStats([ram], 512.0)  # type: ignore[arg-type]
    history.hot_pages(np.float64(2))  # type: ignore[arg-type]


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


def kvm_and_streams(vm_fd: int, vcpu_fds: list[int], ram: Region, layout: Layout) -> None:
    with KVMDirtyRing(vm_fd, vcpu_fds, [Memslot(1, ram)], 4096, kick=lambda: None) as ring:
        assert_type(ring.collect(), Interval)
        ring.drain()
    KVMDirtyRing(vm_fd, 5, [Memslot(1, ram)])  # type: ignore[arg-type]
    KVMDirtyRing(vm_fd, vcpu_fds, [Memslot(1, ram)], kick=5)  # type: ignore[arg-type]
    with MigrationStream("qmp.sock", 1, bandwidth_Bps=1e9) as stream:
        assert_type(stream.zero_pages(), dict[str, npt.NDArray[np.uint64]])
    each: tuple[Source, ...] = (ProcessWrites(1, layout, split_thp=False), SoftDirty(1, layout))
    assert_type(each[0].provenance, Provenance)
    ProcessWrites("1")  # type: ignore[arg-type]
    SoftDirty(1, ram)  # type: ignore[arg-type]


def errors() -> None:
    try:
        mempattern.kernels.use("avx2")
    except MempatternError as error:
        assert_type(error, MempatternError)
    assert_type(mempattern.kernels.available(), tuple[str, ...])
    assert_type(mempattern.__version__, str)


def estimates(curve: DirtyCurve) -> None:
    assert_type(curve.at(2.0), Estimate)
    assert_type(curve.at(2.0).pages, float)
    curve.at("2 s")  # type: ignore[arg-type]


def classified(stats: GroupStats, interval: Interval) -> None:
    verdict = MP(125e6, downtime_limit_s=0.3).observe(stats, interval)
    assert_type(verdict, Verdict)
    assert_type(verdict.memory_intensive, bool | None)
    if verdict.required_Bps is not None:
        assert_type(verdict.required_Bps, float)
    verdict.required_Bps / 2  # type: ignore[operator]
    detector = PatternDetector(stats)
    pattern = detector.pattern("ram")
    assert_type(pattern, Pattern)
    assert_type(pattern.kind, Kind)
    assert_type(pattern.evidence, Evidence)
    detector.observe(stats)  # type: ignore[arg-type]
    MP("1Gbit")  # type: ignore[arg-type]


def played(recording: Recording, memory: Memory) -> None:
    course = precopy(memory, 125e6, 0.3, policy=Patient(), host=Host(zero_pages_per_s=1e6))
    assert_type(course, Course)
    assert_type(course.passes, tuple[Pass, ...])
    outcomes = simulate(recording, {"mine": Patient, "oracle": None}, 125e6, 1.0)
    assert_type(outcomes, list[Outcome])
    simulate(recording, {"mine": Patient()}, 125e6, 1.0)  # type: ignore[dict-item]
    advice = advise(recording, [125e6], ceiling_s=1.0)
    assert_type(advice, Advice)
    assert_type(advice.recommendations, tuple[Recommendation, ...])
    assert_type(advice.outlooks[0][0], Outlook)
    assert_type(advice.outlooks[0][0].total_s, Range | None)
    advise(recording, 125e6, ceiling_s=1.0)  # type: ignore[arg-type]


class Watchful(Policy):
    def begin(self, task: Task) -> Action:
        assert_type(task.ram_bytes, int)
        return Action(downtime_limit_s=0.1)

    def poll(self, now: Progress) -> Action:
        assert_type(now.pending_bytes, float)
        return Action(throttle="half")  # type: ignore[arg-type]


async def steered() -> None:
    controller = MigrationController("qmp.sock", "tcp:host:4444", Patient(), max_downtime_s=0.5)
    result = await controller.run()
    assert_type(result, Result)
    assert_type(result.decisions, tuple[Decision, ...])
    assert_type(result.figures, Figures)
    assert_type(result.within_ceiling, bool | None)
    MigrationController(Domain("vm"), None, Patient(), max_downtime_s=1)
    MigrationController("qmp.sock", None, Patient)  # type: ignore[call-arg, arg-type]


def traced(interval: Interval, found: Provenance) -> None:
    with TraceWriter("guest.mpt", interval.regions, found, {"host": "a"}, force=True) as writer:
        writer.write(interval)
        writer.add_facts({"more": "facts"})
        writer.write({"ram": b""})  # type: ignore[arg-type]
    with TraceReader("guest.mpt") as trace:
        assert_type(trace.meta, dict[str, str])
        assert_type(list(trace), list[Interval])


@jit.group_reducer("u4", state=[("most", "u4")])
def most(words: npt.NDArray[np.uint64], n_pages: int, state: Any) -> int:
    n = sum(jit.popcount(word) for word in words)
    state.most = max(state.most, n)
    return int(state.most)


@jit.policy
def patient(passes: npt.NDArray[np.void]) -> float:
    return float("inf") if len(passes) > 8 else 0.0


def compiled(interval: Interval) -> None:
    assert_type(most, jit.GroupReducer)
    reduction = most.over(interval.regions)
    assert_type(reduction, jit.GroupReduction)
    assert_type(reduction(interval)["ram"], npt.NDArray[Any])
    assert_type(patient, jit.Policy)
    most(interval)  # type: ignore[operator]
