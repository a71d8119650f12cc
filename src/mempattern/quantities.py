"""Bandwidths, durations and sizes as people write them, to numbers and back."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from mempattern.errors import UsageError

_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*(.*)", re.DOTALL)
_RATE = re.compile(r"([kKmMgGtT]?)(i?)(B|b|bits?)(?:/s|ps)?")
_SIZE = re.compile(r"([kKmMgGtT]?)(i?)B")
_CHANGE = re.compile(r"(?<=[^eE])\+")
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SECONDS = {
    "us": 1e-6, "\u00b5s": 1e-6, "\u03bcs": 1e-6, "ms": 1e-3, "s": 1.0,
    "m": 60.0, "min": 60.0, "h": 3600.0,
}  # fmt: skip

_BANDWIDTH = "a bandwidth as in 10Gbit, 1.25GB/s or 125MiB/s"
_DURATION = "a duration as in 300ms, 1.5s or 2m"
_SIZED = "a size as in 3GiB or 512MB"

Ladder = tuple[tuple[float, str], ...]
"""Units and their size, largest first."""
BYTES: Ladder = tuple((1024.0**i, u) for i, u in enumerate(("B", "KiB", "MiB", "GiB", "TiB")))[::-1]
DURATIONS: Ladder = ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
_BITS: Ladder = (
    (1e12, "Tbit/s"),
    (1e9, "Gbit/s"),
    (1e6, "Mbit/s"),
    (1e3, "kbit/s"),
    (1.0, "bit/s"),
)
_LONG_S = 600.0
"""Below that, seconds are easier to compare than minutes."""


def parse_bandwidth(text: str) -> float:
    """Bytes/s. A capital B is a byte, b or bit a bit; k, M, G, T are powers of 1000, Ki, Mi, Gi,
    Ti of 1024; "/s" or "ps" may follow.

    Raises `UsageError` for what has no unit or another one, for what is not positive, and for 2**64
    bytes/s and more, which QEMU's `max-bandwidth` does not hold.

    >>> from mempattern.quantities import parse_bandwidth
    >>> parse_bandwidth("10Gbit"), parse_bandwidth("125MiB/s")
    (1250000000.0, 131072000.0)
    """
    bytes_per_s = _positive(text, _BANDWIDTH, _bytes_per_s)
    if bytes_per_s >= 2.0**64:
        raise UsageError(f"{text!r} is more than QEMU takes, 16 EiB/s; give {_BANDWIDTH}")
    return bytes_per_s


def parse_duration(text: str) -> float:
    """Seconds, from us (or \u00b5s), ms, s, m (or min) and h.

    Raises `UsageError` for a number without a unit, and for what is not positive and finite.
    """
    return _positive(text, _DURATION, _SECONDS.get)


def parse_size(text: str) -> float:
    """Bytes, from B, kB, MB, ... (powers of 1000) and KiB, MiB, ... (of 1024).

    Raises `UsageError` for a number without a unit, and for what is not positive and finite.
    """
    return _positive(text, _SIZED, _bytes)


def parse_pages(text: str, page_bytes: int) -> int:
    """A number of pages, or a size, of which whole pages count. Raises `UsageError`."""
    if text.isascii() and text.isdecimal() and len(text) < 16:
        return int(text)
    try:
        return int(parse_size(text) // page_bytes)
    except UsageError:
        raise UsageError(
            f"{text!r} is neither a number of pages, as in 20000, nor {_SIZED}"
        ) from None


def parse_changing_bandwidth(text: str) -> tuple[tuple[float, float], ...]:
    """Moments in seconds, from 0 on, and the bytes/s from each: "1Gbit+200Mbit@10s" is 1 Gbit/s,
    and 200 Mbit/s from 10 seconds on.

    Raises `UsageError` for what is none, and for moments that do not rise.
    """
    first, *later = _CHANGE.split(text)
    changes = [(0.0, parse_bandwidth(first))]
    for change in later:
        bandwidth, at, moment = change.partition("@")
        if not at:
            raise UsageError(
                f"{change!r} does not say from when on; write a change as in 1Gbit+200Mbit@10s"
            )
        changes.append((parse_duration(moment), parse_bandwidth(bandwidth)))
        if changes[-1][0] <= changes[-2][0]:
            raise UsageError(f"the moments of {text!r} do not rise")
    return tuple(changes)


def format_size(n_bytes: float) -> str:
    """12.3 MiB"""
    unit, name = _rung(n_bytes, BYTES)
    return f"{_digits(n_bytes / unit)} {name}"


def format_changing_bandwidth(changes: Sequence[tuple[float, float]]) -> str:
    """1 Gbit/s, 200 Mbit/s from 10 s on"""
    (_, first), *later = changes
    texts = [f"{format_bandwidth(Bps)} from {format_duration(at_s)} on" for at_s, Bps in later]
    return ", ".join([format_bandwidth(first), *texts])


def format_bandwidth(bandwidth_Bps: float) -> str:
    """10 Gbit/s, 1.5 Mbit/s"""
    unit, name = _rung(bandwidth_Bps * 8, _BITS)
    return f"{_digits(bandwidth_Bps * 8 / unit)} {name}"


def format_duration(seconds: float) -> str:
    """300 ms, 1.5 s, 12.5 min"""
    unit, name = _rung(seconds, _short(seconds))
    return f"{_digits(seconds / unit)} {name}"


def format_range(low: float, middle: float, high: float, ladder: Ladder | None = None) -> str:
    """4.3 s (4.2-4.4): one unit for all, and no bounds where they look the same."""
    if ladder is DURATIONS:
        ladder = _short(high)
    unit, name = _rung(high, ladder) if ladder else (1.0, "")
    texts = [_digits(value / unit) for value in (low, middle, high)]
    bounds = f" ({texts[0]}-{texts[2]})" if texts[0] != texts[2] else ""
    return f"{texts[1]} {name}".rstrip() + bounds


def _positive(text: str, kind: str, unit_of: Callable[[str], float | None]) -> float:
    match = _QUANTITY.fullmatch(text.strip())
    unit = unit_of(match[2]) if match else None
    if match is None or unit is None:
        raise UsageError(_refusal(text, match[2] if match else None, kind))
    value = float(match[1]) * unit
    if not 0 < value < math.inf:
        raise UsageError(f"{text!r} is not positive and finite; give {kind}")
    return value


def _refusal(text: str, unit: str | None, kind: str) -> str:
    if unit is None:
        return f"{text!r} is not {kind}"
    if not unit:
        return f"{text!r} has no unit; give {kind}"
    if kind is _BANDWIDTH and re.fullmatch(r"[kKmMgGtT]i?(/s|ps)?|[mgt]i?b(/s)?", unit):
        prefix = unit[0].upper().replace("K", "k") + "i" * unit[1:].startswith("i")
        number = text.strip()[: -len(unit)].strip()
        return f"{text!r} may be bits or bytes; write {number}{prefix}bit/s or {number}{prefix}B/s"
    return f"{text!r} has the unit {unit!r}; give {kind}"


def _bytes_per_s(unit: str) -> float | None:
    match = _RATE.fullmatch(unit)
    if match is None:
        return None
    prefix, binary, of = match.groups()
    if of == "b" and prefix in ("m", "g", "t") and not unit.endswith("ps"):
        return None  # mb/s is written for both
    scale = _scale(prefix, binary)
    return None if scale is None else scale if of == "B" else scale / 8


def _bytes(unit: str) -> float | None:
    match = _SIZE.fullmatch(unit)
    return _scale(*match.groups()) if match else None


def _scale(prefix: str, binary: str) -> float | None:
    if binary and not prefix:
        return None
    return (1024.0 if binary else 1000.0) ** _POWER[prefix.lower()]


def _short(seconds: float) -> Ladder:
    return DURATIONS if seconds >= _LONG_S else DURATIONS[2:]


def _rung(value: float, ladder: Ladder) -> tuple[float, str]:
    """The largest unit of which there is one, also when it is rounded to three digits."""
    return next((rung for rung in ladder if value >= 0.9995 * rung[0]), ladder[-1])


def _digits(value: float) -> str:
    """Three digits, or all before the point, and at most three behind it."""
    if value < 0.0005:
        return "0"
    return f"{value:.0f}" if value >= 999.5 else f"{value:.3g}"
