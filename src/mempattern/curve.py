"""D(t): the expected number of distinct pages dirtied in a window of length t."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mempattern import saturation
from mempattern._checks import positive_seconds, whole_number
from mempattern.errors import UsageError
from mempattern.regions import PAGE_BYTES

Floats = npt.NDArray[np.float64]

_ENOUGH_WINDOWS = 8  # from so many on their own standard deviation is believed
_RULE_OF_THREE = 3.0  # what never happened in n windows happens 3/n times a window, at most (95 %)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number of `pages` and its bounds, `low` and `high`, as the method has them that returns it.

    0 <= low <= pages <= high <= the memory's pages.
    """

    pages: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class DirtyCurve:
    """D(t), measured at some window lengths: `DistinctPages.curve` makes it, or bring your own.

    All arrays have the shape (n_lengths,), one number a window length, ascending; `std` and
    `n_windows` may be given as one number for all. They are copied and become read-only. D cannot
    fall: where measured means do, because of noise, the nearest curve that does not takes their
    place (isotonic regression: least squares weighted by `n_windows`, pool adjacent violators).

    Raises `UsageError` for arrays that are empty, of different lengths or not one-dimensional;
    windows that are not positive, finite and strictly ascending; pages below 0 or above `n_pages`;
    a negative `std`; less than one window; `n_pages` or `page_bytes` below 1.
    """

    window_s: Floats
    """Mean duration of the windows, in seconds."""
    pages: Floats
    """Mean of the distinct pages dirtied in a window."""
    std: Floats
    """Standard deviation of these from window to window; not looked at where there is one."""
    n_windows: npt.NDArray[np.int64]
    """Windows that were measured."""
    n_pages: int
    """Pages of the memory: D(t) is never more."""
    page_bytes: int = PAGE_BYTES
    """Of a page, which `pages` and `n_pages` count."""
    _low: Floats = field(init=False, repr=False)
    _high: Floats = field(init=False, repr=False)
    _slope: float = field(init=False, repr=False)
    _fit: saturation.Fit = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name, least in (("n_pages", 1), ("page_bytes", 1)):
            number = whole_number(getattr(self, name), least, 1 << 62)
            if number is None:
                raise UsageError(
                    f"{name} must be a positive whole number, not {getattr(self, name)!r}"
                )
            object.__setattr__(self, name, number)
        window_s = _array("window_s", self.window_s, None)
        if not (window_s > 0).all() or not (np.diff(window_s) > 0).all():
            raise UsageError("window_s must be positive and ascending, each length once")
        pages = _array("pages", self.pages, window_s.size)
        if pages.max() > self.n_pages:
            raise UsageError(
                f"pages must be at most the memory's n_pages {self.n_pages}, not {pages.max():g}"
            )
        std = _array("std", self.std, window_s.size)
        if std.max() > self.n_pages:
            raise UsageError(f"std cannot be above the memory's n_pages {self.n_pages}")
        n_windows = _array("n_windows", self.n_windows, window_s.size)
        if n_windows.min() < 1 or (n_windows % 1).any():
            raise UsageError("n_windows must be whole numbers from 1 on")
        pages = _isotonic(pages, n_windows)
        spread = _spread(pages, std, n_windows)
        spread[spread > self.n_pages] = np.inf  # which tells as little
        error = spread / np.sqrt(n_windows)
        # A long window has all that a short one within it has: what bounds one bounds the other.
        low = np.maximum.accumulate(np.maximum(pages - 2 * spread, 0))
        high = np.minimum.accumulate(np.minimum(pages + 2 * spread, self.n_pages)[::-1])[::-1]
        self._set("window_s", window_s)
        self._set("pages", pages)
        self._set("std", std)
        self._set("n_windows", n_windows.astype(np.int64))
        self._set("_low", low)
        self._set("_high", high)
        slope = _last_slope(window_s, pages, error)
        object.__setattr__(self, "_slope", slope)
        fit = saturation.fit(window_s, pages, error, slope, self.n_pages)
        object.__setattr__(self, "_fit", fit)

    def _set(self, name: str, array: npt.NDArray[Any]) -> None:
        array.flags.writeable = False
        object.__setattr__(self, name, array)

    def at(self, window_s: float) -> Estimate:
        """Distinct pages to expect in one window of that length in seconds, from 0 on.

        Between measured lengths D is a power law from one to the next (linear from a zero), and
        `low` and `high` are the mean -+ two standard deviations of the windows, so that a new
        window lies between them about 19 times in 20. Fewer than eight windows do not show their
        spread well: the next shorter length's, relative to the mean, counts there if it is larger,
        and where there is none the bounds are 0 and `n_pages`.

        Below the shortest length t1, D(t) = D(t1) (t / t1)**b with b the exponent between the two
        shortest, from 0 to 1 (1/2 if there is one length only); low is linear (D is concave), high
        as at t1.

        Beyond the longest, `pages` grows as the model of `working_set` does, low is as at the
        longest, and high grows at the slope last seen: that over the last doubling, plus twice its
        standard error, and at least 3 pages a longest window; never above `n_pages`.

        Raises `UsageError` for a negative or infinite length.
        """
        t = 0.0 if _is_zero(window_s) else positive_seconds("window_s", window_s)
        if t == 0:
            return Estimate(0.0, 0.0, 0.0)
        first, last = float(self.window_s[0]), float(self.window_s[-1])
        if t < first:
            share = t / first
            pages = float(self.pages[0]) * share ** self._first_exponent()
            return _ordered(pages, float(self._low[0]) * share, float(self._high[0]))
        if t <= last:
            pages, low, high = (
                _interpolate(t, self.window_s, y) for y in (self.pages, self._low, self._high)
            )
            return _ordered(pages, low, high)
        high = min(float(self._high[-1]) + self._slope * (t - last), self.n_pages)
        now = float(self.pages[-1])
        return _ordered(min(self._fit.beyond(t, last, now), high), float(self._low[-1]), high)

    def working_set(self) -> Estimate:
        """The writable working set: the pages that D(t) saturates at, if all goes on as it did.

        Of the lengths the last four octaves are looked at. H pages are taken to be written in every
        such window, and of the others the time until each is first written is taken as generalised
        Pareto distributed:

            D(t) = H S(t) + W (1 - S(t)),    S(t) = (1 + k t / s)**(-1 / k)

        which is a sweep at k = -1, uniformly random writes at k = 0 and, at k > 0, pages whose
        write rates are gamma distributed: a few hot ones and a long tail. `low` and `high` are the
        least and the largest W with which any k from -1 to 4 follows the measured means, to within
        their errors and one per cent; `pages` is the mean of log W, each W weighted by how well it
        does. low is at least what was seen in the longest window.

        high is `n_pages` where the curve does not bend, and also where it may be that only a part
        of it does: where a set that saturates beside pages that grow in proportion to t, by a tenth
        of all in the longest window or more, follows as well. Observe for longer, then. On the
        other hand a curve has saturated where less than one page in a hundred may be fresh in
        another longest window, by the slope of `at`: high is at most what ten more would bring.
        With less than four lengths nothing can be said: pages and low are what was seen, high is
        `n_pages`.

        Of an idle VM 0 pages are estimated and 3 at most: what never happened in the longest window
        happens thrice in another one at most (95 %).
        """
        return Estimate(self._fit.pages, self._fit.low, self._fit.high)

    def _first_exponent(self) -> float:
        if self.pages.size == 1:
            return 0.5
        if self.pages[0] == 0:
            return 1.0
        rise, run = np.diff(np.log(self.pages[:2]))[0], np.diff(np.log(self.window_s[:2]))[0]
        return float(min(rise / run, 1)) if run > 0 else 0.5


def _is_zero(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and value == 0


def _ordered(pages: float, low: float, high: float) -> Estimate:
    return Estimate(pages, min(low, pages), max(high, pages))


def _array(name: str, values: object, size: int | None) -> Floats:
    """A new array of finite numbers from 0 on; one number stands for `size` of them."""
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"{name} must be an array of numbers, not {values!r}") from None
    if array.ndim == 0 and size is not None and name in ("std", "n_windows"):
        array = np.full(size, array)
    if array.ndim != 1 or array.size == 0 or (size is not None and array.size != size):
        wanted = "a number for each window length" if size else "one dimension and some lengths"
        raise UsageError(f"{name} must have {wanted}, not the shape {array.shape}")
    if not np.isfinite(array).all() or array.min() < 0:
        raise UsageError(f"{name} must be finite and not negative")
    return array


def _isotonic(values: Floats, weights: Floats) -> Floats:
    """The nearest non-decreasing values, by pooling neighbours in the wrong order."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            before = pools.pop()
            total = before[1] + pool[1]
            mean = (before[0] * before[1] + pool[0] * pool[1]) / total
            pool = (mean, total, before[2] + pool[2])
        pools.append(pool)
    return np.repeat([pool[0] for pool in pools], [pool[2] for pool in pools])


def _spread(pages: Floats, std: Floats, n_windows: Floats) -> Floats:
    """Standard deviation of a window's pages; infinite where nothing tells it."""
    spread = np.where(n_windows > 1, std, 0)
    relative = np.inf  # of the length before, to its mean
    for i, mean in enumerate(pages.tolist()):
        if n_windows[i] < _ENOUGH_WINDOWS and (i > 0 or n_windows[i] == 1):
            spread[i] = max(spread[i], relative * mean) if relative < np.inf else np.inf
        relative = float(spread[i]) / max(mean, 1e-300)
    return spread


def _last_slope(window_s: Floats, pages: Floats, error: Floats) -> float:
    """Pages/s that may be fresh beyond the longest window, at most.

    D is concave: it is not steeper there than over the last doubling, nor than on the whole.
    """
    last = window_s[-1]
    before = np.flatnonzero(window_s <= last * 0.5001)
    whole = (pages[-1] + 2 * error[-1]) / last
    steep = whole
    if before.size:
        i = before[-1]
        rise = pages[-1] - pages[i] + 2 * np.hypot(error[-1], error[i])
        steep = min(whole, rise / (last - window_s[i]))
    return float(max(steep, _RULE_OF_THREE / last))


def _interpolate(t: float, x: Floats, y: Floats) -> float:
    """y at t, from x[0] to x[-1]: a power law from point to point, linear from a zero."""
    i = int(np.searchsorted(x, t))  # the point at t or after it
    if x[i] == t:
        return float(y[i])
    (start, end), (low, high) = x[i - 1 : i + 1], y[i - 1 : i + 1]
    share = (t - start) / (end - start)
    if low <= 0:
        return float(share * high)
    if np.log(end) > np.log(start):
        share = (np.log(t) - np.log(start)) / (np.log(end) - np.log(start))
    # Not by high / low, which is beyond a double's range for the smallest of means.
    return float(np.clip(low ** (1 - share) * high**share, low, high))
