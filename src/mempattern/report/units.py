"""Numbers as a reader wants them: three or four digits and a binary unit."""

from __future__ import annotations


def format_bytes(n_bytes: float) -> str:
    """12.3 MiB"""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(n_bytes) < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} TiB"


def format_seconds(seconds: float) -> str:
    """1.2 s, 34 ms, 560 us"""
    if seconds >= 1e9:
        return f"{seconds:.3g} s"
    if seconds >= 0.9995:  # three digits of the smaller unit would round to 1e+03
        return f"{seconds:.1f} s"
    if seconds >= 0.9995e-3:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds * 1e6:.3g} us"


def format_share(part: float, whole: float) -> str:
    """12 %; a dash where there is no whole."""
    return f"{100 * part / whole:.0f} %" if whole else "-"
