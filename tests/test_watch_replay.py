"""What a replay lets join the windows late is counted all the same."""

import numpy as np

from mempattern import Interval, Provenance, Region
from mempattern.analysis.watch import Watch


def test_a_replay_observes_what_was_seen_live():
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
