"""Where the commands begin: outside the package, whose import takes long enough for a Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

_INTERRUPTED = 130


def mempattern() -> int:
    """The command of that name; returns its exit code."""
    return _run("mempattern.cli.main")


def trace() -> int:
    """`mempattern-trace`, likewise."""
    return _run("mempattern.cli.trace")


def _run(module: str) -> int:
    try:
        main: Callable[[], int] = import_module(module).main
        return main()
    except KeyboardInterrupt:
        return _INTERRUPTED
