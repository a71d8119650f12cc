"""The benches' peers find what the library finds, and both what the models say."""

import sys
from pathlib import Path

import numpy as np
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from model import (
    KINDS,
    ModelDistinct,
    ModelHistory,
    ModelStats,
    count_runs,
    make_pages,
    per_group,
    to_words,
)

from mempattern import Region

sys.path.append(str(Path(__file__).parent.parent / "benches"))
import peers
from peers import with_numpy, work
from peers.roaring import portable

TOGETHER = ("windows", "group_windows", "hot")


@pytest.fixture(scope="session")
def croaring():
    """Skips where Debian's package is not installed."""
    if problem := peers.missing().get("CRoaring"):
        pytest.skip(problem)


def expected(kind, intervals):
    """What each call of that work must find, from the pages of the intervals, by the models."""
    region = Region("ram", intervals[0].size)
    if kind in ("windows", "group_windows"):
        model = ModelDistinct([region], work.GROUP_PAGES)
        for pages in work.first(work.N_WINDOWED, intervals):
            model.update({"ram": pages}, work.DURATION_S)
        found = [[i["ram"] for i in model.windows(n)[1]] for n in work.LENGTHS]
        if kind == "windows":
            return [[np.mean([pages.sum() for pages in pages_of]) for pages_of in found]]
        counts = [[per_group(pages, work.GROUP_PAGES) for pages in pages_of] for pages_of in found]
        std = [np.std(n, axis=0, ddof=1) if len(n) > 1 else np.zeros_like(n[0]) for n in counts]
        return [(np.array([np.mean(n, axis=0) for n in counts]), np.array(std))]
    if kind == "hot":
        history = ModelHistory([region], work.HOT_OF)
        for pages in work.first(work.HOT_OF, intervals):
            history.update({"ram": pages})
        return [to_words(history.hot_pages(work.HOT_FROM)["ram"])]
    if kind in ("trace_write", "trace_read"):
        return [[to_words(pages) for pages in intervals]]
    return [turn(kind, intervals[: n + 1], region) for n in range(len(intervals))]


def turn(kind, intervals, region):
    """The same of the last of these intervals."""
    if kind == "counts":
        return per_group(intervals[-1], work.GROUP_PAGES)
    if kind == "runs":
        return count_runs(intervals[-1])
    if kind == "pages":
        return np.flatnonzero(intervals[-1])
    model = ModelStats([region], work.GROUP_PAGES, work.HALF_LIFE_S)
    for pages in intervals:
        model.update({"ram": pages}, work.DURATION_S)
    if kind == "overlap":
        return model.seen("ram")[:3]
    assert kind == "update"
    groups = model.groups(region)
    names = ("dirty", "redirtied", "fresh", "touched", "active_intervals", "streak",
             "last_active", "dirty_total")  # fmt: skip
    return (model.seen("ram"), *(groups[name] for name in names), model.write_rate(region))


@st.composite
def guests(draw, most_groups=300, most_intervals=5):
    """Pages of successive intervals, over ends of NumPy's blocks and of Roaring's containers."""
    n_pages = work.GROUP_PAGES * draw(st.integers(1, most_groups))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_intervals = draw(st.integers(1, most_intervals))
    kinds = [draw(st.sampled_from(KINDS)) for _ in range(n_intervals)]
    return [make_pages(kind, n_pages, rng) for kind in kinds]


def agrees(kind, name, prepare, intervals):
    run = prepare(work.Case(tuple(to_words(pages) for pages in intervals)))
    for number, wanted in enumerate(expected(kind, intervals)):
        assert peers.same(run(), wanted), f"{name}: call {number} of {kind}"


def guests_for(kind):
    """Where intervals are taken together, as many different ones as are."""
    return guests(most_intervals=work.HOT_OF if kind in TOGETHER else 5)


@pytest.mark.parametrize("kind", work.WORK)
@given(data=st.data())
@examples(15)
def test_all_that_can_do_it_find_what_the_model_says(kind, data):
    intervals = data.draw(guests_for(kind))
    small, with_numpy.BLOCK_WORDS = with_numpy.BLOCK_WORDS, 64
    try:
        for name, prepare in peers.doing(kind):
            if name not in (peers.LIMIT, "CRoaring"):
                agrees(kind, name, prepare, intervals)
    finally:
        with_numpy.BLOCK_WORDS = small


@pytest.mark.parametrize("kind", work.WORK)
@given(data=st.data())
@examples(15)
def test_and_so_does_croaring(croaring, kind, data):
    intervals = data.draw(guests_for(kind))
    for name, prepare in peers.doing(kind):
        if name == "CRoaring":
            agrees(kind, name, prepare, intervals)


@pytest.mark.parametrize("kind", TOGETHER)
def test_no_two_unions_of_intervals_are_taken_for_each_other(kind):
    """Sixteen unlike intervals, of which no two unions have as many pages."""
    rng = np.random.default_rng(1)
    shares = rng.uniform(0.3, 0.9, work.HOT_OF) if kind == "hot" else np.full(work.HOT_OF, 0.03)
    intervals = [rng.random(40 * work.GROUP_PAGES) < share for share in shares]
    for name, prepare in peers.doing(kind):
        if name != peers.LIMIT:
            agrees(kind, name, prepare, intervals)


def test_only_croaring_may_be_missing():
    assert peers.missing().keys() <= {"CRoaring"}


def test_a_peer_that_is_missing_is_named_and_left_out(monkeypatch):
    monkeypatch.setitem(peers.MODULES, "CRoaring", "peers.not_there")
    peers.module_of.cache_clear()
    try:
        assert "not_there" in peers.missing()["CRoaring"]
        assert "CRoaring" not in dict(peers.doing("counts"))
    finally:
        peers.module_of.cache_clear()


def test_each_work_has_ours_a_limit_and_peers_of_both_worlds():
    for kind in work.WORK:
        names = {name for name, _ in peers.doing(kind)}
        assert {peers.OURS, peers.LIMIT, "NumPy"} <= names
        assert kind.startswith("trace") or {"Numba", "plain C"} <= names


@given(intervals=guests(most_intervals=3))
def test_work_goes_round_through_the_intervals(intervals):
    case = work.Case(tuple(to_words(pages) for pages in intervals))
    for kind in ("counts", "runs", "pages"):
        once = expected(kind, intervals)
        for name, prepare in peers.doing(kind):
            if name != peers.LIMIT:
                run = prepare(case)
                assert all(peers.same(run(), wanted) for wanted in once + once), name


@given(st.lists(st.lists(st.booleans(), min_size=8, max_size=8), min_size=1, max_size=17))
def test_counters_of_sets_count(rows):
    sets = [np.array(row) for row in rows]
    for k in range(1, 20):
        assert np.array_equal(work.at_least(k, sets), np.sum(sets, axis=0) >= k)


def test_windows_are_unions_of_their_intervals():
    intervals = [frozenset([n]) for n in range(work.N_WINDOWED)]
    for length, unions in zip(work.LENGTHS, work.windows_of(intervals), strict=True):
        starts = range(0, work.N_WINDOWED - length + 1, length)
        assert unions == [frozenset(range(at, at + length)) for at in starts]


@given(intervals=guests(most_intervals=1))
def test_roaring_reads_what_we_make_for_it(intervals):
    (pages,) = intervals
    read = pytest.importorskip("pyroaring").BitMap.deserialize(portable(to_words(pages)))
    assert np.array_equal(np.array(read.to_array()), np.flatnonzero(pages))


def test_the_same_is_told_from_what_is_not():
    assert peers.same((1, lambda: np.arange(3)), [1, [0, 1, 2]])
    assert peers.same([], np.zeros(0))
    assert not peers.same((1, 2), (1, 3))
    assert not peers.same((1, 2), (1, 2, 3))
    assert not peers.same([[1.0], [2.0]], [[1.0], [2.1]])
    top = 1 << 63  # where a fraction would not tell the lowest bits
    assert not peers.same(np.array([top | 1], np.uint64), np.array([top | 3], np.uint64))


@pytest.mark.parametrize("sizes", [[], [0], [8, 16], [12]])
def test_a_case_has_whole_groups(sizes):
    with pytest.raises(ValueError, match="whole groups"):
        work.Case(tuple(np.zeros(n, np.uint64) for n in sizes))
