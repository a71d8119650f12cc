"""A process that puts back what ours has changed, whatever becomes of ours."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

from mempattern._closing import close_in_children

_DEAF_TO = {signal.SIGTERM, signal.SIGHUP, signal.SIGINT}


def start_survivor(
    python: Sequence[str], *, stdout: int, stderr: int | None = None, keeps: Sequence[int] = ()
) -> subprocess.Popen[str]:
    """Start Python with those arguments; its input ends when we close it or end in whatever way.

    It is in a session of its own, as Ctrl-C and the end of a terminal are not for it, and deaf to
    SIGTERM, which all of a service get, from its first moment on: a new process has the mask of the
    thread that starts it. `keeps` are descriptors that it has, too.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _DEAF_TO)
    try:
        survivor = subprocess.Popen(
            [sys.executable, *python], stdin=subprocess.PIPE, stdout=stdout, stderr=stderr,
            text=True, start_new_session=True, pass_fds=keeps,
        )  # fmt: skip
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert survivor.stdin is not None
    close_in_children(survivor.stdin)
    return survivor
