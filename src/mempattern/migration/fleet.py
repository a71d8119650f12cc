"""Policies replayed over many traces, in parallel if there is something to do so with."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mempattern._os_errors import explained
from mempattern.errors import MempatternError, UsageError
from mempattern.migration.bandwidth import Bandwidth
from mempattern.migration.memory import CHUNK_PAGES
from mempattern.migration.named import Maker, error_text, named_policies
from mempattern.migration.simulate import Outcome, simulate
from mempattern.migration.traces import MEMORY_SHARE, Facts, read_migrant

Changes = tuple[tuple[float, float], ...]
"""Of a bandwidth: moments in seconds, from 0 on, and the bytes/s from each."""
Policies = Sequence[str] | Mapping[str, Maker]


class HasExecutor(Protocol):
    """As `distributed.Client`, whose own futures are of another kind."""

    def get_executor(self) -> Executor:
        """What runs tasks as `concurrent.futures` has it."""
        ...


@dataclass(frozen=True, slots=True)
class Case:
    """One migration, as it went under each policy."""

    bandwidth: Changes
    """Of the link: moments in seconds since the migration began, and the bytes/s from each."""
    ceiling_s: float
    """The longest downtime that a policy may cause."""
    outcomes: tuple[Outcome, ...]
    """One for each policy, in their order."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of one trace."""

    path: str
    """Of the trace file, as it was given."""
    facts: Facts | None
    """None if it could not be read."""
    cases: tuple[Case, ...]
    """For each bandwidth, for each ceiling."""
    notes: tuple[str, ...]
    """Sentences on what limits the trust in it."""
    error: str = ""
    """In one sentence, why there is nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Of all migrations; the same as those of `simulate`."""

    downtime_limit_s: float = 0.3
    """QEMU's, as a migration begins."""
    start_s: float = 0.0
    """How far into the trace a migration begins."""
    past_end: Literal["loop", "refuse"] = "loop"
    """After the trace's end "loop" goes on at `Recording.loop_s`; "refuse" ends the replay."""
    zero_pages: int | str | None = None
    """How many pages hold only zeros, or as text also a size; by default what each trace tells."""
    chunk_pages: int = CHUNK_PAGES
    """Pages whose dirty log QEMU clears at once; 0 where the sync clears all of it."""
    patience_s: float | None = None
    """After which a migration is given up; None: the default of `simulate`."""
    memory_share: float = MEMORY_SHARE
    """Of a machine's memory: what one trace may take. Less, where several are read at a time."""


DEFAULT = Settings()


def replay(
    paths: Iterable[str | os.PathLike[str]],
    policies: Policies,
    bandwidths: Sequence[float | Bandwidth],
    ceilings_s: Sequence[float],
    settings: Settings = DEFAULT,
    *,
    executor: Executor | HasExecutor | None = None,
) -> Generator[Replayed, None, None]:
    """Each trace under all policies, at each bandwidth and ceiling, as they get done.

    A trace is one task, and is read once. Without an executor they are done here, in their order.
    Any `concurrent.futures.Executor` does, and what has a `get_executor`, as a Dask client: its
    workers must see the traces under the same paths. Policies are names (`named_policies`), which
    each worker looks up for itself, or what makes them by name, which must be picklable where tasks
    are. The executor is left open; tasks that have not begun are cancelled if the iterator is
    closed or interrupted.

    A trace that cannot be read, or cannot be replayed, has an error in its result, and so has one
    whose worker died; the others go on. What a policy raises is told in its outcome. Raises
    `UsageError` at once for unknown policies, and if there is nothing to be done.
    """
    changes = [_changes(bandwidth) for bandwidth in bandwidths]
    if not isinstance(policies, Mapping):
        policies = tuple(policies)
        named_policies(policies)
    if not policies or not changes or not ceilings_s:
        raise UsageError("give at least one policy, one bandwidth and one ceiling")
    task = _Task(policies, tuple(changes), tuple(ceilings_s), settings)
    names = [os.fspath(path) for path in paths]
    if executor is None:
        return (task(name) for name in names)
    if not isinstance(executor, Executor):
        executor = executor.get_executor()
    return _in_parallel(task, names, executor)


@dataclass(frozen=True, slots=True)
class _Task:
    """What is the same for each trace; it is sent to the workers."""

    policies: Policies
    bandwidths: tuple[Changes, ...]
    ceilings_s: tuple[float, ...]
    settings: Settings

    def __call__(self, path: str) -> Replayed:
        try:
            return self._replayed(path)
        except (MempatternError, MemoryError) as error:
            return _failed(path, str(error) or "there is not enough memory for it")
        except OSError as error:
            return _failed(path, explained(error))

    def _replayed(self, path: str) -> Replayed:
        policies, how = self.policies, self.settings
        made = policies if isinstance(policies, Mapping) else named_policies(policies)
        migrant = read_migrant(path, how.zero_pages, how.memory_share)
        recording, zero = migrant.recording, migrant.zero_bitmaps()
        cases: list[Case] = []
        for bandwidth in self.bandwidths:
            for ceiling_s in self.ceilings_s:
                outcomes = simulate(
                    recording, made, Bandwidth(*bandwidth), ceiling_s,
                    downtime_limit_s=how.downtime_limit_s, start_s=how.start_s, zero=zero,
                    past_end=how.past_end, chunk_pages=how.chunk_pages, patience_s=how.patience_s,
                )  # fmt: skip
                cases.append(Case(bandwidth, ceiling_s, tuple(outcomes)))
        notes = (*migrant.notes, *recording.faults())
        return Replayed(path, Facts.of(recording), tuple(cases), notes)


def _in_parallel(
    task: _Task, paths: Sequence[str], executor: Executor
) -> Generator[Replayed, None, None]:
    waiting: dict[Future[Replayed], str] = {}
    try:
        for path in paths:
            waiting[_submitted(task, path, executor)] = path
        for future in as_completed(waiting):
            yield _result(future, waiting[future])
    finally:
        for future in waiting:
            future.cancel()


def _submitted(task: _Task, path: str, executor: Executor) -> Future[Replayed]:
    try:
        return executor.submit(task, path)
    except Exception as error:  # broken by a trace that was submitted before, shut down, gone
        future: Future[Replayed] = Future()
        future.set_exception(error)
        return future


def _result(future: Future[Any], path: str) -> Replayed:
    try:
        found = future.result()
    except BrokenExecutor:
        return _failed(
            path, "a worker process died, of too little memory or a policy; replay it by itself"
        )
    except (Exception, SystemExit) as error:
        return _failed(path, f"its worker failed: {error_text(error)}")
    if not isinstance(found, Replayed):
        return _failed(path, f"its worker gave {type(found).__name__} and not what was replayed")
    return found


def _failed(path: str, error: str) -> Replayed:
    return Replayed(path, None, (), (), error)


def _changes(bandwidth: float | Bandwidth) -> Changes:
    if not isinstance(bandwidth, Bandwidth):
        bandwidth = Bandwidth((0.0, bandwidth))
    return tuple(bandwidth.changes)
