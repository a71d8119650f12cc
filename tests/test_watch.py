"""What a Watch makes of intervals."""

import numpy as np
import pytest

from mempattern import Interval, Provenance, Region
from mempattern.analysis.watch import Watch


def test_a_replay_observes_what_was_seen_live():
    """What a replay lets join the windows late is counted all the same."""
    rng = np.random.default_rng(3)
    small, grown = (Region("ram", n_pages, address=1 << 30) for n_pages in (5000, 7000))
    live, replay = (
        Watch((small,), Provenance("test"), is_replay=is_replay) for is_replay in (False, True)
    )
    for number in range(40):
        region = small if number < 21 else grown
        words = rng.integers(0, 2**64, region.n_words, dtype=np.uint64)
        start_ns = number * 1000 + 5000 * (number > 30)  # with a gap
        interval = Interval(
            number, start_ns, start_ns + 1000, (region,), {"ram": words}, Provenance("test"),
            lost_pages=int(number == 13),
        )  # fmt: skip
        live.observe(interval)
        replay.observe(interval)
        if number == 5:
            assert replay.findings().windows == live.findings().windows
    assert replay.findings().windows == live.findings().windows
    assert replay.distinct.n_intervals == live.distinct.n_intervals == 39


@pytest.mark.parametrize(
    ("n", "n_often", "hot"), [(1, 1, (2, 1, 1)), (3, 2, (2, 2, 3)), (20, 12, (2, 12, 16))]
)
def test_hot_pages_are_those_dirty_in_three_of_four_of_the_last_16_intervals(n, n_often, hot):
    """Page 0 is always dirty, 1 in just so many of the last, and 2 in one less."""
    ram = Region("ram", 64)
    watch = Watch((ram,), Provenance("test"))
    for number in range(n):
        left = n - number
        pages = 1 | 2 * (left <= n_often) | 4 * (left < n_often)
        words = np.array([pages], np.uint64)
        watch.observe(
            Interval(number, number, number + 1, (ram,), {"ram": words}, Provenance("test"))
        )
    summary = watch.summary()
    assert (summary.hot_pages, summary.hot_at_least, summary.hot_of) == hot
