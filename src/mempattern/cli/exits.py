"""How a command ends: its exit code, and one line on stderr for whatever went wrong."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from mempattern._os_errors import explained
from mempattern._terminal import printable
from mempattern.errors import LostError, MempatternError, MonitorError, ProcessError

FAILED = 1
USAGE = 2
UNTRACEABLE = 3
UNWRITTEN = 4
LOST = 5
HUNG_UP = 129
"""After SIGHUP, when its terminal is gone, as shells have it."""
INTERRUPTED = 130
"""After Ctrl-C, as shells have it."""
TERMINATED = 143
"""After SIGTERM, as shells have it."""

MEANINGS = {
    0: "done",
    FAILED: "it failed, and one line on stderr says why; or the reader of its output left",
    USAGE: "wrong usage",
    UNTRACEABLE: "the target cannot be traced; one line says what would help",
    UNWRITTEN: "a file or the output could not be written, or a file exists; one line says which",
    INTERRUPTED: "Ctrl-C",
    TERMINATED: "SIGTERM",
}
"""Of the exit codes, where a command has no others; LOST is of a migration only."""


class UsageFault(Exception):
    """Arguments that only turn out to be wrong when the target is known."""


class Unwritable(Exception):
    """The trace file cannot even be begun."""


def note(program: str, text: object) -> None:
    """A line on stderr, in one write: a command that is traced may be writing there too."""
    with suppress(OSError):  # nobody reads it
        sys.stderr.write(f"{program}: {printable(str(text))}\n")
        sys.stderr.flush()


def guard(program: str, parse: Callable[[], argparse.Namespace]) -> int:
    """Parse, run `run` of the options with them, and return the exit code.

    What goes wrong is one line on stderr, also a bug; the traceback before it is for --debug.
    """
    _open_standard_streams()
    is_debugged = False
    try:
        try:
            options = parse()
            is_debugged = getattr(options, "debug", False)
            code: int = options.run(options)
        except SystemExit as end:  # argparse's, after --help and on wrong usage
            if not isinstance(end.code, int):
                raise
            sys.stdout.flush()
            raise
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _drop_stdout()  # the reader has left; there is nobody to tell
        return FAILED
    except Exception as error:
        if is_debugged:
            _print_traceback()
        note(program, said(error))
        return _code(error)


def said(error: Exception) -> str:
    """In one line: what is wrong, and what would help."""
    if isinstance(error, MempatternError | UsageFault | Unwritable):
        text = str(error)
    elif isinstance(error, MemoryError):
        text = "there is not enough memory; trace less (--region), or give larger --group-pages"
    elif isinstance(error, OSError) and error.errno is not None:
        text = explained(error)
    else:
        kind = type(error).__name__
        text = f"{kind}: {error}; this is a bug: report what the same with --debug prints"
    return " ".join(text.split("\n"))


def _code(error: Exception) -> int:
    if isinstance(error, UsageFault):
        return USAGE
    if isinstance(error, LostError):
        return LOST
    if isinstance(error, ProcessError | MonitorError):
        return UNTRACEABLE
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        _drop_stdout()
        return UNWRITTEN
    return UNWRITTEN if isinstance(error, Unwritable) else FAILED


def _print_traceback() -> None:
    import traceback  # noqa: PLC0415

    with suppress(OSError):
        traceback.print_exc()


def flush_stdout() -> None:
    """For who goes on without its reader."""
    try:
        sys.stdout.flush()
    except OSError:
        _drop_stdout()


def _drop_stdout() -> None:
    """What it still holds cannot be written, and would be tried again when Python ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _open_standard_streams() -> None:
    """Those that were closed (`>&-`): else a file that we open would get their numbers, and lines
    meant for a terminal."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    # It may be for ASCII only, and a file's name may be no text at all.
    stdout: object = sys.stdout
    if isinstance(stdout, io.TextIOWrapper):
        stdout.reconfigure(errors="backslashreplace")
