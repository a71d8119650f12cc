"""What `query-migrate` says, as values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from mempattern.errors import QMPError

_PAGE_BYTES = 4096
UNDER_WAY = frozenset(
    ("setup", "active", "device", "pre-switchover", "wait-unplug", "cancelling",
     "postcopy-active", "postcopy-paused", "postcopy-recover", "postcopy-recover-setup")
)  # fmt: skip
PRECOPY = frozenset(("setup", "active"))
"""The states in which a policy can do anything."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A migration at one moment. 0 and None are for what QEMU does not say (yet)."""

    status: str
    """QEMU's word; "none" before there was any migration."""
    at_s: float = 0.0
    """Since it began."""
    number: int = 0
    """Of the last sync (`dirty-sync-count`)."""
    sent_bytes: int = 0
    remaining_bytes: int = 0
    """Known to be sent yet."""
    page_bytes: int = _PAGE_BYTES
    bandwidth_Bps: float = 0.0
    """As QEMU measured it last (`mbps`)."""
    dirty_pages_per_s: int = 0
    """Its own estimate, of the last second or more (`dirty-pages-rate`)."""
    expected_downtime_s: float | None = None
    downtime_s: float | None = None
    """Known when it has completed."""
    setup_s: float | None = None
    throttle: float = 0.0
    """Share of its time taken from the guest (`cpu-throttle-percentage`)."""
    error: str | None = None
    """Why it failed."""

    @classmethod
    def of(cls, said: object) -> Self:
        """From QEMU's answer. Raises `QMPError` if that makes no sense."""
        if not isinstance(said, Mapping):
            raise QMPError(f"`query-migrate` returned {type(said).__name__}, not an object")
        ram = said.get("ram", {})
        try:
            return cls(
                status=str(said.get("status", "none")),
                at_s=int(said.get("total-time", 0)) / 1000,
                number=int(ram.get("dirty-sync-count", 0)),
                sent_bytes=int(ram.get("transferred", 0)),
                remaining_bytes=int(ram.get("remaining", 0)),
                page_bytes=int(ram.get("page-size", _PAGE_BYTES)),
                bandwidth_Bps=_finite(ram.get("mbps", 0)) * 1e6 / 8,
                dirty_pages_per_s=int(ram.get("dirty-pages-rate", 0)),
                expected_downtime_s=_seconds(said, "expected-downtime"),
                downtime_s=_seconds(said, "downtime"),
                setup_s=_seconds(said, "setup-time"),
                throttle=int(said.get("cpu-throttle-percentage", 0)) / 100,
                error=None if said.get("error-desc") is None else str(said["error-desc"]),
            )
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise QMPError(f"`query-migrate` returned what makes no sense: {error}") from None

    @property
    def is_over(self) -> bool:
        return self.status not in UNDER_WAY and self.status != "none"


def _finite(value: Any) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError(f"mbps is {number}")
    return number


def _seconds(said: Mapping[str, Any], key: str) -> float | None:
    return None if said.get(key) is None else int(said[key]) / 1000
