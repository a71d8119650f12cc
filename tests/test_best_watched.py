"""What the best policy keeps of the intervals that it watches, held to these."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mempattern import Interval, Provenance, Region
from mempattern.migration.best import _WATCHED, _Kept, _Watched, _Written

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


@settings(max_examples=20)
@given(seeds=st.lists(st.integers(0, 2**32), max_size=5), before=st.sampled_from([0, _WATCHED]))
def test_the_last_intervals_come_back_as_they_were(seeds, before):
    told = [interval(i, seed) for i, seed in enumerate([7] * before + seeds)]
    watched = _Watched()
    for one in told:
        watched.add(_Kept.of(one))
    told = told[-_WATCHED:]
    assert len(watched) == len(told)
    for back, one in zip(watched, told, strict=True):
        assert (back.index, back.start_ns, back.end_ns) == (one.index, one.start_ns, one.end_ns)
        assert (back.regions, back.lost_pages) == (one.regions, one.lost_pages)
        for name, words in one.bitmaps.items():
            np.testing.assert_array_equal(back.bitmaps[name], words)
    if told:
        last = watched[len(told) - 1].bitmaps["high"]
        np.testing.assert_array_equal(last, told[-1].bitmaps["high"])


@given(seeds=st.lists(st.integers(0, 2**32), max_size=5))
def test_the_pages_written_since_a_sync(seeds):
    written, union, last = _Written(), {}, 0
    written.add(_Kept.of(interval(0, 1)))
    written.clear()
    for number, seed in enumerate(seeds):
        told = interval(number, seed)
        written.add(_Kept.of(told))
        for name, words in told.bitmaps.items():
            union[name] = union.get(name, 0) | words
        last = sum(int(np.bitwise_count(words).sum()) for words in told.bitmaps.values())
    if seeds:
        known = sum(int(np.bitwise_count(words).sum()) for words in union.values())
        assert written.most_pages == known + last
