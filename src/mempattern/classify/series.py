"""Counts of the last intervals, a row an interval."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LENGTH = 512
"""Intervals remembered."""


class Series:
    """The last `LENGTH` rows of `width` numbers; rows left out are zeros."""

    def __init__(self, width: int) -> None:
        self._rows: npt.NDArray[np.int64] = np.zeros((LENGTH, width), np.int64)
        self._end = 0

    def put(self, index: int, row: tuple[int, ...]) -> None:
        """Row number `index`, from 0, beyond all put before."""
        self._clear(index)
        self._rows[index % LENGTH] = row
        self._end = index + 1

    def _clear(self, end: int) -> None:
        for index in range(max(self._end, end - LENGTH), end):
            self._rows[index % LENGTH] = 0

    def last(self, end: int) -> npt.NDArray[np.int64]:
        """(n, width): the rows before number `end`, at most `LENGTH` and at least those put."""
        self._clear(end)
        self._end = end
        return self._rows[np.arange(max(0, end - LENGTH), end) % LENGTH]
