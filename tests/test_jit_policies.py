"""Compiled policies against the same functions in Python."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempattern import errors, jit


@jit.policy
def when_stalled(passes):
    pending = passes["pending_bytes"]
    if passes.size < 3 or pending[-1] < pending[:-1].min():
        return 0.0
    return pending[-1] / passes[-1]["bandwidth_Bps"]


def new_passes(migrations):
    """From lists of what is pending after each pass; the first sync that is known is the second."""
    rows = [(i, pending) for migration in migrations for i, pending in enumerate(migration, 2)]
    passes = np.zeros(len(rows), jit.PASS)
    passes["number"] = [i for i, _ in rows]
    passes["pending_bytes"] = [pending for _, pending in rows]
    passes["bandwidth_Bps"] = 1e9
    return passes


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), min_size=1, max_size=4))
def test_a_policy_decides_as_its_python_function(migrations):
    expected = []
    for migration in migrations:
        passes = new_passes([migration])
        for n in range(1, passes.size + 1):
            expected.append(float(when_stalled.function(passes[:n])))
            assert when_stalled(passes[:n]) == expected[-1]
    limits = when_stalled.run(new_passes(migrations))
    np.testing.assert_array_equal(limits, np.array(expected), strict=True)


def test_a_policy_by_hand():
    passes = new_passes([[9e9, 3e9, 2e9, 4e9], [1e9, 1e9, 1e9]])
    assert when_stalled.run(passes).tolist() == [0, 0, 0, 4, 0, 0, 1]
    strided = np.zeros(14, jit.PASS)
    strided[::2] = passes
    strided.flags.writeable = False
    assert when_stalled.run(strided[::2]).tolist() == [0, 0, 0, 4, 0, 0, 1]
    assert strided[::2].tolist() == passes.tolist()


def test_compiled_code_may_call_a_policy():
    decide = when_stalled.compiled

    @numba.njit
    def first_decision(passes):
        for n in range(1, passes.size + 1):
            if decide(passes[:n]) > 0:
                return n - 1
        return -1

    passes = new_passes([[9, 3, 2, 4]])
    passes.flags.writeable = False
    assert first_decision(passes) == 3


def test_passes_that_make_no_sense():
    passes = new_passes([[3, 2, 1]])
    for wrong, message in [
        (passes[[0, 2]], "pass 1 has number 4 after 2"),
        (passes[[0, 1, 0, 2]], "pass 3 has number 4 after 2"),
        (passes[:0], "no pass to decide after"),
        (passes["number"], r"dtype mempattern.jit.PASS"),
        (passes.reshape(1, 3), "one dimension"),
        (list(passes), "must be an array"),
    ]:
        with pytest.raises(errors.UsageError, match=message):
            when_stalled.run(wrong)
    passes["pending_bytes"] = np.nan
    with pytest.raises(errors.UsageError, match="when_stalled returned NaN as limit 2 of 3"):
        when_stalled.run(passes)
    with pytest.raises(errors.UsageError, match="NaN as limit 0 of 1; return 0"):
        when_stalled(passes)
