"""Which pages hold only zeros, by their number or by groups, placed in a recording."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from model import per_group, to_pages, to_words
from recordings import PROVENANCE

from mempattern import Interval, Region
from mempattern.migration.recording import Recording
from mempattern.migration.zeros import spread_zeros, zeros_by_group


def two_regions(seed, n_pages=(700, 129), written=0.3):
    rng = np.random.default_rng(seed)
    regions = tuple(Region(f"slot {i}", n) for i, n in enumerate(n_pages))
    pages = [rng.random(n) < written for n in n_pages]
    words = {r.name: to_words(p, garbage=rng) for r, p in zip(regions, pages, strict=True)}
    return Recording([Interval(0, 0, 10**8, regions, words, PROVENANCE)]), pages


def as_pages(bitmaps, recording):
    return [
        to_pages(words, region.n_pages)
        for words, region in zip(bitmaps, recording.regions, strict=True)
    ]


@given(seed=st.integers(0, 2**20), n_zero=st.integers(0, 900))
def test_spread_zeros(seed, n_zero):
    recording, written = two_regions(seed)
    zero = as_pages(spread_zeros(recording, n_zero), recording)
    free = [~pages for pages in written]
    n_free = sum(int(pages.sum()) for pages in free)
    assert sum(int(pages.sum()) for pages in zero) == min(n_zero, n_free)
    share = min(n_zero / n_free, 1.0)
    for chosen, pages in zip(zero, free, strict=True):
        assert not (chosen & ~pages).any()
        # Evenly: any run of the unwritten pages has its share, but for one.
        taken = np.cumsum(chosen[pages])
        np.testing.assert_allclose(taken, share * np.arange(1, taken.size + 1), atol=1.001 + 1e-9)


def test_spread_zeros_where_all_was_written():
    recording, _ = two_regions(0, written=1.1)
    assert not any(pages.any() for pages in as_pages(spread_zeros(recording, 50), recording))


@given(
    seed=st.integers(0, 2**20),
    group_pages=st.sampled_from([64, 128, 512, 1024]),
    written=st.sampled_from([0.0, 0.1, 0.9]),
)
def test_zeros_by_group(seed, group_pages, written):
    recording, pages = two_regions(seed, written=written)
    rng = np.random.default_rng(seed)
    # What is written is not zero; of the rest some.
    nonzero = [bits | (rng.random(bits.size) < 0.4) for bits in pages]
    counts = [per_group(bits, group_pages) for bits in nonzero]
    zero = as_pages(zeros_by_group(recording, counts, group_pages), recording)
    for chosen, bits, count in zip(zero, pages, counts, strict=True):
        assert not (chosen & bits).any()
        np.testing.assert_array_equal(per_group(~chosen, group_pages), count)


def test_zeros_by_group_where_more_was_written_than_is_nonzero():
    """A page may be written with zeros: it counts as written."""
    recording, pages = two_regions(1)
    zero = as_pages(zeros_by_group(recording, [[0, 0], [0]]), recording)
    for chosen, bits in zip(zero, pages, strict=True):
        np.testing.assert_array_equal(chosen, ~bits)
