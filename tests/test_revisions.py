"""How two revisions are compared (benches/revisions.py)."""

import pytest
import revisions
from revisions import Times


def test_ratios_by_hand():
    """Best of all rounds, whichever it was in; medians only of runs that followed each other."""
    rounds = [
        ({"a": Times(2e-6, 4e-6)}, {"a": Times(3e-6, 8e-6)}),
        ({"a": Times(4e-6, 4e-6)}, {"a": Times(1e-6, 2e-6)}),
        ({"a": Times(4e-6, 5e-6)}, {"a": Times(4e-6, 5e-6)}),
    ]
    _, row = revisions.table(rounds)
    assert row.split() == ["a", "2", "us", "1", "us", "0.500", "1.000,", "0.500", "to", "2.000"]


def test_a_bench_that_one_of_the_two_lacks_is_told():
    head, first, second = revisions.table([({"a": Times(1, 1)}, {"b": Times(1, 1)})])
    assert head.startswith("bench")
    assert first.split(maxsplit=1) == ["a", "in one of the two only"]
    assert second.split(maxsplit=1) == ["b", "in one of the two only"]


@pytest.mark.parametrize("rounds", ["many", "0", "-1", ""])
def test_rounds_that_are_no_number_are_refused(rounds):
    with pytest.raises(SystemExit, match="ROUNDS must be a whole number from 1 on, not"):
        revisions.main("HEAD", "", rounds)
