"""What the library should say, computed slowly and plainly; and the input it is asked about.

Pages of a region are a bool array here, and an interval is `{region name: pages}`. Nothing is kept
incrementally: every number is counted anew from all the intervals, as its definition reads.
"""

import math

import numpy as np


def to_words(pages, garbage=None):
    """The bitmap as KVM writes it; `garbage`, a random generator, fills the bits past the end."""
    n_words = -(-pages.size // 64)
    bits = np.zeros(n_words * 64, bool)
    if garbage is not None:
        bits[:] = garbage.random(bits.size) < 0.5
    bits[: pages.size] = pages
    return np.packbits(bits, bitorder="little").view("<u8")


def to_pages(words, n_pages):
    """The inverse; bits past the end must be zero."""
    bits = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), bitorder="little").astype(bool)
    assert bits.size == -(-n_pages // 64) * 64
    assert not bits[n_pages:].any(), "bits past the last page are set"
    return bits[:n_pages]


def per_group(pages, group_pages):
    """How many of the pages are set in each group; the last group may be short."""
    n_groups = -(-pages.size // group_pages)
    group_pages = min(group_pages, pages.size)  # a group may be far larger than the region
    whole = np.zeros((n_groups, group_pages), bool)
    whole.flat[: pages.size] = pages
    return whole.sum(axis=1)


def per_line(words):
    """Set bits of each 8 words, for bitmaps too large to have an array of bools."""
    padded = np.zeros(-(-words.size // 8) * 8, np.uint64)
    padded[: words.size] = words
    return np.bitwise_count(padded).reshape(-1, 8).sum(axis=1, dtype=np.int64)


def count_runs(pages):
    """Maximal runs of set pages: how often one begins."""
    return int(pages[0]) + int((pages[1:] & ~pages[:-1]).sum())


def grown(interval, old, new):
    """The interval of the old regions, had the regions always been the new ones."""
    was = {region.name: region for region in old}
    pages = {region.name: np.zeros(region.n_pages, bool) for region in new}
    for name, region in was.items():
        now = next(r for r in new if r.name == name)
        first = (region.address - now.address) // region.page_bytes
        pages[name][first : first + region.n_pages] = interval[name]
    return pages


class ModelHistory:
    def __init__(self, regions, depth):
        self.depth = depth
        self.regions = regions
        self.intervals = []

    def update(self, interval):
        self.intervals.append(interval)

    def follow(self, regions):
        self.intervals = [grown(interval, self.regions, regions) for interval in self.intervals]
        self.regions = regions

    def __len__(self):
        return min(self.depth, len(self.intervals))

    def hot_pages(self, at_least):
        return {
            region.name: sum(
                (interval[region.name].astype(int) for interval in self.intervals[-self.depth :]),
                np.zeros(region.n_pages, int),
            )
            >= at_least
            for region in self.regions
        }

    def distinct_pages(self, last):
        intervals = self.intervals[-min(last, self.depth) :]
        return sum(
            int(np.any([interval[region.name] for interval in intervals], axis=0).sum())
            for region in self.regions
        )


class ModelStats:
    def __init__(self, regions, group_pages, half_life_s):
        self.regions = regions
        self.group_pages = group_pages
        self.half_life_s = half_life_s
        self.intervals = []
        self.durations = []

    def update(self, interval, duration_s):
        self.intervals.append(interval)
        self.durations.append(duration_s)

    def follow(self, regions):
        self.intervals = [grown(interval, self.regions, regions) for interval in self.intervals]
        self.regions = regions

    def _last(self, name):
        """The region's pages that are dirty, redirtied and fresh in the last interval."""
        all_pages = [interval[name] for interval in self.intervals]
        dirty = all_pages[-1]
        nothing = np.zeros_like(dirty)
        previous = all_pages[-2] if len(all_pages) > 1 else nothing
        before = np.any(all_pages[:-1], axis=0) if len(all_pages) > 1 else nothing
        return dirty, dirty & previous, dirty & ~before

    def seen(self, name):
        """The fields of `Seen` of one region, in their order."""
        if not self.intervals:
            return (0, 0, 0, 0, 0)
        dirty, redirtied, fresh = self._last(name)
        active = int((per_group(dirty, self.group_pages) > 0).sum())
        return int(dirty.sum()), int(redirtied.sum()), int(fresh.sum()), active, count_runs(dirty)

    def seen_in_all(self):
        return tuple(
            sum(numbers) for numbers in zip(*(self.seen(r.name) for r in self.regions), strict=True)
        )

    def dirty_by_interval(self, region):
        """An array of intervals by groups."""
        n_groups = -(-region.n_pages // self.group_pages)
        counts = [per_group(i[region.name], self.group_pages) for i in self.intervals]
        return np.array(counts, np.int64).reshape(len(counts), n_groups)

    def groups(self, region):
        """The arrays of `Groups` by name, without write_rate."""
        counts = self.dirty_by_interval(region)
        n_intervals, n_groups = counts.shape
        nothing = np.zeros(n_groups, np.int64)
        if n_intervals == 0:
            names = ("dirty", "redirtied", "fresh", "touched", "active_intervals", "streak")
            return dict.fromkeys((*names, "dirty_total"), nothing) | {"last_active": nothing - 1}
        parts = [per_group(pages, self.group_pages) for pages in self._last(region.name)]
        ever = np.any([interval[region.name] for interval in self.intervals], axis=0)
        streak, last_active = nothing.copy(), nothing - 1
        for group in range(n_groups):
            active_at = [t for t in range(n_intervals) if counts[t, group] > 0]
            last_active[group] = active_at[-1] if active_at else -1
            now = n_intervals - 1
            while now >= 0 and counts[now, group] > 0:
                streak[group] += 1
                now -= 1
        return {
            "dirty": parts[0],
            "redirtied": parts[1],
            "fresh": parts[2],
            "touched": per_group(ever, self.group_pages),
            "active_intervals": (counts > 0).sum(axis=0),
            "streak": streak,
            "last_active": last_active,
            "dirty_total": counts.sum(axis=0),
        }

    def write_rate(self, region):
        """The mean of the intervals' rates, an interval weighing the integral of
        2**(-age / half_life) over its time.
        """
        counts = self.dirty_by_interval(region)
        weights = []
        for number, duration in enumerate(self.durations):
            age = math.fsum(self.durations[number + 1 :])  # of the interval's end
            decayed_within = -math.expm1(-duration / self.half_life_s * math.log(2))
            weights.append(2.0 ** (-age / self.half_life_s) * decayed_within)
        if not weights:
            return np.zeros(counts.shape[1])
        rates = counts / np.array(self.durations)[:, None]
        return np.array(weights) @ rates / math.fsum(weights)


class ModelDistinct:
    LENGTHS = sorted([2**j for j in range(21)] + [3 * 2**j for j in range(19)])

    def __init__(self, regions, group_pages):
        self.regions = regions
        self.group_pages = group_pages
        self.runs = [[]]  # of (interval, duration_s), from break to break

    def update(self, interval, duration_s):
        self.runs[-1].append((interval, duration_s))

    def break_off(self):
        self.runs.append([])

    def follow(self, regions):
        self.runs = [[(grown(i, self.regions, regions), s) for i, s in run] for run in self.runs]
        self.regions = regions

    def lengths(self):
        most = max(len(run) for run in self.runs)
        return [n for n in self.LENGTHS if n <= most]

    def windows(self, n):
        """Durations of the windows of n intervals, and of each one the pages by region."""
        parts = [run[at : at + n] for run in self.runs for at in range(0, len(run) - n + 1, n)]
        pages = [
            {r.name: np.any([i[r.name] for i, _ in part], axis=0) for r in self.regions}
            for part in parts
        ]
        return [math.fsum(s for _, s in part) for part in parts], pages


# ---- input of every kind -----------------------------------------------------------------------

KINDS = ("zero", "one", "edges", "sparse", "clustered", "hot spot", "dense", "full")


def make_pages(kind, n_pages, rng):
    """Pages of a region as a workload of that kind would dirty them."""
    pages = np.zeros(n_pages, bool)
    if kind == "one":
        pages[rng.integers(n_pages)] = True
    elif kind == "edges":  # on both sides of words, lines, groups, blocks, and the region
        step = rng.choice([64, 512, 4096, 32768])
        pages[::step] = True
        pages[step - 1 :: step] = True
        pages[-1] = True
    elif kind == "sparse":
        pages[:] = rng.random(n_pages) < 1e-3
    elif kind == "clustered":
        for _ in range(rng.integers(1, 20)):
            start = rng.integers(n_pages)
            pages[start : start + rng.integers(1, 1500)] = True
    elif kind == "hot spot":  # the same tenth again and again, so that streaks grow
        start = n_pages // 3
        pages[start : start + n_pages // 10 + 1] = rng.random(n_pages // 10 + 1) < 0.8
    elif kind == "dense":
        pages[:] = rng.random(n_pages) < 0.5
    elif kind == "full":
        pages[:] = True
    else:
        assert kind == "zero"
    return pages


EDGE_SIZES = (1, 63, 64, 65, 511, 512, 513, 575, 1024, 4095, 4097, 8193, 12345, 32767, 32768, 32769)
GROUP_ARRAYS = (
    "dirty",
    "redirtied",
    "fresh",
    "touched",
    "active_intervals",
    "streak",
    "last_active",
    "dirty_total",
)
GROUP_PAGES = (64, 128, 192, 320, 448, 512, 576, 1024, 1536, 4096, 1 << 20)
