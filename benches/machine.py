"""What results tell of the machine, not its name nor its very build of the kernel; our memory."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info


def kernel() -> str:
    """The running kernel's major and minor version."""
    return ".".join(platform.release().split(".")[:2])


def told(machine: dict[str, Any]) -> dict[str, Any]:
    """Of what pytest-benchmark knows of the machine."""
    kept = {name: value for name, value in machine.items() if name != "node"}
    return {**kept, "release": kernel(), "numpy": np.__version__}


def info() -> dict[str, Any]:
    return told(pytest_benchmark_generate_machine_info())


def resident_bytes() -> int:
    """Of this process: proc_pid_statm(5)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
