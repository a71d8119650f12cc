"""The kinds of pattern, on what the guest's model writes and on cases made by hand."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from effort import examples
from guest_program import guest_model
from guest_steps import TRUTH, Phased, Steps
from hypothesis import given
from hypothesis import strategies as st
from model import KINDS, make_pages, to_words

from mempattern import GroupStats, Interval, Provenance, Region, errors
from mempattern.classify import Kind, Pattern, PatternDetector
from mempattern.microvm import MicroVM, Workload

NS = 10**9


class Watched:
    """Statistics and a detector, fed with lists of pages."""

    def __init__(self, *regions, group_pages=512):
        self.regions = regions
        self.stats = GroupStats(regions, group_pages)
        self.detector = PatternDetector(self.stats)
        self.now_ns = 1
        self.index = 0

    def observe(self, pages, duration_s=0.1, lost_pages=0):
        """`pages` by region: indices, or bool arrays."""
        bits = {region.name: np.zeros(region.n_pages, bool) for region in self.regions}
        for name, written in pages.items():
            bits[name][written] = True
        end_ns = self.now_ns + max(1, round(duration_s * NS))
        words = {name: to_words(b) for name, b in bits.items()}
        interval = Interval(
            self.index, self.now_ns, end_ns, self.regions, words, Provenance("test"), lost_pages
        )
        self.stats.follow(self.regions)
        self.stats.update(interval)
        self.detector.observe(interval)
        self.now_ns, self.index = end_ns, self.index + 1

    def run(self, sources, durations_s):
        """`sources` by region: (steps, steps a second)."""
        done, end_s = dict.fromkeys(sources, 0), 0.0
        for duration_s in durations_s:
            end_s += duration_s
            pages = {}
            for name, (steps, rate) in sources.items():
                taken = steps.take(int(end_s * rate) - done[name])
                done[name] += taken.size
                pages[name] = taken[taken >= 0]
            self.observe(pages, duration_s)
        return self


def watch(steps, rate, durations_s, n_pages=300_000):
    return Watched(Region("ram", n_pages)).run({"ram": (steps, rate)}, durations_s).detector


# ---- the guest's patterns ------------------------------------------------------------------------


@pytest.mark.parametrize("n_pages", [1, 7, 1000, 1033, 262_144])
@pytest.mark.parametrize("pattern", ["idle", "grow", *TRUTH])
def test_steps_are_the_models(pattern, n_pages):
    line = f"pattern={pattern} pages={n_pages} seed={n_pages} stride=12"
    expected = [-1 if page is None else page for page in guest_model.pages(line, 9000)]
    steps = Steps(pattern, n_pages, n_pages, stride=12)
    taken = [steps.take(n) for n in (0, 1, 99, 5000, 3900)]
    assert np.concatenate(taken).tolist() == expected


def test_phased_steps_are_the_models():
    line = "pattern=phased a=uniform b=hotset phase=37 pages=1000 seed=5"
    turns = Phased(Steps("uniform", 1000, 5), Steps("hotset", 1000, 5, stream=1), 37)
    expected = list(islice(guest_model.pages(line, 10**6), 1000))
    assert np.concatenate([turns.take(300), turns.take(700)]).tolist() == expected


@pytest.mark.parametrize(
    ("n_pages", "rate", "interval_s"),
    [(1000, 500, 0.1), (10_000, 3000, 0.25), (50_000, 20_000, 0.05), (262_144, 40_000, 0.2)],
)
@pytest.mark.parametrize("pattern", TRUTH)
def test_each_pattern_is_told(pattern, n_pages, rate, interval_s):
    durations_s = interval_s * np.random.default_rng(1).uniform(0.8, 1.2, 40)
    found = watch(Steps(pattern, n_pages, 3), rate, durations_s).pattern()
    assert found.kind is TRUTH[pattern], found.sentence
    assert found.confidence > 0.85
    assert found.period_s is None
    assert str(found.kind) in found.sentence


def test_numbers_of_a_hot_set():
    found = watch(Steps("hotset", 16_000, 1), 20_000, [0.1] * 60).pattern()
    assert found.evidence.hot_pages == pytest.approx(1 / 8, rel=0.1)
    assert found.evidence.hot_writes == pytest.approx(7 / 8 + 1 / 64, rel=0.05)
    assert found.evidence.n_intervals == 60
    assert found.evidence.duration_s == pytest.approx(6)


@pytest.mark.parametrize("pattern", TRUTH)
def test_what_is_always_dirty_is_a_hot_set(pattern):
    found = watch(Steps(pattern, 500, 3), 50_000, [0.5] * 20).pattern()
    assert found.kind is Kind.HOTSET
    assert "every interval" in found.sentence


@pytest.mark.parametrize("pattern", ["sweep", "uniform", "hotset", "zipf"])
def test_lengths_from_10_ms_to_1_s(pattern):
    durations_s = 10 ** np.random.default_rng(2).uniform(-2, 0, 60)
    found = watch(Steps(pattern, 60_000, 3), 20_000, durations_s).pattern()
    assert found.kind is TRUTH[pattern], found.sentence


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize("pattern", TRUTH)
def test_a_real_guest(pattern):
    ram = (Region("low", 3000), Region("high", 9000))
    work = Workload(pattern, 9000, first_page=1000, seed=1)
    with MicroVM(ram, work) as vm, vm.dirty_source() as source:
        stats = GroupStats(ram)
        detector = PatternDetector(stats)
        for index in range(40):
            vm.step(1500)
            # as if in a tenth of a second, however long it took here
            times = {"start_ns": index * NS // 10, "end_ns": (index + 1) * NS // 10}
            interval = replace(source.collect(), **times)
            stats.update(interval)
            detector.observe(interval)
    assert detector.pattern().kind is TRUTH[pattern], detector.pattern().sentence
    assert detector.pattern("high").kind is not Kind.UNKNOWN


# ---- too little ----------------------------------------------------------------------------------


def test_a_guests_own_few_pages_make_no_pattern():
    """A stack and some counters, beside 20 000 pages that are written at random."""
    region = Region("ram", 50_000)
    stats = GroupStats([region])
    detector = PatternDetector(stats)
    rng = np.random.default_rng(3)
    for index in range(60):
        pages = np.zeros(region.n_pages, bool)
        pages[rng.integers(1000, 21_000, 1000)] = True
        pages[:4] = True
        words = {"ram": to_words(pages)}
        interval = Interval(index, index * NS, (index + 1) * NS, (region,), words, Provenance("t"))
        stats.update(interval)
        detector.observe(interval)
    assert detector.pattern().kind is Kind.UNIFORM


def test_a_few_hot_pages_are_a_hot_set_where_there_are_few_others():
    """They are the pattern, and not a program's own: 8 of 300 pages take most of the writes."""
    watched, rng = Watched(Region("ram", 300)), np.random.default_rng(8)
    for _ in range(64):
        pages = rng.random(300) < 0.02
        pages[::40] = True
        watched.observe({"ram": pages})
    assert watched.detector.pattern().kind is Kind.HOTSET


def test_nothing_yet():
    detector = PatternDetector(GroupStats([Region("ram", 1000)]))
    for found in (detector.pattern(), detector.pattern("ram")):
        assert (found.kind, found.confidence) == (Kind.UNKNOWN, 0)
        assert "too little" in found.sentence


@pytest.mark.parametrize("pattern", ["idle", *TRUTH])
def test_few_intervals_are_unknown(pattern):
    for n in (1, 2, 3):
        found = watch(Steps(pattern, 10_000, 1), 10_000, [0.1] * n).pattern()
        assert (found.kind, found.confidence) == (Kind.UNKNOWN, 0)


def test_few_pages_are_unknown():
    assert watch(Steps("zipf", 100_000, 1), 30, [0.1] * 5).pattern().kind is Kind.UNKNOWN


def test_confidence_rises_with_what_was_seen():
    rising = [
        watch(Steps("uniform", 20_000, 1), 300, [0.1] * n).pattern().confidence
        for n in (5, 10, 20, 60)
    ]
    assert rising == sorted(rising)
    assert rising[0] < 0.5
    assert rising[-1] > 0.9


def test_idle():
    watched = Watched(Region("ram", 5000))
    for index in range(30):
        watched.observe({"ram": [index] if index % 12 == 1 else []})
    assert watched.detector.pattern().kind is Kind.IDLE
    assert watched.detector.pattern("ram").kind is Kind.IDLE


# ---- phases --------------------------------------------------------------------------------------


@pytest.mark.parametrize("patterns", [("hotset", "idle"), ("sweep", "idle"), ("sweep", "hotset")])
@pytest.mark.parametrize("phase", [15_000, 31_500])
def test_phases_and_their_period(patterns, phase):
    a, b = (Steps(p, 30_000, 1, stream=i) for i, p in enumerate(patterns))
    found = watch(Phased(a, b, phase), 50_000, [0.1] * 60).pattern()
    assert found.kind is Kind.PHASED, found.sentence
    assert found.period_s == pytest.approx(2 * phase / 50_000, rel=0.06)
    assert found.evidence.n_periods == pytest.approx(6 / found.period_s, rel=0.01)
    assert f"every {found.period_s:.3g} s" in found.sentence
    assert "times in 6 s" in found.sentence


def test_phases_longer_than_the_sample_remembers():
    turns = Phased(Steps("uniform", 3000, 1), Steps("idle", 1), 2000)
    found = watch(turns, 200, [0.1] * 500).pattern()
    assert found.kind is Kind.PHASED
    assert found.period_s == pytest.approx(20, rel=0.03)


def test_phases_in_intervals_of_different_lengths_and_with_a_gap():
    watched = Watched(Region("ram", 3000))
    rng, time_s = np.random.default_rng(1), 0.0
    for index in range(200):
        duration_s = rng.uniform(0.05, 0.2)
        if index == 90:
            watched.now_ns += 3 * NS
            time_s += 3
        busy = (time_s + duration_s / 2) % 3 < 1.2
        watched.observe({"ram": rng.integers(0, 3000, 600 if busy else 30)}, duration_s)
        time_s += duration_s
    found = watched.detector.pattern()
    assert found.kind is Kind.PHASED
    assert found.period_s == pytest.approx(3, rel=0.05)


def test_two_hot_sets_in_turns_of_equal_volume():
    watched = Watched(Region("ram", 20_000))
    rng = np.random.default_rng(1)
    for index in range(60):
        first = 0 if index % 10 < 5 else 10_000
        watched.observe({"ram": first + rng.integers(0, 1000, 800)})
    found = watched.detector.pattern()
    assert found.kind is Kind.PHASED
    assert found.period_s == pytest.approx(1, rel=0.05)


def test_less_than_two_periods_are_no_phases():
    turns = Phased(Steps("uniform", 3000, 1), Steps("idle", 1), 2000)
    found = watch(turns, 2000, [0.1] * 38).pattern()  # 1.9 periods
    assert found.kind is not Kind.PHASED
    assert found.confidence < 0.8


@pytest.mark.parametrize("seed", range(20))  # of hundreds, one has a period by chance
def test_noise_has_no_period(seed):
    rng = np.random.default_rng(seed)
    watched = Watched(Region("ram", 2000))
    for _ in range(60):
        watched.observe({"ram": rng.integers(0, 2000, rng.integers(50, 500))})
    found = watched.detector.pattern()
    assert found.kind is not Kind.PHASED


# ---- regions -------------------------------------------------------------------------------------


def test_mixed_regions():
    regions = Region("a", 20_000), Region("b", 30_000), Region("quiet", 5000)
    sources = {"a": (Steps("sweep", 20_000), 9000), "b": (Steps("zipf", 30_000, 1), 9000)}
    detector = Watched(*regions).run(sources, [0.1] * 40).detector
    whole = detector.pattern()
    assert whole.kind is Kind.MIXED
    assert dict(whole.parts) == {"a": Kind.SWEEP, "b": Kind.ZIPF}
    assert "a is sweep, b is zipf-like" in whole.sentence
    assert detector.pattern("a").kind is Kind.SWEEP
    assert detector.pattern("b").kind is Kind.ZIPF
    assert detector.pattern("quiet").kind is Kind.IDLE


def test_a_small_part_does_not_make_it_mixed():
    sources = {"a": (Steps("sweep", 20_000), 20_000), "b": (Steps("zipf", 3000, 1), 200)}
    regions = Region("a", 20_000), Region("b", 3000)
    assert Watched(*regions).run(sources, [0.1] * 40).detector.pattern().kind is Kind.SWEEP


def test_one_pattern_over_two_regions_is_one():
    regions = Region("low", 10_000), Region("high", 20_000)
    for pattern in ("sweep", "uniform", "zipf"):
        steps, watched = Steps(pattern, 30_000, 1), Watched(*regions)
        for _ in range(60):
            pages = steps.take(1500)
            watched.observe({"low": pages[pages < 10_000], "high": pages[pages >= 10_000] - 10_000})
        assert watched.detector.pattern().kind is TRUTH[pattern]


def test_a_mixture_within_one_region():
    watched = Watched(Region("ram", 60_000))
    sweep, hotset = Steps("sweep", 30_000), Steps("hotset", 30_000, 1)
    for _ in range(40):
        watched.observe({"ram": np.concatenate([sweep.take(900), 30_000 + hotset.take(900)])})
    assert watched.detector.pattern().kind is Kind.MIXED
    assert watched.detector.pattern().parts == ()


@pytest.mark.parametrize("pattern", TRUTH)
def test_regions_that_grow(pattern):
    """At both ends, and a new one; the verdict is that of a region as large from the start."""
    steps, again = Steps(pattern, 8000, 1), Steps(pattern, 8000, 1)
    address = 1 << 30
    growing, fixed = Watched(Region("heap", 8000, 4096, address)), watched_from_the_start(address)
    for index in range(40):
        if index == 10:
            growing.regions = (Region("new", 700), Region("heap", 12_000, 4096, address))
        if index == 20:
            front = 3 * 512
            lower = Region("heap", 12_000 + front, 4096, address - front * 4096)
            growing.regions = (Region("new", 900), lower)
        in_front = 3 * 512 if index >= 20 else 0
        growing.observe({"heap": in_front + steps.take(700)})
        fixed.observe({"heap": 3 * 512 + again.take(700)})
    found = growing.detector.pattern()
    assert found.kind is TRUTH[pattern]
    assert found == fixed.detector.pattern()
    assert growing.detector.pattern("heap") == fixed.detector.pattern("heap")


def watched_from_the_start(address):
    heap = Region("heap", 12_000 + 3 * 512, 4096, address - 3 * 512 * 4096)
    return Watched(Region("new", 900), heap)


def test_attached_to_statistics_that_have_seen_much():
    watched = Watched(Region("ram", 10_000))
    for _ in range(5):
        watched.stats.update({"ram": to_words(np.ones(10_000, bool))}, 0.1)
    watched.detector = PatternDetector(watched.stats)
    watched.run({"ram": (Steps("zipf", 10_000, 1), 20_000)}, [0.1] * 30)
    assert watched.detector.pattern().kind is Kind.ZIPF
    assert watched.detector.n_intervals == 30


@pytest.mark.parametrize("pattern", ["hotset", "uniform"])
def test_after_all_of_memory_was_written(pattern):
    """Not sure of anything until that is 64 intervals ago, and right once the rest is known."""
    watched, steps = Watched(Region("ram", 400_000)), Steps(pattern, 30_000, 1)
    for _ in range(3):
        watched.observe({"ram": np.arange(400_000)})
    found = None
    for _ in range(90):
        watched.observe({"ram": 200_000 + steps.take(5000)})
        found = watched.detector.pattern()
        assert found.confidence < 0.81 or found.kind in (TRUTH[pattern], Kind.HOTSET)
    assert found.kind is TRUTH[pattern]
    assert found.confidence > 0.9


def test_memory_written_a_few_times_is_no_sweep():
    watched = Watched(Region("ram", 20_000))
    for index in range(30):
        watched.observe({"ram": np.arange(20_000) if index in (2, 3, 4) else np.arange(5)})
        found = watched.detector.pattern()
        assert found.kind is not Kind.SWEEP or found.confidence < 0.6, found.sentence


def test_a_hot_set_in_groups_that_no_sample_has():
    """A hundred thousand groups are active, and half a dozen of them get most of the writes."""
    watched = Watched(Region("ram", 64 * 100_000), group_pages=64)
    for _ in range(10):
        watched.observe({"ram": np.r_[0 : 64 * 100_000 : 64, 0 : 64 * 10_000]})
    found = watched.detector.pattern()
    assert found.kind is Kind.HOTSET


# ---- what is missing, and misuse -----------------------------------------------------------------


def test_lost_pages_and_gaps_lower_the_confidence():
    def confidence(lost_pages=0, gap_s=0.0):
        watched, steps = Watched(Region("ram", 10_000)), Steps("zipf", 10_000, 1)
        for _ in range(40):
            watched.now_ns += round(gap_s * NS)
            watched.observe({"ram": steps.take(2000)}, lost_pages=lost_pages)
        found = watched.detector.pattern()
        assert found.kind is Kind.ZIPF
        return found

    whole, lossy, gapped = confidence(), confidence(lost_pages=300), confidence(gap_s=0.03)
    assert lossy.confidence < whole.confidence - 0.1
    assert gapped.confidence < whole.confidence - 0.1
    assert "missing" in lossy.sentence
    assert "missing" in gapped.sentence
    assert "missing" not in whole.sentence


def test_observe_wants_one_update_each():
    region = Region("ram", 1000)
    stats = GroupStats([region])
    detector = PatternDetector(stats)
    interval = Interval(
        0, 0, NS, (region,), {"ram": np.zeros(region.n_words, np.uint64)}, Provenance("test")
    )
    with pytest.raises(errors.UsageError, match="0 times"):
        detector.observe(interval)
    stats.update(interval)
    detector.observe(interval)
    stats.update(interval)
    stats.update(interval)
    with pytest.raises(errors.UsageError, match="2 times"):
        detector.observe(interval)


def test_wrong_regions():
    region, other = Region("ram", 1000), Region("rom", 1000)
    stats = GroupStats([region])
    detector = PatternDetector(stats)
    stats.update({"ram": np.zeros(region.n_words, np.uint64)}, 1.0)
    words = {"rom": np.zeros(region.n_words, np.uint64)}
    with pytest.raises(errors.RegionError):
        detector.observe(Interval(0, 0, NS, (other,), words, Provenance("test")))
    with pytest.raises(errors.RegionError, match="rom"):
        detector.pattern("rom")


@given(
    sizes=st.lists(st.sampled_from([1, 64, 100, 513, 3000, 33_000]), min_size=1, max_size=3),
    group_pages=st.sampled_from([64, 512, 1024]),
    rows=st.lists(
        st.tuples(
            st.sampled_from(KINDS),
            st.integers(0, 2**32),
            st.sampled_from([1e-9, 1e-3, 0.1, 1.0, 1e6]),
            st.sampled_from([0, 0, 1, 10**9]),
        ),
        min_size=1,
        max_size=30,
    ),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3),
)
@examples(100)
def test_anything_gives_a_verdict(sizes, group_pages, rows, kinds):
    regions = [Region(f"r{number}", size) for number, size in enumerate(sizes)]
    watched = Watched(*regions, group_pages=group_pages)
    for number, (kind, seed, duration_s, lost) in enumerate(rows):
        rng = np.random.default_rng(seed)
        mixed = kind if number % 4 == 0 else kinds[number % len(kinds)]
        pages = {r.name: make_pages(mixed, r.n_pages, rng) for r in regions}
        watched.observe(pages, duration_s, lost)
        watched.now_ns += lost
        for name in (None, *(r.name for r in regions)):
            found = watched.detector.pattern(name)
            assert isinstance(found, Pattern)
            assert 0 <= found.confidence <= 1
            assert (found.period_s is not None) == (found.kind is Kind.PHASED)
            assert 0 <= found.evidence.known_share <= 1
            assert found.sentence.startswith(str(found.kind))
            assert found.confidence >= 0.5 or found.kind is Kind.UNKNOWN
