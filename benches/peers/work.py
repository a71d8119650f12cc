"""The pieces of work that the peers do, and what each must find.

A peer is a module with a function for each piece of work that it can do, of the name in `WORK`. The
function takes a `Case`, brings its bitmaps into the peer's own form, which is not timed, and gives
the function that is: each call of that does the work once and returns what it found. All peers
return the same; what would take time only to be looked at, they return as a function that does.
Work on one interval takes the case's bitmaps in turn, from call to call, and all peers so are at
the same one.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Run = Callable[[], Any]

GROUP_PAGES = 512
GROUP_WORDS = GROUP_PAGES // 64
N_WINDOWED = 12
"""Intervals that the work on windows takes: they make windows of all these lengths."""
LENGTHS = (1, 2, 3, 4, 6, 8, 12)
_MADE_OF = {2: 1, 3: 1, 4: 2, 6: 3, 8: 4, 12: 6}
HOT_OF, HOT_FROM = 16, 12
DURATION_S, HALF_LIFE_S = 0.1, 10.0

WORK = {
    "counts": "dirty pages of each group: (n_groups,)",
    "overlap": "dirty, redirtied and fresh pages of one interval after another: three numbers",
    "windows": f"D(t): the mean of the distinct pages in windows of {LENGTHS} intervals, of twelve",
    "group_windows": "the same by group: mean and standard deviation, (n_lengths, n_groups) each",
    "hot": f"pages dirty in {HOT_FROM} of {HOT_OF} intervals: a bitmap",
    "runs": "maximal runs of consecutive dirty pages: a number",
    "pages": "the dirty pages' numbers, ascending",
    "update": "all of Seen and of Groups, one interval after another: five numbers, nine arrays",
    "trace_write": "all intervals into a file on disk: the bitmaps, read back",
    "trace_read": "all intervals of such a file: the bitmaps",
}
MAIN = ("counts", "windows", "group_windows", "update")
"""Where ten times the best peer of Python's world is wanted, and the memory's speed."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Successive intervals of one region: bitmaps of equally many words, of whole groups."""

    bitmaps: tuple[Words, ...]

    def __post_init__(self) -> None:
        sizes = {words.size for words in self.bitmaps}
        if len(sizes) != 1 or 0 in sizes or min(sizes) % GROUP_WORDS:
            raise ValueError(f"the bitmaps must be of equally many whole groups, not {sizes} words")

    @property
    def n_words(self) -> int:
        return self.bitmaps[0].size

    @property
    def n_pages(self) -> int:
        return self.n_words * 64

    @property
    def n_groups(self) -> int:
        return self.n_words // GROUP_WORDS

    @property
    def active_share(self) -> float:
        """Of the groups, in the first interval."""
        return float(self.bitmaps[0].reshape(-1, GROUP_WORDS).any(axis=1).mean())


class Scratch:
    """A file to write to, in a directory that goes when this object does."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.path = Path(self._directory.name) / "trace"


def first(n: int, forms: Sequence[Any]) -> list[Any]:
    """So many of them, in turn."""
    return list(itertools.islice(itertools.cycle(forms), n))


def windows_of(forms: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """For each length the windows, as the unions of shorter ones. Ours are made so, too."""
    made = {1: forms}
    for length, of in _MADE_OF.items():
        n, parts = length // of, made[of]
        made[length] = [reduce(or_, parts[i : i + n]) for i in range(0, len(parts) - n + 1, n)]
    return (made[length] for length in LENGTHS)


def at_least(k: int, forms: Sequence[Any]) -> Any:
    """What is in k of them or more, by binary counters of which each digit is such a form itself.

    Counts up in the digits, then compares with k - 1 from the lowest digit on.
    """
    digits: list[Any] = []
    for n, form in enumerate(forms, 1):
        carry = form
        for i, digit in enumerate(digits):
            digits[i], carry = digit ^ carry, digit & carry
        if n.bit_length() > len(digits):
            digits.append(carry)
    more = None
    for i, digit in enumerate(digits):
        if (k - 1) >> i & 1:
            more = None if more is None else digit & more
        else:
            more = digit if more is None else digit | more
    return digits[0] ^ digits[0] if more is None or (k - 1) >> len(digits) else more


def mean_and_std(sums: Any, squares: Any) -> tuple[Any, Any]:
    """Of each length's windows, from (n_lengths, n_groups) sums over the windows of twelve."""
    n = np.array([N_WINDOWED // length for length in LENGTHS], float)[:, None]
    mean = sums / n
    return mean, np.sqrt(np.maximum(squares - n * mean**2, 0) / np.maximum(n - 1, 1))
