"""How far QEMU's measure of the bandwidth goes above what lasts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempattern.qemu.figures import Figures
from mempattern.qemu.luck import Luck


def look(at_s, rate_Bps, measured_Bps, number=3):
    return Figures("active", at_s, number, int(at_s * rate_Bps), 10**7, bandwidth_Bps=measured_Bps)


@given(st.lists(st.floats(0.5, 2.0), min_size=60, max_size=200), st.floats(1e5, 1e9))
def test_the_largest_of_the_last_half_minute(ratios, rate_Bps):
    luck = Luck()
    for i, ratio in enumerate(ratios):
        luck.see(look(i / 10, rate_Bps, rate_Bps * ratio))
    late = ratios[max(15, len(ratios) - 301) :]
    assert luck.factor == pytest.approx(min(max([1.0, *late]), 1.25), rel=0.01)


def test_the_first_pass_does_not_count():
    """A link that lasts 10 MB/s there, for zeros are looked for, carries 100."""
    luck = Luck()
    for i in range(100):
        luck.see(look(i / 10, 1e7, 1e8, number=1))
    assert luck.factor == 1.0


def test_it_is_forgotten():
    luck = Luck()
    for i in range(500):
        luck.see(look(i / 10, 1e8, 1.2e8 if i < 50 else 1e8))
        if i == 60:
            assert luck.factor == pytest.approx(1.2, rel=0.01)
    assert luck.factor == pytest.approx(1.0, rel=0.01)
