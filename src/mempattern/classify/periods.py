"""Whether a series of numbers, one an interval, repeats itself, and after how long."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_MOST_CELLS = 2048
_LEAST_CORRELATION = 0.35
_SIGMAS = 4.0
"""By how many standard deviations (Fisher's z) a correlation must exceed that of noise. One
series of noise in 250 does so, at any of its lags.
"""


@dataclass(frozen=True, slots=True)
class Period:
    """Of a series that repeats itself."""

    seconds: float
    correlation: float
    """Of the series with itself a period later, to 1."""
    n_periods: float
    """How often it fits in the time observed: at least 2."""


def find_period(values: Floats, starts_s: Floats, ends_s: Floats) -> Period | None:
    """The period of a series of intervals, which may differ in length and have gaps between them.

    The series is laid on a grid as fine as the median interval, of which a cell without an interval
    counts as not known. A period is the first peak of its autocorrelation after a trough, if that
    is beyond chance, and if two periods at least were seen.
    """
    if values.size < 2 * 2 or np.ptp(values) == 0:
        return None
    span = float(ends_s[-1] - starts_s[0])
    step = max(float(np.median(ends_s - starts_s)), span / _MOST_CELLS)
    n = max(1, round(span / step))
    middles: Floats = starts_s[0] + (np.arange(n) + 0.5) * (span / n)
    at = np.minimum(np.searchsorted(ends_s, middles), values.size - 1)
    known = (starts_s[at] <= middles) & (middles <= ends_s[at])
    if known.sum() < 4:
        return None
    correlation, n_pairs = _autocorrelation(values[at], known)
    lag = _first_peak(correlation, n_pairs)
    if lag is None:
        return None
    exact = _refined(correlation, lag)
    return Period(exact * span / n, float(min(1.0, correlation[lag])), n / exact)


def _autocorrelation(values: Floats, known: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """By lag, from 0 to one beyond half of the length, and the pairs each rests on."""
    n = values.size
    centred = np.where(known, values - values[known].mean(), 0.0)
    size = 1 << (2 * n - 1).bit_length()

    def with_itself(series: Floats) -> Floats:
        spectrum = np.abs(np.fft.rfft(series, size)) ** 2
        return np.asarray(np.fft.irfft(spectrum, size)[: n // 2 + 2])

    n_pairs = np.maximum(np.rint(with_itself(known.astype(np.float64))), 1.0)
    covariance = with_itself(centred) / n_pairs
    return covariance / max(float(covariance[0]), 1e-300), n_pairs


def _first_peak(correlation: Floats, n_pairs: Floats) -> int | None:
    """The smallest lag beyond the first trough that is a peak, and nearly the highest of all.

    A peak between two lags is lower at both, but their sum is what it is for a peak at a lag.
    """
    below = np.flatnonzero(correlation < -0.1)
    if below.size == 0 or below[0] + 1 >= correlation.size:
        return None
    first = int(below[0]) + 1
    by_chance = np.tanh(_SIGMAS / np.sqrt(np.maximum(n_pairs - 3, 0.1)))
    least = np.maximum(_LEAST_CORRELATION, by_chance)
    rest = correlation[first:]
    beside = np.maximum(correlation[first - 1 : -1], np.append(correlation[first + 1 :], -1.0))
    height = rest + beside
    good = (rest >= least[first:]) & (height >= 0.85 * height.max())
    if not good.any():
        return None
    lag = first + int(np.argmax(good))
    while lag + 1 < correlation.size and correlation[lag + 1] > correlation[lag]:
        lag += 1
    return lag if lag + 1 < correlation.size else None  # it may peak later


def _refined(correlation: Floats, lag: int) -> float:
    """Between cells: by the peaks at the multiples of the lag, the last of which tells it best."""
    exact = float(lag)
    for multiple in range(1, correlation.size):
        middle = round(exact * multiple)
        low, high = max(1, middle - 1 - lag // 4), middle + 2 + lag // 4
        if high >= correlation.size:
            break
        near = correlation[low:high]
        top = low + int(np.argmax(near))
        if near.max() < 0.5 * correlation[lag]:
            break
        left, peak, right = correlation[top - 1 : top + 2]
        bend = left - 2 * peak + right
        exact = (top + (0.5 * (left - right) / bend if bend < 0 else 0.0)) / multiple
    return exact
