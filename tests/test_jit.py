"""Compiled reducers against NumPy, the model, and the same functions in Python."""

import re
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from model import EDGE_SIZES, KINDS, ModelStats, make_pages, per_group, to_words

import mempattern
from mempattern import Interval, Provenance, Region, errors, jit

SIZES = st.sampled_from(EDGE_SIZES) | st.integers(1, 3000)
RAM = Region("ram", 1000)
DOCUMENT = Path(__file__).parent.parent / "docs/jit.md"


# ---- compiled once, for all tests --------------------------------------------------------------


@jit.group_reducer(np.uint32)
def dirty_blocks(words, n_pages):
    """Blocks of 16 pages with a dirty one."""
    n = 0
    for block in words.view(np.uint16):
        n += block != 0
    return n


@jit.group_reducer("u8")
def shape(words, n_pages):
    return words.size * 100_000 + n_pages


@jit.group_reducer("i8", state=[("previous", "u8", 8), ("total", "i8"), ("streak", "i4")])
def redirtied(words, n_pages, state):
    """For groups of at most 512 pages."""
    dirty = both = 0
    for i in range(words.size):
        dirty += jit.popcount(words[i])
        both += jit.popcount(words[i] & state["previous"][i])
        state["previous"][i] = words[i]
    state["total"] += dirty
    state["streak"] = state["streak"] + 1 if dirty else 0
    return both


@jit.group_reducer("f4")
def densest_word(words, n_pages):
    """By the C core, from inside compiled code; so large a group that any fits in 64 counts."""
    counts = np.zeros(64, np.uint32)
    jit.group_counts(words, n_pages, 64, counts)
    return counts.max() / 64


@jit.group_reducer("u1", state=[("seen", "i8")])
def ninth_word(words, n_pages, state):
    state["seen"] += 1
    return words[8] & np.uint64(0xFF)


# ---- reducers ----------------------------------------------------------------------------------


def new_regions(sizes):
    return tuple(Region(f"slot {n}", size, address=(n + 1) << 40) for n, size in enumerate(sizes))


@given(
    sizes=st.lists(SIZES, min_size=1, max_size=3),
    group_pages=st.sampled_from([64, 128, 320, 512, 4096]),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3),
    seed=st.integers(0, 2**32),
)
@example([65, 512, 8193], 512, ["full", "zero"], 0)
def test_reducers_equal_the_model(sizes, group_pages, kinds, seed):
    rng = np.random.default_rng(seed)
    regions = new_regions(sizes)
    blocks, shapes = (each.over(regions, group_pages) for each in (dirty_blocks, shape))
    densest = densest_word.over(regions, group_pages)
    for kind in kinds:
        pages = {r.name: make_pages(kind, r.n_pages, rng) for r in regions}
        words = {name: to_words(bits, garbage=rng) for name, bits in pages.items()}
        before = {name: array.copy() for name, array in words.items()}
        answers = blocks(words), shapes(words), densest(words)
        assert [list(answer) for answer in answers] == [[r.name for r in regions]] * 3
        for r in regions:
            np.testing.assert_array_equal(words[r.name], before[r.name])
            dirty, sizes_seen, share = (answer[r.name] for answer in answers)
            in_blocks = per_group(pages[r.name], 16) > 0
            expected = per_group(in_blocks, group_pages // 16).astype(np.uint32)
            np.testing.assert_array_equal(dirty, expected, strict=True)
            n_pages = per_group(np.ones(r.n_pages, bool), group_pages)
            np.testing.assert_array_equal(sizes_seen, -(-n_pages // 64) * 100_000 + n_pages)
            in_words = per_group(pages[r.name], 64)
            by_group = np.maximum.reduceat(in_words, np.arange(0, in_words.size, group_pages // 64))
            np.testing.assert_array_equal(share, np.float32(by_group) / 64, strict=True)


def test_blocks_by_hand():
    """1000 pages are 63 blocks, of which the last has eight pages."""
    words = np.zeros(16, np.uint64)
    words[0] = 1 << 15 | 1 << 16  # on both sides of an edge
    words[7] = 1 << 63
    words[15] = 1 << 40  # page 1000: past the end
    blocks = dirty_blocks.over([RAM])
    assert blocks({"ram": words})["ram"].tolist() == [3, 0]
    words[15] |= 1 << 39
    assert blocks({"ram": words.tobytes()})["ram"].tolist() == [3, 1]
    interval = Interval(0, 0, 1, (RAM,), {"ram": words}, Provenance("test"))
    assert blocks(interval)["ram"].tolist() == [3, 1]
    assert (blocks.regions, blocks.group_pages, blocks.state) == ((RAM,), 512, {})


def test_the_python_function_is_kept():
    words = np.array([1, 1 << 63], np.uint64)
    assert dirty_blocks.function(words, 128) == 2
    assert dirty_blocks.function.__doc__ == "Blocks of 16 pages with a dirty one."
    assert (dirty_blocks.result, dirty_blocks.state) == (np.uint32, None)


def test_each_reduction_has_a_state_of_its_own():
    one, other = redirtied.over([RAM]), redirtied.over([RAM])
    full = {"ram": np.full(16, 2**64 - 1, np.uint64)}
    assert one(full)["ram"].tolist() == [0, 0]
    assert one(full)["ram"].tolist() == [512, 488]
    assert other(full)["ram"].tolist() == [0, 0]
    assert one.state["ram"]["total"].tolist() == [1024, 976]
    one.state["ram"]["previous"] = 1
    assert one(full)["ram"].tolist() == [8, 8]
    with pytest.raises(TypeError):
        one.state["ram"] = np.zeros(1, redirtied.state)


class ReductionMachine(RuleBasedStateMachine):
    """A reducer with a state, over regions that grow, against the model of the statistics."""

    @initialize(
        sizes=st.lists(SIZES, min_size=1, max_size=3), group_pages=st.sampled_from([64, 192, 512])
    )
    def begin(self, sizes, group_pages):
        self.regions = new_regions(sizes)
        self.reduction = redirtied.over(self.regions, group_pages)
        self.model = ModelStats(self.regions, group_pages, 1.0)
        self.answer = None

    @rule(kind=st.sampled_from(KINDS), seed=st.integers(0, 2**32))
    def reduce(self, kind, seed):
        rng = np.random.default_rng(seed)
        pages = {r.name: make_pages(kind, r.n_pages, rng) for r in self.regions}
        words = {name: to_words(bits, garbage=rng) for name, bits in pages.items()}
        self.answer = self.reduction(words)
        self.model.update(pages, 1.0)

    @rule(
        growths=st.lists(st.tuples(st.integers(0, 2), SIZES), min_size=4, max_size=4),
        new=st.lists(SIZES, max_size=1),
        order=st.randoms(use_true_random=False),
    )
    def follow(self, growths, new, order):
        regions = [
            replace(
                region,
                address=region.address - groups * self.reduction.group_pages * region.page_bytes,
                n_pages=region.n_pages + groups * self.reduction.group_pages + pages,
            )
            for region, (groups, pages) in zip(self.regions, growths, strict=False)
        ]
        if len(regions) < 4:
            regions += [replace(r, name=f"slot {len(regions)}") for r in new_regions(new)]
        order.shuffle(regions)
        self.regions = tuple(regions)
        self.reduction.follow(iter(regions))
        self.model.follow(self.regions)
        self.answer = None

    @rule(how=st.sampled_from(["gone", "shrunk", "size", "dtype", "missing"]))
    def what_is_refused_changes_nothing(self, how):
        words = {r.name: np.full(r.n_words, 2**64 - 1, np.uint64) for r in self.regions}
        last = self.regions[-1]
        call, argument = self.reduction, words
        if how == "gone":
            call, argument = self.reduction.follow, [replace(last, name="another")]
        elif how == "shrunk":
            moved = replace(last, address=last.address + last.page_bytes)
            call, argument = self.reduction.follow, [*self.regions[:-1], moved]
        elif how == "size":
            words[last.name] = np.zeros(last.n_words + 1, np.uint64)
        elif how == "dtype":
            words[last.name] = np.zeros(last.n_words, np.int64)
        else:
            del words[last.name]
        with pytest.raises(errors.MempatternError):
            call(argument)

    @invariant()
    def all_is_as_the_model_says(self):
        assert self.reduction.regions == self.regions
        assert list(self.reduction.state) == [r.name for r in self.regions]
        for region in self.regions:
            state, expected = self.reduction.state[region.name], self.model.groups(region)
            np.testing.assert_array_equal(state["total"], expected["dirty_total"])
            np.testing.assert_array_equal(state["streak"], expected["streak"])
            if self.answer:
                np.testing.assert_array_equal(self.answer[region.name], expected["redirtied"])


def test_a_reduction_under_any_order_of_calls():
    run_state_machine_as_test(ReductionMachine, settings=settings(stateful_step_count=20))


def test_an_index_past_a_short_group_is_an_error():
    """The groups before it have the interval in their state; and the reduction goes on."""
    reduction = ninth_word.over([Region("ram", 640 + 64)], 640)
    for times in (1, 2):
        with pytest.raises(IndexError):
            reduction({"ram": np.full(11, 2**64 - 1, np.uint64)})
        assert reduction.state["ram"]["seen"].tolist() == [times, times]
    whole = ninth_word.over([Region("ram", 640)], 640)
    assert whole({"ram": np.full(10, 2**64 - 1, np.uint64)})["ram"].tolist() == [255]


def test_an_index_past_an_array_of_the_state_is_an_error():
    with pytest.raises(IndexError):
        redirtied.over([RAM], 1024)({"ram": np.ones(16, np.uint64)})


def test_one_thread_at_a_time():
    reduction = redirtied.over([RAM])

    class Intruder(dict):
        """Its lookup comes in the middle of the call, as another thread would."""

        def __getitem__(self, name):
            for call in (reduction.__call__, lambda _: reduction.follow([RAM, Region("vga", 1)])):
                with pytest.raises(errors.BusyError, match="this GroupReduction is in use"):
                    call({"ram": bytes(128)})
            return super().__getitem__(name)

    assert reduction(Intruder(ram=b"\xff" * 128))["ram"].tolist() == [0, 0]
    assert reduction.state["ram"]["total"].tolist() == [512, 488]
    assert reduction.regions == (RAM,)


def test_other_regions_are_refused():
    blocks = dirty_blocks.over([RAM])
    interval = Interval(0, 0, 1, (Region("vga", 1),), {"vga": np.zeros(1, "u8")}, Provenance("x"))
    with pytest.raises(errors.RegionError, match="other regions"):
        blocks(interval)
    with pytest.raises(errors.RegionError, match="multiple of 64"):
        dirty_blocks.over([RAM], 100)
    with pytest.raises(errors.RegionError, match="no region was given"):
        dirty_blocks.over([])


# ---- what compiled code may call ---------------------------------------------------------------


@numba.njit
def counts_of(words, n_pages, group_pages, out):
    jit.group_counts(words, n_pages, group_pages, out)


@pytest.mark.usefixtures("kernel")
@given(n_pages=SIZES, group_pages=st.sampled_from([64, 192, 512, 1 << 20]), seed=st.integers(0, 9))
def test_group_counts_equal_the_plain_call(n_pages, group_pages, seed):
    rng = np.random.default_rng(seed)
    words = to_words(rng.random(n_pages) < 0.5, garbage=rng)
    expected = mempattern.group_counts(words, n_pages, group_pages)
    for call in (counts_of, jit.group_counts):
        out = np.full(expected.size, 7, np.uint32)
        call(words, n_pages, group_pages, out)
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    ("n_pages", "group_pages", "n_out", "message"),
    [
        (0, 64, 9, "n_pages must be at least 1"),
        (-1, 64, 9, "n_pages must be at least 1"),
        (129, 64, 9, "at most the bits of the words"),
        (2**62, 64, 9, "at most the bits of the words"),
        (128, 0, 9, "positive multiple of 64"),
        (128, -64, 9, "positive multiple of 64"),
        (128, 100, 9, "positive multiple of 64"),
        (128, 2**32, 9, "positive multiple of 64"),
        (128, 64, 1, "an entry for each group"),
        (65, 64, 1, "an entry for each group"),
    ],
)
def test_group_counts_refuses_what_does_not_fit(n_pages, group_pages, n_out, message):
    out = np.full(n_out, 7, np.uint32)
    with pytest.raises(errors.UsageError, match=message):
        counts_of(np.zeros(2, np.uint64), n_pages, group_pages, out)
    assert (out == 7).all()


def test_group_counts_does_not_compile_for_what_it_must_not_write_to():
    out = np.zeros(2, np.uint32)
    out.flags.writeable = False
    with pytest.raises(numba.TypingError, match="readonly"):
        counts_of(np.zeros(2, np.uint64), 128, 64, out)


@given(st.integers(0, 2**64 - 1))
@example(2**64 - 1)
def test_popcount(word):
    assert jit.popcount(np.uint64(word)) == word.bit_count()
    assert jit.popcount(np.uint16(word & 0xFFFF)) == (word & 0xFFFF).bit_count()


# ---- the document ------------------------------------------------------------------------------


def test_the_examples_print_what_they_promise(capsys, monkeypatch):
    monkeypatch.chdir(DOCUMENT.parent.parent)
    space = {}
    for code in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL):
        exec(compile(code, str(DOCUMENT), "exec"), space)
        promised = re.findall(r"^print\(.*\)\n# (.+)$", code, re.MULTILINE)
        assert capsys.readouterr().out.splitlines() == promised != []
