"""A memory of which each page is known, so simple that it can be seen through."""

import numpy as np
from model import to_words
from recordings import PROVENANCE

from mempattern import Interval, Region
from mempattern.migration.memory import Outstanding, Sent


class PagedMemory:
    """`written(start_s, end_s)` says which pages the guest writes in that time, as a bool array.

    A sync finds what was written since the one before; pages are sent in the order of their
    addresses, round and round, and those that are deferred not at all.
    """

    page_bytes = 4096

    def __init__(self, n_pages, written):
        self.n_pages, self._written = n_pages, written
        self.region = Region("ram", n_pages)
        self.deferrals = []
        """How many pages each call to `defer` named."""
        self.start(0)  # what is no attribute yet is no `PageMemory`'s

    def start(self, seed):
        self.pending = np.ones(self.n_pages, bool)
        self._log = np.zeros(self.n_pages, bool)
        self._deferred = np.zeros(self.n_pages, bool)
        self._now_s = self._synced_s = 0.0
        self._next = 0
        self._found = None

    @property
    def pending_pages(self):
        return float(self.pending.sum())

    @property
    def deferred_pages(self):
        return float((self.pending & self._deferred).sum())

    def run(self, duration_s):
        self._log |= self._written(self._now_s, self._now_s + duration_s)
        self._now_s += duration_s

    def sync(self):
        if self._now_s > self._synced_s:
            start_ns, end_ns = round(self._synced_s * 1e9), round(self._now_s * 1e9)
            words = {"ram": to_words(self._log)}
            self._found = Interval(0, start_ns, end_ns, (self.region,), words, PROVENANCE)
        self._synced_s = self._now_s
        self.pending |= self._log
        self._log[:] = False
        return self.pending_pages

    def send(self, duration_s, page_s, zero_page_s):
        order = np.flatnonzero(self.pending & ~self._deferred)
        order = np.roll(order, -np.searchsorted(order, self._next))
        pages = order[: int(min(duration_s / page_s, self.n_pages))]
        self.pending[pages] = False
        self._next = int(pages[-1]) + 1 if pages.size else 0
        return Sent(pages.size, 0, pages.size * page_s)

    def found(self):
        return self._found

    def outstanding(self):
        return Outstanding(float((self.pending | self._log).sum()), 0.0)

    def seen(self):
        return []

    def defer(self, pages):
        self._deferred[:] = False
        if pages is not None:
            self._deferred[pages.pages("ram")] = True
            self.deferrals.append(int(self._deferred.sum()))
