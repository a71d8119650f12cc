"""Processes that work for a command, and what ends them: its own end, Ctrl-C, SIGTERM."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from mempattern.cli.exits import INTERRUPTED, TERMINATED

if TYPE_CHECKING:
    from concurrent.futures import Executor


class Ended:
    """Ctrl-C and SIGTERM end what is within, and not the command. `code` is its exit code."""

    def __init__(self) -> None:
        self.code: int = 0
        self._signal = INTERRUPTED
        self._before: Any = None

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGTERM, self._take)

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        self._signal = TERMINATED
        raise KeyboardInterrupt

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        signal.signal(signal.SIGTERM, self._before)
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.code = self._signal
            return True
        return False


@contextmanager
def pool_of(jobs: int) -> Generator[Executor | None, None, None]:
    """None for one job, which is done here."""
    if jobs == 1:
        yield None
        return
    import multiprocessing  # noqa: PLC0415  (slow to import)
    from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415

    context = multiprocessing.get_context("forkserver")  # a fork would copy our threads' locks
    context.set_forkserver_preload(["mempattern.migration.fleet"])
    before = set(multiprocessing.active_children())
    with ProcessPoolExecutor(jobs, context, initializer=_work_for, initargs=(os.getpid(),)) as pool:
        try:
            _start(pool, jobs)
            yield pool
        except BaseException:
            # Python's own thread may trip over what is cancelled at the same time.
            threading.excepthook = lambda _what: None
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
            raise


def _start(pool: Executor, jobs: int) -> None:
    """All workers, now; a signal waits for that, since what is half-started says so on stderr.
    They, and the server that forks them, are deaf to Ctrl-C from their first instruction on.
    """
    came: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for _ in range(jobs):
            pool.submit(os.getpid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def _work_for(command: int) -> None:
    """Ctrl-C goes to all processes of a terminal, and the first one ends the others; with that they
    end, too, however it was ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(command,), daemon=True).start()


def _end_with(command: int) -> None:
    with suppress(ProcessLookupError):
        select.select([os.pidfd_open(command)], [], [])
    os._exit(1)


@contextmanager
def progress_of(n_traces: int) -> Generator[Callable[[], None], None, None]:
    """A bar on stderr, on a terminal; what says that one more is done."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich import progress as rich  # noqa: PLC0415  (slow to import)
    from rich.console import Console  # noqa: PLC0415

    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda: None
        return
    columns = (
        rich.TextColumn("replaying"), rich.BarColumn(), rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(),
    )  # fmt: skip
    with rich.Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=n_traces)
        yield lambda: progress.advance(task)
