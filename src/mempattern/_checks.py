"""Numbers as callers give them: Python's or NumPy's, never a bool or a string."""

from __future__ import annotations

import math
from numbers import Real

import numpy as np

from mempattern.errors import UsageError


def whole_number(value: object, low: int, high: int) -> int | None:
    """The value as an int if it is a whole number from low to high, else None."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        return None
    return int(value) if low <= value <= high else None


def positive_seconds(name: str, value: object) -> float:
    """The value as a float. Raises `UsageError` unless it is positive and finite."""
    if type(value) is float or (isinstance(value, Real) and not isinstance(value, bool)):
        try:
            seconds = float(value)
        except OverflowError:
            seconds = math.inf
        if 0 < seconds < math.inf:
            return seconds
    raise UsageError(f"{name} must be a positive, finite number of seconds, not {value!r}")
