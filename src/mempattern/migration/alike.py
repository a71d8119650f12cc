"""Moments at which a recording looks as it does at its end: from there it may go on."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_SHORT_S = 0.25
_APART_S = 0.5
"""Moments that are no farther apart are one run."""
_ROUNDING_S = 1e-9
_TOLERANCE = 0.2
"""Of the range of scores, and ..."""
_NOISE = 0.03
"""... at least so much: moments that are not farther below the best one are alike."""


class Alike(NamedTuple):
    """Moments next to each other at which a recording looked as it does at its end."""

    moments_s: npt.NDArray[np.float64]
    best_s: float
    """The one that is most alike."""


def period_of(runs: list[Alike], duration_s: float) -> float | None:
    """The distance between runs, or of a single one to the end; None if they are everywhere.

    Nor is there one below `_APART_S`: what comes again sooner would be one run.
    """
    bests_s = [run.best_s for run in runs]
    gaps = np.diff(bests_s if len(runs) > 1 else [*bests_s, duration_s])
    wide = max((float(np.ptp(run.moments_s)) for run in runs), default=0.0)
    if not runs or gaps.min() < max(2 * wide, _APART_S) or gaps.max() > 1.5 * gaps.min():
        return None
    return float(np.median(gaps))


def alike(edges_s: npt.NDArray[np.float64], volumes: npt.NDArray[np.float64]) -> list[Alike]:
    """Ends of the intervals before which the recording looked most as it does before its end.

    `volumes` are dirty pages by interval and part of memory. What lies just before a moment is
    compared on scales of time from a quarter of a second to a quarter of the recording, by how much
    was written and by where; two stretches a and b are alike by 2ab / (aa + bb), which is 1 only if
    they are the same. Neither the first nor the last quarter of the recording counts: the one has
    too little before it, the other would make a loop that repeats too soon. Returns the runs of
    these moments in their order, none if the recording is too short.
    """
    duration_s = edges_s[-1]
    first_s, last_s = duration_s / 4, duration_s * 3 / 4 + _ROUNDING_S
    possible = (edges_s >= first_s) & (edges_s <= last_s)
    if duration_s < 4 * _SHORT_S or not possible.any():
        return []
    by_place = np.concatenate((np.zeros((1, volumes.shape[1])), np.cumsum(volumes, axis=0)))
    score = np.zeros(len(edges_s))
    n_doublings = max(math.ceil(math.log2(duration_s / 4 / _SHORT_S)), 0)
    scales_s = (*(_SHORT_S * 2.0 ** np.arange(n_doublings)), duration_s / 4)
    for scale_s in scales_s:
        first = np.searchsorted(edges_s, edges_s - float(scale_s) - _ROUNDING_S)
        for sums in (by_place, by_place.sum(axis=1, keepdims=True)):
            before = sums - sums[first]
            now = before[-1]
            size = np.einsum("ij,ij->i", before, before) + now @ now
            score += np.divide(2 * before @ now, size, out=np.ones(len(edges_s)), where=size > 0)
    score /= 2 * len(scales_s)
    best, worst = score[possible].max(), score[possible].min()
    chosen = np.flatnonzero(possible & (score >= best - max(_TOLERANCE * (best - worst), _NOISE)))
    runs = np.split(chosen, np.flatnonzero(np.diff(edges_s[chosen]) > _APART_S) + 1)
    return [Alike(edges_s[run], float(edges_s[run[score[run].argmax()]])) for run in runs]
