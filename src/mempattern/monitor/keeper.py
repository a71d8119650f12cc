"""The process that puts QEMU's migration settings back, whatever becomes of who changed them.

Its first line of input says which they were and whose; a second one, "cancel", that the migration
is to be cancelled. If its input ends without that, the migration's socket is closed. See
`stream.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys

from mempattern.monitor.stream import CANCEL, READY, put_back


def main() -> bool:
    """Whether something was not put back."""
    parent = os.getppid()
    _say(READY)
    task = sys.stdin.readline()
    if not task.endswith("\n"):  # refused, or killed before anything was changed
        return False
    problem = put_back(
        **json.loads(task),
        is_to_cancel=sys.stdin.readline() == CANCEL,
        is_heard=lambda: os.getppid() == parent,
    )
    _say(problem)
    return bool(problem)


def _say(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # it was killed
        os.write(1, text.encode())


if __name__ == "__main__":
    sys.exit(main())
