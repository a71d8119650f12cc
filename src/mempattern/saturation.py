"""Where a curve D(t) saturates: which working sets it is consistent with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_OCTAVES = 4.0  # of window lengths that are looked at, the longest ones
_FEWEST_POINTS = 4
_LEAST_PAGES = 1e-9  # a page in a thousand million windows: never
_SHAPES = np.array([-1.0, -0.7, -0.4, -0.2, 1e-6, 0.2, 0.5, 1.0, 2.0, 4.0])
_SCALES_PER_OCTAVE = 16
_HARDLY = 0.01  # fresh pages in another longest window, at most, where a curve has saturated;
_MORE_WINDOWS = 10  # what so many of these would have is then all that may come
_SATURATED = 0.02  # what weighs a member that has ended, where only its end is known
_BACKGROUND = 0.1  # share of the pages of the longest window
_MODEL_ERROR = 0.01  # no workload is exactly of the family
_EFFECTIVE_POINTS = 4.0  # all lengths were measured on the same intervals


@dataclass(frozen=True, slots=True)
class Fit:
    """The working set's size in pages, its bounds, and a member of the family that has it."""

    pages: float
    low: float
    high: float
    shape: float = 0.0
    scale_s: float = 0.0
    """0: there is no model, D stays as it is."""

    def beyond(self, t: float, last: float, seen: float) -> float:
        """D(t) past the longest window, where it is `seen`: on from there, as the model grows."""
        if self.scale_s == 0 or self.pages <= seen:
            return seen
        clean = 1 - _written(np.array([t, last]) / self.scale_s, np.array(self.shape))
        share = 1 - clean[0] / clean[1] if clean[1] > 1e-12 else 0.0
        return seen + (self.pages - seen) * float(share)


def fit(window_s: Floats, pages: Floats, error: Floats, slope: float, n_pages: int) -> Fit:
    """Try the family that `DirtyCurve.working_set` documents, member by member.

    `pages` do not descend over `window_s`; `error` is each one's standard error; at most `slope`
    pages/s are fresh beyond the longest. A member is a shape k and a scale s; what else it has
    follows from these by linear least squares. It stands if its mean square residual, in units of
    errors, is at most 1 above the best one's (or, if not even that is within the errors, at most
    twice as large).
    """
    seen, longest = float(pages[-1]), float(window_s[-1])
    if seen < _LEAST_PAGES:
        return Fit(seen, seen, float(min(3, n_pages) if np.isfinite(error).all() else n_pages))
    if seen >= n_pages:
        return Fit(seen, seen, seen)
    used = (window_s >= longest * 0.999 / 2**_OCTAVES) & (pages > 1e-9 * seen) & np.isfinite(error)
    if used.sum() < _FEWEST_POINTS:
        return Fit(seen, seen, float(n_pages))
    # From here on in units of what was seen and of the longest window.
    t, d = window_s[used] / longest, pages[used] / seen
    precision = 1 / (np.square(error[used] / seen) + np.square(_MODEL_ERROR * d))
    fresh = slope * longest / seen
    most = n_pages / seen
    if fresh < _HARDLY:
        most = min(most, 1 + _MORE_WINDOWS * fresh)

    # From scales that saturate before the first point to such as have barely begun at the last.
    scales = np.arange(-_OCTAVES - 2, min(np.log2(most), 100.0) + 1, 1 / _SCALES_PER_OCTAVE)
    k, s = (grid.ravel() for grid in np.meshgrid(_SHAPES, np.exp2(scales)))
    written = _written(t / s[:, None], k[:, None])
    _, size, misfit = _fit_linear(1 - written, written, d, precision, d[0])
    size = np.clip(size, 1, most)
    # Sizes are as likely beforehand as their logarithms are apart, from one scale to the next.
    left = np.maximum(1 + k / s, 0)
    density = np.where(left > 0, left ** (-1 / k - 1), 0)
    prior = density / s / _written(1 / s, k) + _SATURATED

    # Or a good share has not begun to bend: it grows by `growth` in the longest window.
    growth, _, its_misfit = _fit_linear(np.broadcast_to(t, written.shape), written, d, precision, 1)
    unbent = (growth > _BACKGROUND) & (np.abs(k) < 0.1)
    growth, its_misfit = growth[unbent], its_misfit[unbent]
    like = np.ones_like(growth)
    middle = np.sqrt(most) * like

    misfit = np.concatenate([misfit, its_misfit])
    least = float(misfit.min())
    unit = max(1.0, least)
    stands = misfit <= least + unit
    low = np.concatenate([size, like])[stands].min() * (1 - _MODEL_ERROR)
    high = np.concatenate([size, most * like])[stands].max() * (1 + _MODEL_ERROR)
    low, high = max(float(low), 1.0), min(float(high), most)

    log_size = np.log(np.concatenate([size, middle]))
    weight = np.exp(-_EFFECTIVE_POINTS / 2 * (misfit - least) / unit)
    weight *= np.concatenate([prior, np.square(growth)]) * stands
    mean = float(np.average(log_size, weights=weight))
    member = int(np.argmax(weight * np.exp(-np.square((log_size - mean) / 0.05) / 2)))
    return Fit(
        pages=seen * float(np.clip(np.exp(mean), low, high)),
        low=seen * low,
        high=min(seen * high, float(n_pages)),
        shape=float(np.concatenate([k, -like])[member]),
        scale_s=longest * float(np.concatenate([s, 1 + (middle - 1) / growth])[member]),
    )


def _fit_linear(
    a: Floats, b: Floats, d: Floats, precision: Floats, most: float
) -> tuple[Floats, Floats, Floats]:
    """Of each member x, y and the mean square residual in units of errors:
    D = x a + y b by weighted least squares, with x from 0 to `most`.
    """
    aa, ab, bb = ((p * q * precision).sum(axis=-1) for p, q in ((a, a), (a, b), (b, b)))
    ad, bd = ((p * d * precision).sum(axis=-1) for p in (a, b))
    determinant = aa * bb - ab * ab
    singular = determinant <= 1e-9 * aa * bb
    x = np.where(singular, 0, (ad * bb - bd * ab) / np.where(singular, 1, determinant))
    x = np.clip(x, 0, most)
    y = (bd - x * ab) / np.maximum(bb, 1e-300)
    residual = d - x[:, None] * a - y[:, None] * b
    return x, y, (np.square(residual) * precision).mean(axis=-1)


def _written(u: Floats, k: Floats) -> Floats:
    """The share of pages that has been written after u scales of time: 1 - (1 + k u)**(-1 / k)."""
    # Exact where it is tiny, and 1 to the last digit where a sweep (k < 0) has come to its end.
    return -np.expm1(-np.log1p(np.maximum(k * u, -1 + 1e-16)) / k)
