"""Commands as a user types them, for tests."""

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent


def shell(command, **more):
    """As typed by a user, with the installed commands."""
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **more.pop("env", {})}
    return subprocess.run(
        ["bash", "-c", command], check=False, capture_output=True, text=True, timeout=60, env=env,
        **more,
    )  # fmt: skip
