"""QEMU's figures of a migration that was recorded, as the facts of a trace have them.

Facts may be anybody's: what is no number there is shown as a dash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mempattern._json import is_list, is_object
from mempattern._terminal import printable
from mempattern.live.record import from_meta
from mempattern.quantities import format_bandwidth
from mempattern.report.units import format_bytes, format_seconds

_MOST = 500
"""Passes, and decisions, that are shown."""
_MOST_NS = 1 << 63
_MOST_NUMBER = 1 << 64
"""Larger ones QEMU never says."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """A recorded migration."""

    result: dict[str, object]
    passes: tuple[dict[str, object], ...]
    decisions: tuple[dict[str, object], ...]
    start_ns: int
    """Of the trace."""
    n_left: int
    """Passes and decisions that are not shown."""

    @classmethod
    def of(cls, facts: Mapping[str, str], start_ns: int) -> Migrated | None:
        """None for other traces, and for facts that make no sense."""
        try:
            found = from_meta(facts)
        except (ValueError, TypeError, RecursionError):
            return None
        if found is None:
            return None
        passes = _objects(found.pop("passes"))
        decisions = _objects(found.pop("decisions"))
        left = max(len(passes) - _MOST, 0) + max(len(decisions) - _MOST, 0)
        return cls(found, tuple(passes[:_MOST]), tuple(decisions[:_MOST]), start_ns, left)

    def marks(self) -> list[dict[str, float]]:
        """For the timeline: when each pass ended, in seconds since the trace began, the bandwidth
        that QEMU measured, and its own dirty rate, both in bytes/s.
        """
        return [
            {
                "at": (int(ns) - self.start_ns) / 1e9,
                "bandwidth": number(one, "bandwidth_Bps") or 0.0,
                "dirtyRate": dirty_rate(one) or 0.0,
            }
            for one in self.passes
            if (ns := number(one, "ns")) is not None and abs(ns) < _MOST_NS
        ]

    @property
    def sentence(self) -> str:
        """How it ended, and at what cost."""
        result = self.result
        status, failure = (_text(result.get(key)) for key in ("status", "failure"))
        return "; ".join([
            f"ended as: {status or 'not known'}" + (f" ({failure})" if failure else ""),
            f"total time {seconds(result, 'total_s')}",
            f"downtime {seconds(result, 'downtime_s')} of at most {seconds(result, 'ceiling_s')}",
            f"{n_bytes(result, 'sent_bytes')} sent",
        ])  # fmt: skip


def _text(said: object) -> str:
    """Empty for nothing."""
    return "" if said is None else printable(str(said))


def number(one: Mapping[str, object], name: str) -> float | None:
    """None for what is no number, or none that QEMU can have said."""
    value = one.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < _MOST_NUMBER else None


def _objects(said: object) -> list[dict[str, object]]:
    return [one for one in said if is_object(one)] if is_list(said) else []


def dirty_rate(one: Mapping[str, object]) -> float | None:
    pages, size = number(one, "dirty_pages_per_s"), number(one, "page_bytes")
    return None if pages is None or size is None else pages * size


def seconds(one: Mapping[str, object], name: str) -> str:
    value = number(one, name)
    return "-" if value is None else "0 s" if value == 0 else format_seconds(value)


def n_bytes(one: Mapping[str, object], name: str) -> str:
    value = number(one, name)
    return "-" if value is None else format_bytes(value)


def bandwidth(one: Mapping[str, object]) -> str:
    value = number(one, "bandwidth_Bps")
    return format_bandwidth(value) if value and value > 0 else "-"


def per_second(value: float | None) -> str:
    return "-" if value is None else f"{format_bytes(value)}/s"


def whole(one: Mapping[str, object], name: str) -> str:
    value = number(one, name)
    return "-" if value is None else f"{value:,.0f}"


def share(one: Mapping[str, object], name: str) -> str:
    value = number(one, name)
    return "-" if value is None else f"{100 * value:.0f} %"
