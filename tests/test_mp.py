"""MP against iterations worked out by hand, and against stock QEMU's loop played on real pages."""

import math
from itertools import islice

import numpy as np
import pytest
from guest_program import guest_model
from hypothesis import given
from hypothesis import strategies as st
from model import to_words

from mempattern import GroupStats, Interval, Provenance, Region, errors
from mempattern.classify import MP
from mempattern.classify.passes import Curve, Point, StockRule

SLICE_S = 0.05
RAM = Region("ram", 16384)


def bitmap(*ranges, region=RAM):
    pages = np.zeros(region.n_pages, bool)
    for first, end in ranges:
        pages[first:end] = True
    return {region.name: to_words(pages)}


def observe_all(mp, iterations, region=RAM, group_pages=512):
    """The verdicts after (seconds, bitmaps)."""
    stats = GroupStats([region], group_pages)
    verdicts = []
    for seconds, words in iterations:
        stats.update(words, seconds)
        verdicts.append(mp.observe(stats, seconds))
    return verdicts


# ---- by hand


def test_the_numbers_of_two_iterations():
    """Groups of 64 pages. First 0 and 1 are dirty in whole, then 1, 2 and 3."""
    mp = MP(bandwidth_Bps=100 * 4096, downtime_limit_s=0.5)  # 50 pages may remain
    first, second = observe_all(
        mp, [(4.0, bitmap((0, 128))), (2.0, bitmap((64, 256)))], group_pages=64
    )
    assert (first.iteration, first.duration_s, first.active_groups) == (1, 4.0, 2)
    assert (first.stability, first.redirtied_share, first.volume_ratio) == (None, None, None)
    assert first.dirty_bytes == 128 * 4096
    assert first.limit_bytes == 50 * 4096
    # All memory was sent, so 128 of 16384 pages were written again, and of those that waited.
    assert first.remaining_bytes == pytest.approx((128 + 50 * (1 - 128 / 16384)) * 4096)
    assert first.memory_intensive is None
    assert (first.required_Bps, first.required_factor) == (None, None)
    assert first.probability == 0.5

    assert (second.iteration, second.active_groups) == (2, 3)
    assert second.stability == pytest.approx(1 / 4)
    assert second.redirtied_share == pytest.approx(64 / 192)
    assert second.volume_ratio == pytest.approx(192 / 128)
    assert second.remaining_bytes == pytest.approx((192 + 50 * (1 - 64 / 128)) * 4096)
    assert second.bandwidth_Bps == 100 * 4096


def test_an_idle_vm_is_not_intensive():
    (verdict,) = observe_all(MP(1e6), [(30.0, bitmap())])
    assert verdict.memory_intensive is False
    assert verdict.confidence > 0.99
    assert "not memory intensive" in verdict.sentence


def test_what_fits_the_limit_is_not_intensive():
    """A tenth of what the downtime limit carries, again and again."""
    mp = MP(bandwidth_Bps=1000 * 4096, downtime_limit_s=0.5)
    for verdict in observe_all(mp, [(16.0, bitmap((0, 50))), (0.05, bitmap((0, 50)))]):
        assert verdict.memory_intensive is False
        assert "within the" in verdict.sentence


def test_a_hot_set_above_the_limit_is_intensive():
    """8192 pages, all written again in each pass, however short; 500 may remain."""
    mp = MP(bandwidth_Bps=1000 * 4104, downtime_limit_s=0.5)
    pass_s = (8192 - 500) / 1000
    hot = bitmap((4096, 12288))
    verdicts = observe_all(mp, [(16.4, hot), (pass_s, hot), (pass_s, hot)])
    assert [verdict.memory_intensive for verdict in verdicts] == [None, True, True]
    last = verdicts[-1]
    assert (last.stability, last.redirtied_share, last.volume_ratio) == (1, 1, 1)
    assert last.required_Bps > 5 * last.bandwidth_Bps
    assert last.projected_passes is None
    assert last.projected_bytes == pytest.approx(8192 * 4096, rel=0.02)
    assert "settle at" in last.sentence


def test_a_sweep_at_half_the_speed_of_the_link_is_not_intensive():
    """Each pass dirties half of what it sends, in groups that nobody had seen before."""
    mp = MP(bandwidth_Bps=1000 * 4104, downtime_limit_s=0.1)
    verdicts = observe_all(
        mp, [(8.0, bitmap((0, 4000))), (4.0, bitmap((4000, 6000))), (2.0, bitmap((6000, 7000)))]
    )
    assert verdicts[2].memory_intensive is False
    assert verdicts[2].required_Bps == pytest.approx(0.5 * 1000 * 4104, rel=0.05)
    assert verdicts[2].volume_ratio == pytest.approx(0.5)
    # 1000 and 100 waiting, less than half of it after each pass, to the limit of 100.
    assert 3 <= verdicts[2].projected_passes <= 12


def test_a_trough_that_is_deep_enough_is_a_way_out():
    """4096 pages, hot for eight seconds and then quiet for four; the link needs two for all."""
    hot = bitmap((0, 4096))
    iterations = [(12.0, hot), (2.0, hot), (2.0, hot)]
    never, in_time = (MP(2000 * 4104, downtime_limit_s=0.1) for _ in range(2))
    for number in range(120):
        never.watch(0.1, 3000 * 4096)
        in_time.watch(0.1, 3000 * 4096 if number < 80 else 0)
    assert observe_all(never, iterations)[-1].memory_intensive is True
    verdict = observe_all(in_time, iterations)[-1]
    assert verdict.memory_intensive is False
    assert verdict.trough_bytes == pytest.approx(4 * 2000 * 4096)
    assert "quiet time" in verdict.sentence


# ---- the curve


@given(
    span=st.floats(1e6, 1e12),
    writes=st.floats(0.05, 5),
    evenness=st.sampled_from([math.inf, 4.0, 1.0, 0.25]),
)
def test_the_curve_is_found_again(span, writes, evenness):
    truth = Curve(span, writes / 10, evenness, 0.0)
    points = [Point(seconds, truth.at(seconds)) for seconds in (3.0, 10.0, 13.0)]
    found = Curve.through(points, evenness)
    assert found.misfit < 0.01
    for seconds in (0.5, 1.0, 5.0, 12.0):
        assert found.at(seconds) == pytest.approx(truth.at(seconds), rel=0.1)


@given(
    speed=st.floats(1e-4, 1e3),
    evenness=st.floats(0.05, 100) | st.just(math.inf),
    share=st.floats(1e-6, 0.999),
)
def test_the_window_of_a_volume_dirties_that_volume(speed, evenness, share):
    curve = Curve(1e9, speed, evenness, 0.0)
    assert curve.at(curve.window_s(share * 1e9)) == pytest.approx(share * 1e9, rel=1e-5)
    assert curve.window_s(1e9) == math.inf


def test_what_uniform_writes_require():
    """W pages, each dirty with probability 1 - exp(-v t / W); a share of them waits already."""
    stock = StockRule(1e6, 0.5, 0.05)
    waiting, span, speed = stock.limit_bytes / 2e6, 2e6, 3.0
    written = span * -math.expm1(-speed * 0.05) / 0.05
    required = Curve(span, speed, math.inf, 0.0).required_Bps(stock)
    assert required == pytest.approx(written * (1 - waiting) * 4104 / 4096, rel=0.01)


def test_a_span_within_the_limit_requires_nothing():
    stock = StockRule(1e6, 0.5, 0.05)
    assert Curve(4e5, 100.0, 1.0, 0.0).required_Bps(stock) == 0
    assert Curve(4e5, 100.0, 1.0, 0.0).project(stock, 9e5).passes is not None


# ---- stock QEMU, played


def migrate(slices, n_pages, sent, limit_pages, patience=500):
    """Whether it completes, and (slices, dirty pages, pages dirty in each slice) of each pass.

    `slices` gives the pages written in 50 ms each, in which `sent` pages go over the link, in the
    order of addresses from where the last one was.
    """
    waiting, dirty, position, passes, volumes = (
        np.ones(n_pages, bool),
        np.zeros(n_pages, bool),
        0,
        [],
        [],
    )
    for written in islice(slices, patience):
        order = np.flatnonzero(waiting)
        now = np.roll(order, -int(np.searchsorted(order, position)))[:sent]
        waiting[now], position = False, int(now[-1]) + 1
        dirty[written] = True
        volumes.append(len(np.unique(written)))
        if waiting.sum() < limit_pages:
            waiting |= dirty
            passes.append((len(volumes), dirty.copy(), volumes))
            dirty[:], volumes = False, []
            if waiting.sum() < limit_pages:
                return True, passes
    return False, passes


def judge(passes, sent, limit_pages, watching):
    """The verdicts after the first passes."""
    region = Region("ram", passes[0][1].size)
    bandwidth_Bps = sent * 4104 / SLICE_S
    mp = MP(bandwidth_Bps, limit_pages * 4096 / bandwidth_Bps)
    stats = GroupStats([region])
    verdicts = []
    for n_slices, dirty, volumes in passes[:8]:
        for n_pages in volumes if watching else ():
            mp.watch(SLICE_S, n_pages * 4096)
        stats.update({"ram": to_words(dirty)}, n_slices * SLICE_S)
        verdicts.append(mp.observe(stats, n_slices * SLICE_S))
    return verdicts


def writer(kind, n_pages, per_slice, seed):
    """The pages written in each slice."""
    rng, step = np.random.default_rng(seed), 0
    while True:
        if kind == "sweep":
            yield (step + np.arange(per_slice)) % n_pages
        elif kind == "uniform":
            yield rng.integers(0, n_pages, per_slice)
        else:
            hot = rng.random(per_slice) < 7 / 8
            yield np.where(
                hot, rng.integers(0, n_pages // 8, per_slice), rng.integers(0, n_pages, per_slice)
            )
        step += per_slice


kinds = st.sampled_from(["sweep", "uniform", "hot set"])


@given(
    kind=kinds, load=st.floats(0.02, 0.6), limit=st.sampled_from([0.02, 0.1, 0.3]),
    watching=st.booleans(), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_what_completes_is_never_called_intensive(kind, load, limit, watching, seed):
    n_pages, sent = 8192, 200
    slices = writer(kind, n_pages, max(1, int(load * sent)), seed)
    completed, passes = migrate(slices, n_pages, sent, limit * n_pages)
    assert completed
    verdicts = judge(passes, sent, limit * n_pages, watching)
    called = [verdict.memory_intensive for verdict in verdicts]
    assert not any(called)  # None: not known yet
    assert called[2:] == [False] * len(called[2:])


@given(
    kind=kinds, load=st.floats(2.5, 40), limit=st.sampled_from([0.01, 0.03]),
    watching=st.booleans(), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_what_does_not_complete_is_called_so_by_the_third_iteration(
    kind, load, limit, watching, seed
):
    """The limit is well below the eighth of the pages that is the hot set."""
    n_pages, sent = 8192, 200
    slices = writer(kind, n_pages, int(load * sent), seed)
    completed, passes = migrate(slices, n_pages, sent, limit * n_pages)
    assert not completed
    verdicts = judge(passes, sent, limit * n_pages, watching)
    assert False not in [verdict.memory_intensive for verdict in verdicts]
    assert all(verdict.memory_intensive for verdict in verdicts[2:])


@pytest.mark.parametrize("watching", [False, True], ids=["", "watching"])
@pytest.mark.parametrize("load", [0.5, 6])
@pytest.mark.parametrize("pattern", ["sweep", "stride", "grow", "uniform", "hotset", "zipf"])
def test_the_guests_patterns(pattern, load, watching):
    n_pages, sent = 4096, 100
    per_slice = int(load * sent)
    steps = guest_model.pages(f"pattern={pattern} pages={n_pages} seed=5", 10**9)
    slices = iter(lambda: list(islice(steps, per_slice)), None)
    completed, passes = migrate(slices, n_pages, sent, 200, patience=400)
    assert completed == (load < 1)
    verdicts = judge(passes, sent, 200, watching)
    assert verdicts[min(2, len(verdicts) - 1)].memory_intensive == (not completed)


# ---- what cannot be judged, and what must not be asked


def interval(start_s, end_s, words, lost_pages=0):
    return Interval(
        0, int(start_s * 1e9), int(end_s * 1e9), (RAM,), words, Provenance("test"), lost_pages
    )


def test_an_iteration_with_lost_pages_is_not_judged():
    mp, stats = MP(1000 * 4104), GroupStats([RAM])
    hot = bitmap((4096, 12288))
    for number, lost_pages in enumerate([0, 0, 7, 0, 0]):
        iteration = interval(8 * number, 8 * number + 8, hot, lost_pages)
        stats.update(iteration)
        verdict = mp.observe(stats, iteration)
        if number == 2:
            assert verdict.memory_intensive is None
            assert verdict.probability == 0.5
            assert "7 pages of this iteration were lost" in verdict.sentence
        if number == 3:  # like a first one
            assert verdict.stability is None
            assert verdict.memory_intensive is None
    assert verdict.memory_intensive is True


@pytest.mark.parametrize("start_s", [9.0, 7.0], ids=["gap", "overlap"])
def test_an_iteration_that_does_not_follow_is_judged_like_a_first_one(start_s):
    mp, stats = MP(1000 * 4104), GroupStats([RAM])
    for iteration in (interval(0, 8, bitmap((0, 99))), interval(start_s, 16, bitmap((0, 99)))):
        stats.update(iteration)
        verdict = mp.observe(stats, iteration)
    assert (verdict.iteration, verdict.stability, verdict.volume_ratio) == (2, None, None)


def test_updates_in_between_make_an_iteration_a_first_one():
    mp, stats = MP(1000 * 4104), GroupStats([RAM])
    stats.update(bitmap((0, 99)), 1.0)
    mp.observe(stats, 1.0)
    stats.update(bitmap((0, 99)), 1.0)
    stats.update(bitmap((0, 99)), 1.0)
    assert mp.observe(stats, 1.0).stability is None


def test_regions_may_grow_between_iterations():
    small = Region("ram", 1024, address=1 << 30)
    large = Region("ram", 1024 + 512 + 100, address=(1 << 30) - 512 * 4096)
    mp, stats = MP(1000 * 4104), GroupStats([small])
    stats.update(bitmap((0, 512), region=small), 1.0)
    mp.observe(stats, 1.0)
    stats.follow([large, Region("new", 64)])
    stats.update(bitmap((0, 1024), region=large) | {"new": to_words(np.ones(64, bool))}, 1.0)
    verdict = mp.observe(stats, 1.0)  # the groups 1, and 0, 1 and the new region's
    assert verdict.stability == pytest.approx(1 / 3)
    assert verdict.redirtied_share == pytest.approx(512 / (1024 + 64))


@pytest.mark.parametrize("wrong", [0, -1.0, math.nan, math.inf, 10**400, "1", None, True])
@pytest.mark.parametrize(
    "name",
    ["bandwidth_Bps", "downtime_limit_s", "shortest_pass_s", "evenness", "tolerance",
     "trough_tolerance", "half_life_s", "certainty", "patience"],
)  # fmt: skip
def test_parameters_out_of_range(name, wrong):
    with pytest.raises(errors.UsageError, match=name):
        MP(**{"bandwidth_Bps": 1e9, name: wrong})


def test_misuse_changes_nothing():
    mp, stats = MP(1000 * 4104), GroupStats([RAM])
    with pytest.raises(errors.UsageError, match="update the statistics"):
        mp.observe(stats, 1.0)
    stats.update(bitmap((0, 999)), 1.0)
    for wrong in (0, -1.0, math.nan, math.inf, "1", None):
        with pytest.raises(errors.UsageError, match="length"):
            mp.observe(stats, wrong)
    with pytest.raises(errors.UsageError, match="GroupStats"):
        mp.observe(bitmap(), 1.0)
    assert mp.observe(stats, 1.0).iteration == 1
    with pytest.raises(errors.UsageError, match="update the statistics"):
        mp.observe(stats, 1.0)
    for duration_s, dirty_bytes in ((0, 1), (math.nan, 1), (1.0, -1), (1.0, 0.5), (1.0, 1 << 80)):
        with pytest.raises(errors.UsageError):
            mp.watch(duration_s, dirty_bytes)
    stats.update(bitmap((0, 999)), 1.0)
    assert mp.observe(stats, 1.0).stability == 1
