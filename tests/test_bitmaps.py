"""What an interval did, and the numbers of its pages, from bare bitmaps, on every kernel."""

import contextlib
import threading

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from model import EDGE_SIZES, KINDS, count_runs, make_pages, per_group, to_words

from mempattern import GroupStats, Interval, Provenance, Region, Seen, bitmaps, errors, kernels

pytestmark = pytest.mark.usefixtures("kernel")

SIZES = st.sampled_from(EDGE_SIZES) | st.integers(1, 2000) | st.integers(1, 200_000)


def placed(words, offset):
    """The same words, `offset` words past a 64-byte line."""
    memory = np.zeros(words.size + 16, np.uint64)
    first = -(memory.ctypes.data // 8) % 8 + offset
    memory[first : first + words.size] = words
    return memory[first : first + words.size]


@given(
    SIZES,
    st.sampled_from(KINDS),
    st.none() | st.sampled_from(KINDS),
    st.none() | st.sampled_from(KINDS),
    st.integers(0, 2**32),
)
@example(32768 * 3 + 5, "full", "full", "zero", 0)
@example(32768 * 3, "dense", None, "dense", 1)
def test_seen_equals_the_model(n_pages, kind, kind_before, kind_ever, seed):
    rng = np.random.default_rng(seed)
    nothing = np.zeros(n_pages, bool)
    pages = make_pages(kind, n_pages, rng)
    before = make_pages(kind_before, n_pages, rng) if kind_before else nothing
    ever = make_pages(kind_ever, n_pages, rng) if kind_ever else nothing
    offsets = rng.integers(8, size=3)
    words = placed(to_words(pages, garbage=rng), offsets[0])
    previous = placed(to_words(before, garbage=rng), offsets[1]) if kind_before else None
    joined = placed(to_words(ever, garbage=rng), offsets[2]) if kind_ever else None
    for array in (words, previous):
        if array is not None:
            array.flags.writeable = False
    found = bitmaps.seen(words, n_pages, previous=previous, ever=joined)
    assert found == Seen(
        dirty_pages=pages.sum(),
        redirtied_pages=(pages & before).sum(),
        fresh_pages=(pages & ~ever).sum(),
        active_groups=(per_group(pages, 512) > 0).sum(),
        runs=count_runs(pages),
    )
    if kind_ever:
        np.testing.assert_array_equal(joined, to_words(pages | ever))


@given(SIZES, st.sampled_from(KINDS), st.integers(0, 2**32))
@example(1, "full", 0)
@example(32769, "dense", 0)
def test_page_numbers_equal_numpys(n_pages, kind, seed):
    rng = np.random.default_rng(seed)
    pages = make_pages(kind, n_pages, rng)
    words = placed(to_words(pages, garbage=rng), rng.integers(8))
    found = bitmaps.page_numbers(words, n_pages)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, np.flatnonzero(pages))
    interval = Interval(0, 0, 1, (Region("ram", n_pages),), {"ram": words}, Provenance("test"))
    np.testing.assert_array_equal(interval.pages("ram"), found)


@pytest.mark.parametrize("n_set", range(65))
def test_so_many_pages_in_a_word(n_set):
    """Kernels write several numbers at once, and what is too many must be written over."""
    rng = np.random.default_rng(n_set)
    pages = np.zeros(64 * 40, bool)
    for first in range(0, pages.size, 64):
        pages[first + rng.choice(64, n_set, replace=False)] = True
    found = bitmaps.page_numbers(to_words(pages), pages.size)
    np.testing.assert_array_equal(found, np.flatnonzero(pages))


def test_seen_goes_on_as_the_statistics_do():
    rng = np.random.default_rng(5)
    n_pages = 32768 * 2 + 77
    stats = GroupStats([Region("ram", n_pages)])
    previous, ever = None, np.zeros(-(-n_pages // 64), np.uint64)
    for _ in range(12):
        words = to_words(make_pages(rng.choice(KINDS), n_pages, rng), garbage=rng)
        found = bitmaps.seen(words, n_pages, previous=previous, ever=ever)
        assert found == stats.update({"ram": words}, 1.0)
        previous = words


def test_bitmaps_come_in_every_form():
    rng = np.random.default_rng(6)
    pages = rng.random(1000) < 0.3
    words = to_words(pages, garbage=rng)
    octets = words.view(np.uint8)
    unaligned = np.zeros(129, np.uint8)
    unaligned[1:] = octets
    forms = (words, octets[:125], words.tobytes(), bytearray(octets), np.repeat(words, 2)[::2],
             unaligned[1:].view(np.uint64))  # fmt: skip
    expected = bitmaps.seen(words, 1000, previous=words)
    for form in forms:
        assert bitmaps.seen(form, 1000, previous=form) == expected
        np.testing.assert_array_equal(bitmaps.page_numbers(form, 1000), np.flatnonzero(pages))


@pytest.mark.parametrize("call", [bitmaps.seen, bitmaps.page_numbers])
def test_what_is_no_bitmap_is_refused(call):
    with pytest.raises(errors.RegionError, match="n_pages must be a whole number from 1"):
        call(b"", 0)
    for wrong in ([64], True, 64.0, "64"):
        with pytest.raises(errors.RegionError, match="n_pages must be a whole number from 1"):
            call(bytes(8), wrong)
    with pytest.raises(errors.BitmapError, match=r"1000 pages has 128 bytes \(or 125.*not 8$"):
        call(bytes(8), 1000)
    with pytest.raises(errors.BitmapError, match="one bool a page"):
        call(np.zeros(64, bool), 64)


def test_the_previous_bitmap_is_named():
    with pytest.raises(errors.BitmapError, match=r"'previous'.*has 8 bytes.*not 16"):
        bitmaps.seen(bytes(8), 64, previous=bytes(16))


def test_only_an_array_that_can_be_written_to_is_ever():
    frozen = np.zeros(2, np.uint64)
    frozen.flags.writeable = False
    for wrong in (
        np.zeros(3, np.uint64),
        np.zeros(2, np.int64),
        np.zeros(4, np.uint64)[::2],
        np.zeros(2, ">u8"),
        frozen,
        bytearray(16),
    ):
        with pytest.raises(errors.UsageError, match=r"ever must be a writable.* 2 uint64"):
            bitmaps.seen(bytes(16), 128, ever=wrong)


def test_a_bitmap_that_changes_meanwhile_harms_nobody():
    words, stop = np.zeros(4096, np.uint64), threading.Event()

    def change():
        while not stop.is_set():
            words[:] = np.uint64(2**64 - 1)
            words[:] = 0

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(200):
            with contextlib.suppress(errors.BitmapError):
                pages = bitmaps.page_numbers(words, 64 * words.size)
                assert (np.diff(pages) > 0).all()
    finally:
        stop.set()
        thread.join()


def test_the_environment_names_a_kernel_that_does_not_exist(kernel, monkeypatch):
    monkeypatch.setenv(kernels.ENVIRONMENT_VARIABLE, "sse9")
    kernels.use(None)
    try:
        for call in (bitmaps.seen, bitmaps.page_numbers):
            with pytest.raises(errors.KernelError, match="sse9: no such kernel"):
                call(bytes(8), 64)
    finally:
        monkeypatch.undo()
        kernels.use(kernel)
