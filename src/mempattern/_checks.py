"""Numbers as callers give them: Python's or NumPy's, never a bool or a string."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any

from mempattern.errors import UsageError


def whole_number(value: Any, low: int, high: int) -> int | None:
    """The value as an int if it is a whole number from low to high, else None, whatever it is.

    What takes whole numbers of callers says so by `SupportsIndex`: ints, and NumPy's.
    """
    if isinstance(value, bool):
        return None
    try:
        number = operator.index(value)
    except TypeError:
        return None
    return number if low <= number <= high else None


def positive(name: str, value: object, unit: str) -> float:
    """The value as a float. Raises `UsageError` unless it is positive and finite."""
    number = _real(value)
    if 0 < number < math.inf:
        return number
    raise UsageError(f"{name} must be a positive, finite number of {unit}, not {value!r}")


def positive_seconds(name: str, value: object) -> float:
    """As `positive`, of seconds."""
    return positive(name, value, "seconds")


def number_within(name: str, value: object, low: float, high: float, unit: str = "") -> float:
    """The value as a float. Raises `UsageError` unless it is a number from low to high."""
    number = _real(value)
    if low <= number <= high:
        return number
    unit = unit and f" {unit}"
    raise UsageError(f"{name} must be a number from {low:g} to {high:g}{unit}, not {value!r}")


def _real(value: object) -> float:
    """NaN for what is no number."""
    if type(value) is float or (isinstance(value, Real) and not isinstance(value, bool)):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    return math.nan
