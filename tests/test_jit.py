"""Compiled reducers and policies against NumPy, the model, and the same functions in Python."""

import os
import re
import subprocess
import sys
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


@jit.policy
def when_stalled(passes):
    pending = passes["pending_bytes"]
    if passes.size < 3 or pending[-1] < pending[:-1].min():
        return 0.0
    return pending[-1] / passes[-1]["bandwidth_Bps"]


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


# ---- policies ----------------------------------------------------------------------------------


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


# ---- functions that do not compile -------------------------------------------------------------


def no_such_method(words, n_pages):
    return words.n_pages


def writes_to_the_bitmap(words, n_pages):
    words[0] = 0
    return 0


def imports(words, n_pages):
    import math  # noqa: PLC0415

    return math.inf


def one_argument(words):
    return 0


def says_nothing(words, n_pages):
    pass


def sometimes_says_nothing(words, n_pages):
    if n_pages > 64:
        return 1


def a_float(words, n_pages):
    return 0.5


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            no_such_method,
            r"no_such_method does not compile in Numba's nopython mode: Unknown attribute "
            r"'n_pages' of type .* \(line \d+\)$",
        ),
        (writes_to_the_bitmap, r"nopython mode: Cannot modify readonly array"),
        (imports, r"nopython mode: Use of unsupported opcode \(IMPORT_NAME\) found"),
        (one_argument, r"one_argument must take the arguments \(words, n_pages\), not \(words\)$"),
        (says_nothing, r"says_nothing must return a number, not none$"),
        (sometimes_says_nothing, r"must return a number, not Option"),
        (a_float, r"a_float returns float64, and result is uint32: make result a float"),
        (abs, r"only a Python function can be compiled, not <built-in"),
    ],
)
def test_what_is_no_reducer_is_told_in_a_sentence(function, message):
    with pytest.raises(errors.UsageError, match=message) as raised:
        jit.group_reducer(np.uint32)(function)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    assert "\n" not in str(raised.value)


def test_what_is_no_policy_is_told_in_a_sentence():
    with pytest.raises(errors.UsageError, match=r"must take the arguments \(passes\)"):
        jit.policy(a_float)


@pytest.mark.parametrize(
    ("result", "state", "message"),
    [
        ("f2", None, "result must be the dtype of integers, bools, float32 or float64"),
        ("O", None, "result must be the dtype"),
        ("no such", None, "result must be a dtype, not 'no such'"),
        (">u4", None, "result has dtype >u4, which Numba does not compile"),
        (
            "u4",
            "f8",
            r"state must be a structured dtype, not float64: write \[\('some_name', '<f8'",
        ),
        ("u4", [("a", "O")], "state has dtype .*, which Numba does not compile"),
    ],
)
def test_dtypes_that_cannot_be(result, state, message):
    with pytest.raises(errors.UsageError, match=message):
        jit.group_reducer(result, state=state)(lambda words, n_pages, *_state: 0)


# ---- numba is an extra -------------------------------------------------------------------------


def run_python(program, **environment):
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_numba_is_imported_only_when_asked_for():
    assert run_python("import mempattern, sys; print('numba' in sys.modules)") == "False"


def test_without_numba_the_extra_is_named():
    said = run_python(
        "import sys; sys.modules['numba'] = None\n"
        "try: from mempattern import jit\n"
        "except ImportError as error: print(type(error).__name__, error)"
    )
    assert said == (
        "MissingPackageError compiling your own functions needs the package numba: "
        "pip install 'mempattern[jit]'"
    )


def test_what_the_environment_may_forbid():
    """Numba's switch to turn compiling off; and a kernel that cannot run."""
    reducer = "@jit.group_reducer('u4')\ndef f(words, n_pages):\n    return 0"
    counts = "import numpy as np\njit.group_counts(np.zeros(1, 'u8'), 64, 64, np.zeros(1, 'u4'))"
    for program, environment, message in [
        (reducer, {"NUMBA_DISABLE_JIT": "1"}, "f cannot be compiled while NUMBA_DISABLE_JIT is"),
        (counts, {"MEMPATTERN_KERNEL": "sse9"}, "MEMPATTERN_KERNEL names a kernel that cannot"),
    ]:
        indented = program.replace("\n", "\n    ")
        caught = (
            f"from mempattern import jit\ntry:\n    {indented}\nexcept Exception as e: print(e)"
        )
        assert run_python(caught, **environment).startswith(message)


# ---- the document ------------------------------------------------------------------------------


def test_the_examples_print_what_they_promise(capsys, monkeypatch):
    monkeypatch.chdir(DOCUMENT.parent.parent)
    space = {}
    for code in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL):
        exec(compile(code, str(DOCUMENT), "exec"), space)
        promised = re.findall(r"^print\(.*\)\n# (.+)$", code, re.MULTILINE)
        assert capsys.readouterr().out.splitlines() == promised != []
