"""How a command ends: its exit code, and one line on stderr for whatever went wrong."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from mempattern.errors import LostError, MempatternError, MonitorError, ProcessError

FAILED = 1
USAGE = 2
UNTRACEABLE = 3
UNWRITTEN = 4
LOST = 5
INTERRUPTED = 130
"""After Ctrl-C, as shells have it."""
TERMINATED = 143
"""After SIGTERM, as shells have it."""

EPILOG = """\
exit codes:
  0    done, also when the target ended
  1    it failed, and one line on stderr says why; or the reader of its output left
  2    wrong usage
  3    the target cannot be traced; one line says what would help
  4    the trace file or the output could not be written; what was seen is summed up
  130  Ctrl-C, 143 SIGTERM: ended early, with the summary
"""


class UsageFault(Exception):
    """Arguments that only turn out to be wrong when the target is known."""


class Unwritable(Exception):
    """The trace file cannot even be begun."""


def note(program: str, text: object) -> None:
    """A line on stderr, in one write: a command that is traced may be writing there too."""
    sys.stderr.write(f"{program}: {text}\n")
    sys.stderr.flush()


def guard(program: str, action: Callable[[], int]) -> int:
    """Run it and return the exit code; nothing but a bug comes out as a traceback."""
    try:
        return action()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _drop_stdout()  # the reader has left; there is nobody to tell
        return FAILED
    except (MempatternError, UsageFault, Unwritable, MemoryError, OSError) as error:
        note(program, error)
        return _code(error)


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
