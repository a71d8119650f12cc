"""The process that puts settings back when ours is killed, as we hold it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from mempattern.errors import MonitorError
from mempattern.live import guard


class Guard:
    """Started with the first thing that is to be put back; see `guard` for what it does.

    It holds the lock (`steering_alone`), too.
    """

    def __init__(self, lock: int | None = None) -> None:
        self._lock = lock
        self._process: subprocess.Popen[bytes] | None = None
        self._has_work = False

    def tell(self, wanted: dict[str, Any]) -> None:
        """Before it is done: what to put back, and how it is known to be ours; {}: nothing.

        Raises `MonitorError` if there is no guard any more.
        """
        self._has_work = bool(wanted)
        if self._process is None:
            if not wanted:
                return
            # In a session of its own: Ctrl-C and the end of a terminal are not for it.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(guard.__file__))], stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                pass_fds=() if self._lock is None else (self._lock,),
            )  # fmt: skip
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise MonitorError(
                "the process that would put QEMU's settings back was ended, so that nothing more "
                "is changed"
            ) from None

    def let_go(self) -> None:
        """It does what is left to do, and ends."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
            if not self._has_work:
                self._process.wait()
