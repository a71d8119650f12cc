"""Processes that work for a command, and what ends them: its own end, Ctrl-C, SIGTERM."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mempattern.cli.exits import INTERRUPTED, TERMINATED


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
    context = multiprocessing.get_context("forkserver")  # a fork would copy our threads' locks
    context.set_forkserver_preload(["mempattern.migration.fleet"])
    before = set(multiprocessing.active_children())
    with ProcessPoolExecutor(jobs, context, initializer=_work_for, initargs=(os.getpid(),)) as pool:
        try:
            yield pool
        except BaseException:
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
            raise


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
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda: None
        return
    columns = TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=n_traces)
        yield lambda: progress.advance(task)
