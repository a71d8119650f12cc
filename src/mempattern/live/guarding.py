"""The process that puts settings back when ours is killed, as we hold it."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from mempattern._survivor import start_survivor
from mempattern.errors import MonitorError
from mempattern.live import guard

_END_S = 2.0


class Guard:
    """Started with the first thing that is to be put back; see `guard` for what it does.

    It holds the lock (`steering_alone`), too.
    """

    def __init__(self, lock: int | None = None) -> None:
        self._lock = lock
        self._process: subprocess.Popen[str] | None = None
        self._has_work = False

    def tell(self, wanted: dict[str, Any]) -> None:
        """Before it is done: what to put back, and how it is known to be ours; {}: nothing.

        Raises `MonitorError` if there is no guard any more, or it does not listen.
        """
        self._has_work = bool(wanted)
        if self._process is None:
            if not wanted:
                return
            self._process = start_survivor(
                ["-I", "-S", str(Path(guard.__file__))],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                keeps=() if self._lock is None else (self._lock,),
            )  # fmt: skip
            assert self._process.stdin is not None
            os.set_blocking(self._process.stdin.fileno(), False)  # it may be stopped
        assert self._process.stdin is not None
        try:  # it is shorter than PIPE_BUF: all of it is written, or nothing
            os.write(self._process.stdin.fileno(), json.dumps(wanted).encode() + b"\n")
        except OSError:
            raise MonitorError(
                "the process that would put QEMU's settings back was ended or stopped, so that "
                "nothing more is changed"
            ) from None

    def let_go(self) -> None:
        """It does what is left to do, and ends."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
            if not self._has_work:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_END_S)
