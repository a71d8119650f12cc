"""What results tell of the machine: not its name, nor its very build of the kernel."""

from __future__ import annotations

import platform
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
