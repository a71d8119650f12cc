# SPDX-License-Identifier: Apache-2.0
"""The guest's patterns in Python, bit for bit: which page each step writes (README.md)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice

_MASK = 0xFFFFFFFF
_SCATTER = 2654435761
_EXP2 = [round(2 ** (30 + i / 64)) for i in range(65)]


def pages(cmdline: str, n_steps: int) -> Iterator[int | None]:
    """Yield the page index that each of the first n_steps steps writes; None where it writes none.

    Ends earlier where the command line says steps=. Pacing (rate=) and start= make no difference.
    """
    settings = _read(cmdline)
    steps = int(settings["steps"])
    if steps:
        n_steps = min(n_steps, steps)
    if settings["pattern"] == "phased":
        sequence = _phased(settings)
    else:
        sequence = _pattern(str(settings["pattern"]), settings, stream=0)
    return islice(sequence, n_steps)


def _read(cmdline: str) -> dict[str, int | str]:
    settings: dict[str, int | str] = {
        "pattern": "idle", "a": "", "b": "", "pages": 1024, "start": 16 << 20, "seed": 0,
        "rate": 0, "stride": 16, "hot": 0, "phase": 0, "steps": 0, "tsc_khz": 0,
    }  # fmt: skip
    for word in cmdline.split(" "):
        key, equals, value = word.partition("=")
        if not equals or not key.isascii() or not key.replace("_", "a").isalnum():
            continue
        if key not in settings:
            raise ValueError(f"unknown key: {word}")
        settings[key] = value if key in ("pattern", "a", "b") else _number(value)
    settings["hot"] = settings["hot"] or max(1, int(settings["pages"]) // 8)
    return settings


def _number(text: str) -> int:
    shift = {"k": 10, "m": 20, "g": 30}.get(text[-1:].lower(), 0)
    digits = text[:-1] if shift else text
    value = int(digits, 16 if digits[:2].lower() == "0x" else 10) << shift
    if not 0 <= value <= _MASK:
        raise ValueError(f"unusable value: {text}")
    return value


def _phased(settings: dict[str, int | str]) -> Iterator[int | None]:
    phase = int(settings["phase"])
    patterns = [_pattern(str(settings[name]), settings, i) for i, name in enumerate("ab")]
    for pattern in cycle(patterns):
        yield from islice(pattern, phase)


def _pattern(kind: str, settings: dict[str, int | str], stream: int) -> Iterator[int | None]:
    n, hot, stride = (int(settings[name]) for name in ("pages", "hot", "stride"))
    key = _mix(int(settings["seed"]) + stream * 0x9E3779B9)
    place = _mix(key + 1)
    patterns: dict[str, Iterator[int | None]] = {
        "idle": cycle([None]),
        "sweep": cycle(range(n)),
        "stride": _stride(n, stride),
        "grow": _grow(n, hot, stride),
        "uniform": (_multiply_high(x, n) for x in _random(key)),
        "hotset": _hotset(n, hot, key, place),
        "zipf": _zipf(n, key, place),
    }
    if kind not in patterns:
        raise ValueError(f"unusable value: {kind}")
    return patterns[kind]


def _stride(n: int, stride: int) -> Iterator[int]:
    while True:
        for lane in range(min(stride, n)):
            yield from range(lane, n, stride)


def _grow(n: int, hot: int, stride: int) -> Iterator[int]:
    lap = hot
    while True:
        yield from range(lap)
        lap = min(lap + stride, n)


def _hotset(n: int, hot: int, key: int, place: int) -> Iterator[int]:
    first = _multiply_high(place, n - hot + 1)
    for x in _random(key):
        place_bits = x << 3 & _MASK
        if x >> 29:
            yield first + _multiply_high(place_bits, hot)
        else:
            yield _multiply_high(place_bits, n)


def _zipf(n: int, key: int, place: int) -> Iterator[int]:
    log_range = _log2(n + 1)
    offset = _multiply_high(place, n)
    for x in _random(key):
        rank = _exp2(_multiply_high(x, log_range)) - 1
        yield (rank * _SCATTER + offset) % n


def _exp2(e: int) -> int:
    i = e >> 21 & 63
    rise = _multiply_high(_EXP2[i + 1] - _EXP2[i], e << 11 & _MASK)
    return (_EXP2[i] + rise) >> (30 - (e >> 27))


def _log2(value: int) -> int:
    low, high = 0, 21 << 27
    while low < high:
        middle = (low + high) // 2
        if _exp2(middle) >= value:
            high = middle
        else:
            low = middle + 1
    return low


def _random(key: int) -> Iterator[int]:
    x = key or 0x9E3779B9
    while True:
        x ^= x << 13 & _MASK
        x ^= x >> 17
        x ^= x << 5 & _MASK
        yield x


def _mix(x: int) -> int:
    x &= _MASK
    x ^= x >> 16
    x = x * 0x85EBCA6B & _MASK
    x ^= x >> 13
    x = x * 0xC2B2AE35 & _MASK
    return x ^ x >> 16


def _multiply_high(a: int, b: int) -> int:
    return a * b >> 32
