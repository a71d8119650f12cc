"""Rows of numbers from a trace without end, in memory that has one."""

from __future__ import annotations

from random import Random

import numpy as np
import numpy.typing as npt

MOST = 1 << 14
"""Rows kept: of ten intervals a second those of 27 minutes. Of more, the median of the sample is a
quantile between 0.488 and 0.512 (three standard errors)."""


class Reservoir:
    """All rows of `width` numbers that were put in, or of more than `MOST` a random sample, in
    which each is as likely as any other. The same rows give the same sample.

    Source: Vitter, "Random sampling with a reservoir" (1985), algorithm R.
    """

    def __init__(self, width: int) -> None:
        self.n_rows: int = 0
        """Put in so far."""
        self._rows = np.zeros((MOST, width))
        self._random = Random(0)

    def put(self, *row: float) -> None:
        place = self.n_rows if self.n_rows < MOST else self._random.randrange(self.n_rows + 1)
        if place < MOST:
            self._rows[place] = row
        self.n_rows += 1

    def columns(self) -> npt.NDArray[np.float64]:
        """(width, n): what is kept; in the order it came as long as it is all."""
        return self._rows[: self.n_rows].T.copy()
