"""The process that puts QEMU's migration settings back, whatever becomes of who changed them.

Its first line of input says which they were and whose; a second one, "cancel", that the migration
is to be cancelled. If its input ends without that, the migration's socket is closed. See
`stream.py`.
"""

from __future__ import annotations

import json
import sys

from mempattern.qemu.stream import CANCEL, put_back

if __name__ == "__main__":
    task = sys.stdin.readline()
    if not task.endswith("\n"):  # killed before it had said all, and so before it changed anything
        sys.exit(0)
    problem = put_back(**json.loads(task), is_to_cancel=sys.stdin.readline() == CANCEL)
    print(problem)
    sys.exit(bool(problem))
