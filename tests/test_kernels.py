"""Counting by group on every kernel, and choosing the kernel."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from model import GROUP_PAGES, KINDS, make_pages, per_group, to_words

from mempattern import GroupStats, Region, errors, group_counts, kernels

pytestmark = pytest.mark.usefixtures("kernel")


def check_counts(pages, group_pages, rng):
    counts = group_counts(to_words(pages, garbage=rng), pages.size, group_pages)
    assert counts.dtype == np.uint32
    np.testing.assert_array_equal(counts, per_group(pages, group_pages))


@given(
    st.integers(1, 200_000) | st.integers(1, 2000),
    st.sampled_from(GROUP_PAGES) | st.integers(1, 64).map(lambda words: 64 * words),
    st.sampled_from(KINDS),
    st.integers(0, 2**32),
)
@example(1, 64, "full", 0)
@example(1, 2**32 - 64, "full", 0)
@example(65, 64, "full", 0)
@example(262_145, 512, "dense", 0)
def test_group_counts_equal_the_model(n_pages, group_pages, kind, seed):
    rng = np.random.default_rng(seed)
    check_counts(make_pages(kind, n_pages, rng), group_pages, rng)


@pytest.mark.parametrize("group_pages", [64, 192, 512, 1024])
def test_every_remainder_of_words_and_groups(group_pages):
    rng = np.random.default_rng(group_pages)
    pages = rng.random(4 * group_pages) < 0.6
    for n_pages in range(3 * group_pages, 4 * group_pages + 1):
        check_counts(pages[:n_pages], group_pages, rng)


@pytest.mark.parametrize("n_lines", range(1, 14))
def test_every_number_of_lines(n_lines):
    """Kernels take several groups of 512 pages at once, and then the rest."""
    rng = np.random.default_rng(n_lines)
    check_counts(rng.random(512 * n_lines) < 0.5, 512, rng)


def test_counts_of_one_page_at_each_place():
    for page in range(1100):
        pages = np.zeros(1100, bool)
        pages[page] = True
        counts = group_counts(to_words(pages), 1100, 512)
        assert counts.tolist() == [page // 512 == group for group in range(3)]


def test_the_default_group_is_2_mib():
    assert group_counts(np.array([2**64 - 1] * 16, np.uint64), 1024).tolist() == [512, 512]


def test_group_counts_refuses_what_a_region_refuses():
    with pytest.raises(errors.RegionError, match=r"n_pages must be a whole number from 1"):
        group_counts(b"", 0)
    with pytest.raises(errors.RegionError, match=r"positive multiple of 64.*not 100"):
        group_counts(bytes(8), 64, 100)
    with pytest.raises(errors.RegionError, match=r"positive multiple of 64.*not 4294967296"):
        group_counts(bytes(8), 64, 2**32)
    with pytest.raises(errors.BitmapError, match=r"1000 pages has 128 bytes \(or 125.*not 8$"):
        group_counts(bytes(8), 1000)


def test_scalar_runs_everywhere_and_is_the_last_choice():
    assert kernels.available()[-1] == "scalar"
    assert len(set(kernels.available())) == len(kernels.available())


def test_use_chooses_the_kernel(kernel):
    assert kernels.active() == kernel
    try:
        for name in kernels.available():
            kernels.use(name)
            assert kernels.active() == name
        kernels.use(None)
        wanted = os.environ.get(kernels.ENVIRONMENT_VARIABLE) or kernels.available()[0]
        assert kernels.active() == wanted
    finally:
        kernels.use(kernel)


@pytest.mark.parametrize("name", ["sse9", "", "SCALAR", "scalar "])
def test_an_unknown_kernel_is_refused_and_the_old_one_stays(kernel, name):
    with pytest.raises(errors.KernelError, match=rf"^{name}: no such kernel.*can run .*scalar$"):
        kernels.use(name)
    assert kernels.active() == kernel


def test_a_kernel_that_this_machine_cannot_run_is_refused(kernel):
    for name in {"avx512", "avx2", "neon"} - set(kernels.available()):
        with pytest.raises(errors.KernelError, match=f"{name}: no such kernel here"):
            kernels.use(name)
    assert kernels.active() == kernel


_IN_ANOTHER_PROCESS = """
import mempattern
from mempattern import errors, kernels
print(kernels.available())
stats = mempattern.GroupStats([mempattern.Region("ram", 64)])
history = mempattern.DirtyHistory([mempattern.Region("ram", 64)])
for use in (
    kernels.active,
    lambda: mempattern.group_counts(bytes(8), 64),
    lambda: stats.update({"ram": b"\\xff" * 8}, 1.0),
    lambda: history.update({"ram": bytes(8)}),
    lambda: history.hot_pages(1),
):
    try:
        print(use())
    except errors.KernelError as error:
        print("KernelError", error)
kernels.use("scalar")
print(kernels.active(), stats.n_intervals, stats.update({"ram": b"\\xff" * 8}, 1.0).fresh_pages)
"""


def run_with_kernel(name):
    done = subprocess.run(
        [sys.executable, "-c", _IN_ANOTHER_PROCESS],
        env={**os.environ, kernels.ENVIRONMENT_VARIABLE: name},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_environment_names_a_kernel_that_does_not_exist():
    _, *answers, last = run_with_kernel("sse9")
    choices = ", ".join(kernels.available())
    expected = (
        f"KernelError MEMPATTERN_KERNEL=sse9: no such kernel here; this machine can run {choices}"
    )
    assert answers == [expected] * 5
    assert last == "scalar 0 64", "a failed update must count nothing"


def test_the_environment_names_the_kernel(kernel):
    assert run_with_kernel(kernel)[1] == kernel
    assert run_with_kernel("")[1] == kernels.available()[0]


def test_statistics_go_on_when_the_kernel_changes(kernel):
    rng = np.random.default_rng(7)
    region = Region("ram", 5000)
    words = [to_words(rng.random(5000) < 0.3, garbage=rng) for _ in range(6)]
    steady, changing = (GroupStats([region], group_pages=512) for _ in range(2))
    try:
        for number, bitmap in enumerate(words):
            expected = steady.update({"ram": bitmap}, 1.0)
            kernels.use(kernels.available()[number % len(kernels.available())])
            assert changing.update({"ram": bitmap}, 1.0) == expected
            kernels.use(kernel)
    finally:
        kernels.use(kernel)


@pytest.mark.parametrize("name", [3, "scalar\0x", "", b"scalar", ["scalar"]])
def test_names_that_are_no_kernel(name):
    before = kernels.active()
    with pytest.raises(errors.KernelError, match="this machine can run"):
        kernels.use(name)
    assert kernels.active() == before


def test_counts_go_where_they_are_asked_to():
    words, out = to_words(np.ones(1000, bool)), np.full(16, 7, np.uint32)
    assert group_counts(words, 1000, 64, out=out) is out
    assert out.tolist() == [64] * 15 + [40]
    for wrong in (
        np.zeros(15, np.uint32),
        np.zeros(16, np.int32),
        np.zeros(32, np.uint32)[::2],
        np.frombuffer(bytes(64), np.uint32),
        [0] * 16,
    ):
        with pytest.raises(errors.UsageError, match="array of 16 uint32"):
            group_counts(words, 1000, 64, out=wrong)
