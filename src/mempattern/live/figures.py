"""What `query-migrate` says, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from mempattern.errors import QMPError
from mempattern.monitor.replies import as_object, number

_COMMAND = "query-migrate"
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
    """In all so far (`transferred`)."""
    remaining_bytes: int = 0
    """Known to be sent yet."""
    page_bytes: int = _PAGE_BYTES
    """Of a page, as QEMU counts them (`page-size`); 4096 until it says."""
    bandwidth_Bps: float = 0.0
    """As QEMU measured it last (`mbps`)."""
    dirty_pages_per_s: int = 0
    """Its own estimate, of the last second or more (`dirty-pages-rate`)."""
    expected_downtime_s: float | None = None
    """QEMU's own estimate (`expected-downtime`); None once it has completed."""
    downtime_s: float | None = None
    """Known when it has completed."""
    setup_s: float | None = None
    """From its beginning until pages are sent (`setup-time`)."""
    throttle: float = 0.0
    """Share of its time taken from the guest (`cpu-throttle-percentage`)."""
    error: str | None = None
    """Why it failed."""

    @classmethod
    def of(cls, said: object) -> Self:
        """From QEMU's answer. Raises `QMPError` for one that makes no sense."""
        said = as_object(_COMMAND, said)
        ram = as_object(f"{_COMMAND} (ram)", said.get("ram", {}))
        error = said.get("error-desc")
        return cls(
            status=str(said.get("status", "none")),
            at_s=_whole(said, "total-time") / 1000,
            number=_whole(ram, "dirty-sync-count"),
            sent_bytes=_whole(ram, "transferred"),
            remaining_bytes=_whole(ram, "remaining"),
            page_bytes=_page_bytes(ram),
            bandwidth_Bps=number(ram, "mbps", _COMMAND, 0) * 1e6 / 8,
            dirty_pages_per_s=_whole(ram, "dirty-pages-rate"),
            expected_downtime_s=_seconds(said, "expected-downtime"),
            downtime_s=_seconds(said, "downtime"),
            setup_s=_seconds(said, "setup-time"),
            throttle=_whole(said, "cpu-throttle-percentage") / 100,
            error=None if error is None else str(error),
        )

    @property
    def is_over(self) -> bool:
        """Whether it has ended, in whatever way; False before there was any."""
        return self.status not in UNDER_WAY and self.status != "none"


def _whole(said: dict[str, object], name: str, default: int = 0) -> int:
    return int(number(said, name, _COMMAND, default))


def _page_bytes(ram: dict[str, object]) -> int:
    found = _whole(ram, "page-size", _PAGE_BYTES)
    if found < 1:
        raise QMPError(f"QEMU answered {_COMMAND} with pages of {found} bytes")
    return found


def _seconds(said: dict[str, object], name: str) -> float | None:
    return None if said.get(name) is None else _whole(said, name) / 1000
