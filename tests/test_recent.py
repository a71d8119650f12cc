"""What is kept of the intervals that a tracer saw, held to these."""

import numpy as np
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

from mempattern import Interval, Provenance, Region
from mempattern.migration.recent import RecentIntervals

MOST = 40
REGIONS = (Region("low", 130), Region("high", 1000))


def interval(number, seed):
    rng = np.random.default_rng(seed)
    bitmaps = {
        region.name: rng.integers(0, 2**64, region.n_words, dtype=np.uint64)
        * (rng.random(region.n_words) < 0.5)
        for region in REGIONS
    }
    return Interval(
        number, number * 10 + 1, number * 10 + 11, REGIONS, bitmaps, Provenance("made"), seed % 3
    )


@examples(20)
@given(seeds=st.lists(st.integers(0, 2**32), max_size=5), before=st.sampled_from([0, MOST]))
def test_the_last_intervals_come_back_as_they_were(seeds, before):
    told = [interval(i, seed) for i, seed in enumerate([7] * before + seeds)]
    recent = RecentIntervals(MOST)
    for one in told:
        recent.add(one)
    told = told[-MOST:]
    assert len(recent) == len(told)
    for back, one in zip(recent, told, strict=True):
        assert (back.index, back.start_ns, back.end_ns) == (one.index, one.start_ns, one.end_ns)
        assert (back.regions, back.lost_pages) == (one.regions, one.lost_pages)
        for name, words in one.bitmaps.items():
            np.testing.assert_array_equal(back.bitmaps[name], words)
    if told:
        last = recent[len(told) - 1].bitmaps["high"]
        np.testing.assert_array_equal(last, told[-1].bitmaps["high"])


def test_the_last_ones_that_cover_a_time():
    """Ten nanoseconds each."""
    recent = RecentIntervals(4)
    assert recent.lately(1e-9) is None
    for number in range(9):
        recent.add(interval(number, number))
    for duration_ns, first in [(1, 8), (10, 8), (11, 7), (40, 5)]:
        lately = recent.lately(duration_ns * 1e-9)
        assert [one.index for one in lately] == list(range(first, 9))
    assert recent.lately(41e-9) is None
