"""What the detector of patterns is made of: the sample of pages, the fits, the periods."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from model import grown, make_pages, per_group, to_words

from mempattern import Region
from mempattern.classify import Kind, features, sample
from mempattern.classify.periods import find_period
from mempattern.classify.rates import fit
from mempattern.classify.series import LENGTH, Series

KINDS = ("zero", "one", "edges", "sparse", "clustered", "hot spot", "dense", "full")


# ---- the sample ----------------------------------------------------------------------------------


def check_sample(kept, intervals, region, group_pages):
    """Every row is its pages' true past, as far as it claims to know it."""
    found = kept.sampled(len(intervals))
    truth = np.array([i["ram"] for i in intervals[::-1]][:64])  # the newest first
    row_pages = found.past.shape[1]
    assert row_pages == min(group_pages, 512)
    assert found.past.size <= sample.SAMPLE_PAGES
    assert (found.hashes < max(found.limit, 1e-12)).all()
    for past, place, known in zip(found.past, found.places, found.known, strict=True):
        assert place // group_pages == (place + row_pages - 1) // group_pages
        n = min(int(known), len(truth))
        rows = np.zeros((n, row_pages), bool)
        inside = truth[:n, place : place + row_pages]
        rows[:, : inside.shape[1]] = inside
        bits = past >> np.arange(n, dtype=np.uint64)[:, None] & np.uint64(1)
        np.testing.assert_array_equal(bits.astype(bool), rows)
    return found


@given(
    n_pages=st.sampled_from([1, 100, 513, 5000, 40_000]),
    group_pages=st.sampled_from([64, 512, 1024, 4096]),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    n=st.integers(1, 90),
    growth=st.tuples(st.integers(0, 89), st.integers(0, 3), st.sampled_from([0, 1, 600, 9000])),
    seed=st.integers(0, 2**32),
)
@examples(60)
def test_a_sampled_page_has_its_true_past(*, n_pages, group_pages, kinds, n, growth, seed):
    rng = np.random.default_rng(seed)
    region, intervals = Region("ram", n_pages, address=1 << 40), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "SAMPLE_PAGES", 4096)  # so few that groups must come and go
        kept = sample.PageSample(region, group_pages)
        for index in range(n):
            if index == growth[0]:
                front = growth[1] * group_pages
                new = Region("ram", n_pages + front + growth[2], address=(1 << 40) - front * 4096)
                intervals = [grown(i, [region], [new]) for i in intervals]
                region = new
                kept.follow(region)
            pages = make_pages(kinds[index // 7 % len(kinds)], region.n_pages, rng)
            intervals.append({"ram": pages})
            dirty = per_group(pages, group_pages)
            if dirty.any():  # else the detector leaves the region out
                words = to_words(pages, garbage=rng)
                kept.observe(index, words, dirty.astype(np.uint32), int((dirty > 0).sum()))
        check_sample(kept, intervals, region, group_pages)


def test_the_sample_of_a_large_region_is_fair():
    """Of 200 000 groups, all active, it has about as many as it says, and any as likely."""
    region = Region("ram", 200_000 * 64)
    kept = sample.PageSample(region, 64)
    words, dirty = np.full(region.n_words, 1, np.uint64), np.ones(200_000, np.uint32)
    for index in range(3):
        kept.observe(index, words, dirty, 200_000)
    found = kept.sampled(3)
    assert 256 <= found.hashes.size <= 512
    assert found.hashes.size == pytest.approx(found.limit * 200_000, rel=0.25)
    assert found.places.mean() == pytest.approx(region.n_pages / 2, rel=0.15)
    assert (found.past[:, 0] == 0b111).all()
    assert not found.past[:, 1:].any()


def test_groups_that_stay_after_all_others_went_idle():
    """Their past is known from when the sample found them."""
    region = Region("ram", 200_000 * 64)
    kept, words = sample.PageSample(region, 64), np.full(region.n_words, 1, np.uint64)
    dirty = np.ones(200_000, np.uint32)
    kept.observe(0, words, dirty, 200_000)
    dirty[40:] = words[40:] = 0
    for index in range(1, 200):
        kept.observe(index, words, dirty, 40)
        assert (kept.sampled(index + 1).known <= 64).all()
    found = kept.sampled(200)
    assert sorted(found.places // 64) == list(range(40))
    assert found.limit == 1
    known = np.array([bin(int(past)).count("1") for past in found.past[:, 0]])
    assert (known >= np.minimum(found.known, 64)).all()
    assert (found.known == 64).all()


def test_rows_left_out_are_zeros():
    series, expected = Series(2), np.zeros((2000, 2), int)
    for index in (0, 3, 4, 700, 701, 1600):
        series.put(index, (index, 1))
        expected[index] = index, 1
        for end in (index + 1, index + 3):
            rows = series.last(end)
            np.testing.assert_array_equal(rows, expected[max(0, end - LENGTH) : end])


# ---- the fits ------------------------------------------------------------------------------------


def counts_of(rates, n, seed=1):
    """In how many of n intervals pages with these rates are dirty, of those that ever are."""
    counts = np.random.default_rng(seed).binomial(n, -np.expm1(-np.asarray(rates)))
    return counts[counts > 0]


def best_law(counts, n, durations_s=None):
    fits = fit(counts, np.ones(n) if durations_s is None else durations_s, counts.size)
    laws = {"one": fits.one, "two": fits.two, "power": fits.power}
    assert all(0 <= misfit < 1e3 for misfit in laws.values())
    return fits, min(laws, key=laws.__getitem__)


@pytest.mark.parametrize("n", [8, 30, 64])
@pytest.mark.parametrize("rate", [0.02, 0.3, 2.0])
def test_one_rate_fits_one_rate(n, rate):
    fits, _ = best_law(counts_of(np.full(5000, rate), n), n)
    assert fits.one < 0.01
    assert fits.one < fits.power + 1e-3


@pytest.mark.parametrize(("hot", "cold"), [(0.5, 0.01), (2.0, 0.1), (20.0, 0.3)])
def test_two_rates_are_found(hot, cold):
    counts = counts_of(np.r_[np.full(1000, hot), np.full(7000, cold)], 60)
    fits, best = best_law(counts, 60)
    assert best == "two"
    assert fits.two_rates.hot_pages == pytest.approx(1 / 8, rel=0.2)
    assert fits.two_rates.always == (hot > 3)
    if not fits.two_rates.always:
        assert fits.two_rates.ratio == pytest.approx(hot / cold, rel=0.25)


@pytest.mark.parametrize("writes", [30, 1000, 30_000])
def test_a_power_law_is_found(writes):
    ranks = np.arange(1, 20_001)
    counts = counts_of(writes / np.log(20_001) / ranks, 60)
    fits, best = best_law(counts, 60)
    assert best == "power"
    assert fits.power < 0.05


def test_one_rate_in_intervals_of_unequal_length():
    rng = np.random.default_rng(1)
    durations_s = rng.uniform(0.01, 1, 60)
    dirty = rng.random((5000, 60)) < -np.expm1(-2 * durations_s)
    counts = dirty.sum(axis=1)
    assert fit(counts[counts > 0], durations_s, 5000.0).one < 0.05


@given(
    n=st.integers(1, 64),
    counts=st.lists(st.integers(1, 64), min_size=1, max_size=50),
    distinct=st.floats(1, 1e12),
)
def test_any_counts_can_be_fitted(n, counts, distinct):
    fits = fit(np.minimum(counts, n), np.ones(n), distinct)
    assert fits.one >= 0
    assert fits.two >= 0
    assert fits.power >= 0
    assert not np.isnan([fits.one, fits.two, fits.power]).any()
    assert 0 <= fits.two_rates.hot_pages <= 1
    assert 0 <= fits.two_rates.hot_writes <= 1


# ---- order, blocks, periods ----------------------------------------------------------------------


def pasts(dirty):
    """(n_groups, n_pages) from (n_intervals, n_groups, n_pages), the newest first."""
    bits = dirty.astype(np.uint64) << np.arange(len(dirty), dtype=np.uint64)[:, None, None]
    return np.bitwise_or.reduce(bits, axis=0)


def test_order_of_a_sweep_and_of_random_writes():
    number = np.arange(4 * 512).reshape(4, 512)
    sweep = np.array([number // 50 == 40 - age for age in range(41)])
    assert features.order(pasts(sweep), 41).shared > 0.95
    assert features.order(pasts(sweep), 41).rows == 1
    random = np.random.default_rng(1).random((41, 4, 512)) < 0.03
    assert features.order(pasts(random), 41).shared < 0.05
    assert features.order(pasts(random), 41).rows < 0.3
    nothing = features.order(np.zeros((4, 512), np.uint64), 41)
    assert (nothing.n_pairs, nothing.shared, nothing.rows) == (0, 0, 0)


def test_the_stretch_that_stands_out():
    dirty = np.random.default_rng(1).random((1, 64, 512)) < 0.02
    even = features.densest_stretch(pasts(dirty), np.arange(64) * 512)
    assert even.nats < 8
    dirty[:, 20:28] |= np.random.default_rng(2).random((1, 8, 512)) < 0.3
    stretch = features.densest_stretch(pasts(dirty), np.arange(64) * 512)
    assert stretch.pages == pytest.approx(8 / 64)
    assert stretch.dirty == pytest.approx(0.314 * 8 / (0.314 * 8 + 0.02 * 56), rel=0.05)
    assert stretch.nats > 100
    shuffled = np.random.default_rng(3).permutation(64)
    assert features.densest_stretch(pasts(dirty)[shuffled], shuffled * 512) == stretch


def test_the_period_of_a_square_wave():
    """Rarely a multiple of it, where it is no whole number of intervals."""
    rng, ends, n_right = np.random.default_rng(8), np.arange(1, 81) * 0.5, 0
    for _ in range(400):
        period, duty, noise = rng.uniform((4, 0.3, 0), (20, 0.7, 0.2))
        wave = (ends / 0.5 % period < duty * period) + rng.normal(0, noise, 80)
        found = find_period(wave, ends - 0.5, ends)
        assert found is not None
        assert found.n_periods == pytest.approx(40 / found.seconds)
        n_right += abs(found.seconds / (period * 0.5) - 1) < 0.08
    assert n_right >= 396


@pytest.mark.parametrize("values", [np.ones(50), np.arange(50.0), np.arange(50.0) ** 2, [1.0, 2.0]])
def test_no_period(values):
    values = np.asarray(values)
    ends = np.arange(1.0, len(values) + 1)
    assert find_period(values, ends - 1, ends) is None


# ---- the trials ----------------------------------------------------------------------------------


def test_confidence_means_something(monkeypatch):
    """On small cases drawn as for docs/patterns.md: verdicts are right as often as they say."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benches")
    trials = importlib.import_module("patterns_choice")
    trials.MOST_STEPS, trials.N_CASES = 1e5, 300
    trials.SETS["test"] = (77, *trials.SETS["design"][1:])
    verdicts = [(d.pattern(), true) for _, true, d in trials.outcomes("test")]
    told = [(found.confidence, found.kind is true) for found, true in verdicts
            if found.kind is not Kind.UNKNOWN]  # fmt: skip
    confidence, right = np.array(told, float).T
    assert len(told) > 0.8 * len(verdicts) > 100
    assert right.mean() > confidence.mean() - 0.02
    assert right[confidence > 0.9].mean() > 0.95
    assert (1 - right[confidence <= 0.9]).mean() >= (1 - right[confidence > 0.9]).mean()
