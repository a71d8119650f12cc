"""The guest's patterns in NumPy: what csrc/guest/model.py says, for millions of steps.

`Steps(...).take(n)` is the next n steps' pages: int64, -1 where a step writes none.
"""

import numpy as np

from mempattern.classify import Kind

TRUTH = {
    "sweep": Kind.SWEEP,
    "stride": Kind.SWEEP,
    "uniform": Kind.UNIFORM,
    "hotset": Kind.HOTSET,
    "zipf": Kind.ZIPF,
}
"""What a detector should call them."""

_MASK = 0xFFFFFFFF
_LANES = 4096


class Steps:
    def __init__(self, pattern, n_pages, seed=0, *, stride=16, hot=None, stream=0):
        self.pattern, self.n_pages, self.stride = pattern, n_pages, stride
        self.hot = hot or max(1, n_pages // 8)
        self.key = _mix(seed + stream * 0x9E3779B9)
        self.place = _mix(self.key + 1)
        self.done = 0
        self._random = _Random(self.key)

    def take(self, n):
        at = np.arange(self.done, self.done + n)
        self.done += n
        if self.pattern == "idle":
            return np.full(n, -1, np.int64)
        pages = getattr(self, f"_{self.pattern}")(at)
        return pages.astype(np.int64)

    def _sweep(self, at):
        return at % self.n_pages

    def _stride(self, at):
        """Of the s lanes, the first N mod s have a page more than the others."""
        stride, rest = min(self.stride, self.n_pages), at % self.n_pages
        short, n_long = divmod(self.n_pages, stride)
        in_long = n_long * (short + 1)
        lane, later = rest // (short + 1), rest >= in_long
        lane[later] = n_long + (rest[later] - in_long) // short
        first = np.where(lane < n_long, lane * (short + 1), in_long + (lane - n_long) * short)
        return lane + (rest - first) * stride

    def _grow(self, at):
        laps = np.arange(self.hot, self.n_pages, self.stride)  # pages of those that still grow
        starts = np.concatenate([[0], np.cumsum(laps)])  # the last one's lap comes back for ever
        lap = np.searchsorted(starts, at, side="right") - 1
        return (at - starts[lap]) % self.n_pages

    def _uniform(self, at):
        return _multiply_high(self._random.take(at.size), self.n_pages)

    def _hotset(self, at):
        x = self._random.take(at.size)
        first = _multiply_high(self.place, self.n_pages - self.hot + 1)
        bits = x << np.uint64(3) & np.uint64(_MASK)
        hot = np.uint64(first) + _multiply_high(bits, self.hot)
        return np.where(x >> np.uint64(29) != 0, hot, _multiply_high(bits, self.n_pages))

    def _zipf(self, at):
        log_range = _log2(self.n_pages + 1)
        rank = _exp2(_multiply_high(self._random.take(at.size), log_range)) - np.uint64(1)
        offset = _multiply_high(self.place, self.n_pages)
        return (rank * np.uint64(2654435761) + np.uint64(offset)) % np.uint64(self.n_pages)


class Phased:
    """Takes turns of `phase` steps."""

    def __init__(self, a, b, phase):
        self.turns, self.phase, self.done = (a, b), phase, 0

    def take(self, n):
        parts = []
        while n:
            turn, within = divmod(self.done, self.phase)
            part = min(n, self.phase - within)
            parts.append(self.turns[turn % 2].take(part))
            self.done += part
            n -= part
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


class _Random:
    """xorshift32, 4096 numbers at a time: one step is linear over bits, so as many are too."""

    def __init__(self, key):
        x, numbers = key or 0x9E3779B9, []
        for _ in range(_LANES):
            x ^= x << 13 & _MASK
            x ^= x >> 17
            x ^= x << 5 & _MASK
            numbers.append(x)
        self._next = np.array(numbers, np.uint64)
        self._left = self._next[:0]

    def take(self, n):
        parts = [self._left]
        missing = n - self._left.size
        while missing > 0:
            parts.append(self._next)
            missing -= _LANES
            self._next = _jump(self._next)
        numbers = np.concatenate(parts)
        self._left = numbers[n:]
        return numbers[:n]


def _tables():
    """What _LANES steps make of each byte of a number, by where the byte stands."""
    x = np.array([byte << shift for shift in (0, 8, 16, 24) for byte in range(256)], np.uint64)
    for _ in range(_LANES):
        x ^= x << np.uint64(13) & np.uint64(_MASK)
        x ^= x >> np.uint64(17)
        x ^= x << np.uint64(5) & np.uint64(_MASK)
    return x.reshape(4, 256)


_TABLES = _tables()


def _jump(x):
    octets = x.astype("<u4").view(np.uint8).reshape(-1, 4)
    return np.bitwise_xor.reduce([_TABLES[i][octets[:, i]] for i in range(4)])


_EXP2 = np.array([round(2 ** (30 + i / 64)) for i in range(65)], np.uint64)


def _exp2(e):
    e = np.asarray(e, np.uint64)
    i = (e >> np.uint64(21) & np.uint64(63)).astype(np.int64)
    fraction = e << np.uint64(11) & np.uint64(_MASK)
    rise = (_EXP2[i + 1] - _EXP2[i]) * fraction >> np.uint64(32)
    return (_EXP2[i] + rise) >> (np.uint64(30) - (e >> np.uint64(27)))


def _log2(value):
    low, high = 0, 21 << 27
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if int(_exp2(middle)) >= value else (middle + 1, high)
    return low


def _mix(x):
    x &= _MASK
    x ^= x >> 16
    x = x * 0x85EBCA6B & _MASK
    x ^= x >> 13
    x = x * 0xC2B2AE35 & _MASK
    return x ^ x >> 16


def _multiply_high(a, b):
    return a * b >> 32 if isinstance(a, int) else a * np.uint64(b) >> np.uint64(32)
