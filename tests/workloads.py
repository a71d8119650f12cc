"""Recordings of workloads that are simple enough to know what becomes of their migration."""

import numpy as np

from mempattern import Interval, Provenance, Region

PROVENANCE = Provenance("synthetic")


def intervals(
    pages_of, n_intervals, *, n_pages=25_600, page_bytes=4096, length_s=0.1, lost_pages=0, gap_s=0.0
):
    """`pages_of(i)` are the pages written in interval i; `length_s` is one for all or a list."""
    ram = Region("ram", n_pages, page_bytes)
    lengths_s = np.broadcast_to(length_s, n_intervals)
    made, now = [], 10**9
    for i in range(n_intervals):
        dirty = np.zeros(ram.n_words * 64, np.uint8)
        dirty[pages_of(i)] = 1
        words = np.packbits(dirty, bitorder="little").view(np.uint64)
        end = now + int(lengths_s[i] * 1e9)
        made.append(
            Interval(i, now, end, (ram,), {"ram": words}, PROVENANCE, lost_pages=lost_pages)
        )
        now = end + int(gap_s * 1e9)
    return made


def idle(_):
    return slice(0, 0)


def hot(n_pages):
    """The same pages over and over."""
    return lambda _: slice(0, n_pages)


def uniform(n_pages, per_interval, seed=0):
    rng = np.random.default_rng(seed)
    return lambda _: rng.integers(0, n_pages, per_interval)


def phased(busy, n_busy, n_idle):
    """`busy` for so many intervals, then nothing for so many."""
    return lambda i: busy(i) if i % (n_busy + n_idle) < n_busy else slice(0, 0)
