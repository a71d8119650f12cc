"""A trace as guest time that goes on after its end: where it loops, its period, its faults."""

import dataclasses
import threading
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from model import grown, to_pages, to_words
from recordings import PROVENANCE, hot, idle, intervals, record, square_wave, sweep, uniform
from traces import grow

from mempattern import Interval, Region, errors
from mempattern.migration.recording import Recording
from mempattern.migration.replayed import ReplayedMemory

PAGES = 20_000


# ---- what repeats itself -------------------------------------------------------------------------


@pytest.mark.parametrize("intervals_each", [10, 15, 20, 25, 40, 50, 60])
def test_a_sweep_repeats_itself(intervals_each):
    recording = record(sweep(PAGES, 100, PAGES // intervals_each))
    period_s = intervals_each * 0.1
    assert recording.period_s == pytest.approx(period_s)
    assert recording.duration_s == pytest.approx(10.0)
    # Every alike moment lies whole periods before the end, or an interval beside that.
    turns = (recording.duration_s - recording.alike_s) / period_s
    np.testing.assert_allclose(turns, np.round(turns), atol=0.11 / period_s)
    loop_turns = (recording.duration_s - recording.loop_s) / period_s
    assert loop_turns == pytest.approx(round(loop_turns))
    assert loop_turns > 0.99


@pytest.mark.parametrize("half_period", [10, 15, 20, 25])
@pytest.mark.parametrize("n_intervals", [100, 107])
@pytest.mark.parametrize("noise", [0, 100])
def test_phases_repeat_themselves(half_period, n_intervals, noise):
    rows = square_wave(PAGES, n_intervals, half_period, 3000)
    rows |= uniform(PAGES, n_intervals, noise, seed=half_period)
    recording = record(rows)
    period_s = 2 * half_period * 0.1
    assert recording.period_s == pytest.approx(period_s, rel=0.05)
    turns = (recording.duration_s - recording.loop_s) / period_s
    assert turns == pytest.approx(round(turns), abs=0.11 / period_s)


@pytest.mark.parametrize("jitter", [0.1, 0.5])
def test_intervals_of_unlike_lengths_hide_no_period(jitter):
    """2 s a sweep, by the clock and not by the intervals."""
    rng = np.random.default_rng(5)
    durations = 0.1 * (1 + jitter * rng.uniform(-1, 1, 100))
    ends = np.concatenate(([0.0], np.cumsum(durations)))
    rows = idle(PAGES, 100)
    for row, start, end in zip(rows, ends, ends[1:], strict=False):
        row[np.arange(int(start * PAGES / 2), int(end * PAGES / 2)) % PAGES] = True
    recording = record(rows, durations.tolist())
    assert recording.period_s == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("writes", [500, 1500, 5000, 20_000])
def test_random_writes_have_no_period_and_a_long_loop(writes):
    """What is written again and again must not be what was written in a short loop."""
    for seed in range(5):
        recording = record(uniform(PAGES, 100, writes, seed))
        assert recording.period_s is None
        assert recording.duration_s - recording.loop_s > 0.5 * recording.duration_s
        assert len(recording.alike_s) >= 5


@pytest.mark.parametrize("rows", [idle(1000, 100), hot(1000, 100, 50)])
def test_what_never_changes_has_no_period(rows):
    recording = record(rows)
    assert recording.period_s is None
    assert recording.loop_s == pytest.approx(2.5)
    # But for its first and last quarter.
    np.testing.assert_allclose(recording.alike_s, np.arange(25, 76) / 10)
    # After 6.2 s half of these 7.5 s are still to come.
    np.testing.assert_allclose(recording.starts_s, np.arange(25, 63) / 10)


@given(st.integers(0, 2**20), st.integers(1, 60), st.floats(0.01, 1.0))
@example(0, 8, 0.125)  # alike at a single moment, too near to the end for a period
def test_what_holds_of_any_recording(seed, n_intervals, usual_s):
    rng = np.random.default_rng(seed)
    rows = rng.random((n_intervals, 300)) < rng.choice([0, 0.01, 0.3, 1], (n_intervals, 1))
    durations = usual_s * rng.choice([0.5, 1, 1, 3], n_intervals)
    recording = record(rows, durations.tolist())
    edges = recording.edges_s
    assert len(recording) == n_intervals
    assert edges.shape == (n_intervals + 1,)
    assert edges[0] == 0
    np.testing.assert_allclose(np.diff(edges), durations, atol=1e-8)
    assert set(recording.alike_s) <= set(edges)
    assert (np.diff(recording.alike_s) > 0).all()
    assert recording.loop_s in recording.alike_s
    assert recording.alike_s[-1] <= recording.duration_s * 3 / 4 + 1e-6
    if recording.period_s is not None:
        assert 0.5 <= recording.period_s <= recording.duration_s
    np.testing.assert_array_equal(to_pages(recording.ever[0], 300), rows.any(axis=0))


@pytest.mark.parametrize(("n_intervals", "duration_s"), [(1, 0.1), (1, 60.0), (5, 0.1), (2, 0.25)])
def test_too_short_to_tell(n_intervals, duration_s):
    recording = record(hot(100, n_intervals, 10), duration_s)
    assert recording.alike_s.tolist() == [0.0]
    assert recording.loop_s == 0
    assert recording.period_s is None


def test_one_interval_goes_on_and_on():
    memory = ReplayedMemory(record(hot(100, 1, 10)), [0.0])
    memory.start(0)
    memory.send(float("inf"), 1.0, 1.0)
    for _ in range(3):
        memory.run(0.1)
        assert memory.sync() == 10
        memory.send(float("inf"), 1.0, 1.0)


# ---- the loop keeps the phase --------------------------------------------------------------------


def continued(recording, n_intervals):
    """Indices of the intervals that follow on its end."""
    at = recording.edges_s.tolist().index(recording.loop_s)
    return [at + number % (len(recording) - at) for number in range(n_intervals)]


@pytest.mark.parametrize("intervals_each", [10, 20, 30, 40])
@pytest.mark.parametrize("n_intervals", [100, 101, 109])
def test_a_sweep_goes_on_after_the_end(intervals_each, n_intervals):
    n_swept = PAGES // intervals_each * intervals_each
    truth = sweep(PAGES, n_intervals + 50, PAGES // intervals_each, n_swept)
    recording = record(truth[:n_intervals])
    np.testing.assert_array_equal(truth[continued(recording, 50)], truth[n_intervals:])


@pytest.mark.parametrize("half_period", [10, 13, 20])
def test_phases_go_on_after_the_end(half_period):
    """Wherever in a phase the recording ends; at some ends the loop comes a little early."""
    wrong = []
    for n_intervals in range(100, 120):
        truth = square_wave(1000, n_intervals + 50, half_period, 300)
        recording = record(truth[:n_intervals])
        differ = (truth[continued(recording, 50)] != truth[n_intervals:]).any(axis=1)
        wrong.append(differ.mean())
    assert np.median(wrong) <= 0.05
    assert np.mean(wrong) < 0.15


def test_a_replay_goes_through_the_phases_in_their_order():
    """1 s hot, 1 s idle; it ends with an idle one, and so do the moments like its end."""
    memory_of = record(square_wave(PAGES, 100, 10, 3000))
    for start_s in memory_of.alike_s:
        memory = ReplayedMemory(memory_of, [float(start_s)], chunk_pages=0)
        memory.start(0)
        memory.send(float("inf"), 1.0, 1.0)
        seen = []
        for _ in range(200):
            memory.run(0.1)
            seen.append(memory.sync() == 3000)
            memory.send(float("inf"), 1.0, 1.0)
        assert seen == ([True] * 10 + [False] * 10) * 10


# ---- what limits the trust in it -----------------------------------------------------------------


def test_a_good_recording_has_no_faults():
    assert record(hot(100, 20, 10)).faults() == []


@pytest.mark.parametrize(
    ("recording", "fault"),
    [
        (record(idle(64, 19)), "only 19 intervals were observed; observe for longer"),
        (record(idle(64, 30), lost_pages=2), "at least 60 pages are missing from the trace"),
        (record(idle(64, 30), gaps_s=0.01), "0.3 s between the intervals were not observed"),
        (
            record(idle(64, 30), [0.1] * 15 + [1.01] + [0.1] * 14),
            "intervals take 0.1 s, but one took 1 s",
        ),
    ],
)
def test_faults(recording, fault):
    (found,) = recording.faults()
    assert found.startswith(fault)
    assert "\n" not in found


def test_small_gaps_and_a_somewhat_longer_interval_are_none():
    durations = [0.1] * 15 + [0.9] + [0.1] * 14
    assert record(idle(64, 30), durations, gaps_s=0.001).faults() == []


def test_time_that_nobody_observed_is_left_out():
    recording = record(idle(64, 30), gaps_s=[0, *[0.5] * 29])
    assert recording.duration_s == pytest.approx(3.0)
    np.testing.assert_allclose(recording.edges_s, np.arange(31) / 10)


def test_several_faults_are_several_sentences():
    recording = record(idle(64, 3), gaps_s=1.0, lost_pages=1)
    assert len(recording.faults()) == 3


# ---- regions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_regions_that_grow(seed):
    """What it says in the newest regions is what it would, had they always been these."""
    rng = np.random.default_rng(seed)
    regions = (Region("heap", 300, address=1 << 40), Region("stack", 1000, address=1 << 41))
    steps, made = [], []
    for number in range(8):
        pages = {region.name: rng.random(region.n_pages) < 0.3 for region in regions}
        words = {name: to_words(bits) for name, bits in pages.items()}
        start = number * 10**8
        made.append(Interval(number, start, start + 10**8, regions, words, PROVENANCE))
        steps.append((regions, pages))
        regions = grow(regions, rng)
    last = steps[-1][0]
    recording = Recording(made)
    assert recording.regions == last
    assert recording.n_pages == sum(region.n_pages for region in last)
    truth = [grown(pages, was, last) for was, pages in steps]
    for number, region in enumerate(last):
        ever = np.any([pages[region.name] for pages in truth], axis=0)
        np.testing.assert_array_equal(to_pages(recording.ever[number], region.n_pages), ever)
    memory = ReplayedMemory(recording, [0.0], chunk_pages=0)
    memory.start(0)
    memory.send(float("inf"), 1.0, 1.0)
    for pages in truth:
        memory.run(0.1)
        assert memory.sync() == sum(bits.sum() for bits in pages.values())
        memory.send(float("inf"), 1.0, 1.0)


def test_no_interval():
    with pytest.raises(errors.UsageError, match="the trace has no interval; record for"):
        Recording([])


def test_pages_of_two_sizes():
    (interval,) = intervals(idle(64, 1))
    mixed = (Region("ram", 64), Region("huge", 64, 2 << 20))
    words = {"ram": interval.bitmaps["ram"], "huge": np.zeros(1, np.uint64)}
    with pytest.raises(errors.UsageError, match=r"pages of \[4096, 2097152\] bytes"):
        Recording([dataclasses.replace(interval, regions=mixed, bitmaps=words)])


def test_regions_that_shrink():
    first, second = intervals(idle(128, 2))
    small = (Region("ram", 64),)
    shrunk = dataclasses.replace(second, regions=small, bitmaps={"ram": np.zeros(1, np.uint64)})
    with pytest.raises(errors.RegionError, match="may only grow"):
        Recording([first, shrunk])


def test_bits_past_the_end_of_a_region_that_grew_later():
    """They are no pages, and do not become some in the larger region."""
    small, large = (Region("ram", 70),), (Region("ram", 200),)
    first, second = {"ram": np.full(2, ~np.uint64(0))}, {"ram": np.zeros(4, np.uint64)}
    recording = Recording([
        Interval(0, 0, 10**8, small, first, PROVENANCE),
        Interval(1, 10**8, 2 * 10**8, large, second, PROVENANCE),
    ])  # fmt: skip
    assert recording.touched_pages == 70
    np.testing.assert_array_equal(to_pages(recording.ever[0], 200), np.arange(200) < 70)


@pytest.mark.parametrize("order", [[1, 0], [0, 0], [0, 2, 1]])
def test_intervals_out_of_order(order):
    made = intervals(idle(64, 3))
    with pytest.raises(errors.UsageError, match=r"begins before interval \d ends"):
        Recording([made[number] for number in order])


def test_a_bitmap_that_another_thread_writes_to():
    """It is refused if it is not what it was a moment ago, and never written past the room."""
    region = Region("ram", 1 << 20)
    words = np.zeros(region.n_words, np.uint64)
    is_enough = threading.Event()

    def change():
        while not is_enough.is_set():
            words.fill(0)
            words.fill(2**64 - 1)

    thread = threading.Thread(target=change)
    thread.start()
    changing = [Interval(i, i, i + 1, (region,), {"ram": words}, PROVENANCE) for i in range(9)]
    try:
        for _ in range(50):
            with suppress(errors.BitmapError):
                Recording(changing)
    finally:
        is_enough.set()
        thread.join()
