"""Where the commands begin: outside the package, whose import takes long enough for a Ctrl-C."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable
from importlib import import_module
from types import FrameType

_INTERRUPTED, _TERMINATED = 130, 143


def mempattern() -> int:
    """The command of that name; returns its exit code."""
    return _run("mempattern.cli.main")


def trace() -> int:
    """`mempattern-trace`, likewise."""
    return _run("mempattern.cli.trace")


def _run(module: str) -> int:
    """While it imports, and once it is done, Ctrl-C is left to the kernel: it ends us at once.

    What is imported stays, so the garbage collector has nothing to look for in it: that would take
    a tenth of a short command's time.
    """
    gc.disable()
    is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    is_told = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    try:
        if is_heard:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        main: Callable[[], int] = import_module(module).main
        gc.freeze()
        gc.enable()
        if is_heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if is_told:
            signal.signal(signal.SIGTERM, _terminate)
        return main()
    except KeyboardInterrupt:
        return _INTERRUPTED
    finally:
        if is_heard:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if is_told:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """By itself SIGTERM would leave half-written files behind."""
    raise SystemExit(_TERMINATED)
