"""A VM's memory as a migration meets it: the guest writes pages, syncs find them, sending cleans.

`replayed.ReplayedMemory` writes the very pages of a recorded trace, `expected.ExpectedMemory` as
many pages as a curve D(t) expects.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol, runtime_checkable

from mempattern.interval import Interval

CHUNK_PAGES = 1 << 18
"""Pages whose dirty log QEMU clears at once: 1 GiB (`clear-bitmap-shift`, migration/ram.h)."""


class Sent(NamedTuple):
    """What one call to `send` sent."""

    pages: float
    """With the zero pages."""
    zero_pages: float
    """Of these, pages that hold only zeros."""
    duration_s: float
    """How long it took, at the seconds a page that `send` was given."""


class Outstanding(NamedTuple):
    """What a sync would find to be sent."""

    pages: float
    """With the zero pages."""
    zero_pages: float
    """Of these, pages that hold only zeros."""


class Memory(Protocol):
    """Pages of one VM during one migration at a time."""

    page_bytes: int
    """Of a page, without the header it is sent with."""
    n_pages: int
    """Of the VM's RAM."""

    @property
    def pending_pages(self) -> float:
        """Pages that are to be sent."""
        ...

    def start(self, seed: int) -> None:
        """A migration begins: all pages are to be sent. `seed` says which of many equally likely
        courses the guest takes."""
        ...

    def run(self, duration_s: float) -> None:
        """The guest runs for so long."""
        ...

    def sync(self) -> float:
        """Fetch the dirty log; returns the pages that are to be sent now."""
        ...

    def send(self, duration_s: float, page_s: float, zero_page_s: float) -> Sent:
        """Send for so long, at so many seconds a page, or until nothing is to be sent."""
        ...


@runtime_checkable
class PageMemory(Memory, Protocol):
    """One of which each page is known."""

    deferred_pages: float
    """Of those that are to be sent."""

    def found(self) -> Interval:
        """The pages that the last sync found written since the one before it."""
        ...

    def outstanding(self) -> Outstanding:
        """What would be to be sent after a sync now."""
        ...

    def seen(self) -> Iterable[Interval]:
        """What a tracer of the guest saw since the last call, or since the migration began."""
        ...

    def defer(self, pages: Interval | None) -> None:
        """Send these when no others are asked for any more: None ends that."""
        ...
