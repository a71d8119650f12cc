"""Compiled reducers and policies against NumPy, the C core, and plain Python."""

import numpy as np
import pytest
from bench_core import SIZES, dense, sizes
from conftest import Peer

from mempattern import Region, group_counts

jit = pytest.importorskip("mempattern.jit")
GROUP_PAGES = 512


@jit.group_reducer(np.uint32)
def dirty_units(words, n_pages):
    """The example of docs/jit.md: units of 16 pages with a dirty one."""
    n = 0
    for unit in words.view(np.uint16):
        n += unit != 0
    return n


@jit.group_reducer(np.uint32)
def dirty_pages(words, n_pages):
    n = 0
    for word in words:
        n += jit.popcount(word)
    return n


@jit.policy
def when_stalled(passes):
    pending = passes["pending_bytes"]
    if passes.size < 3 or pending[-1] < pending[:-1].min():
        return 0.0
    needed_s = pending[-1] / passes[-1]["bandwidth_Bps"]
    return needed_s if needed_s <= 2 else 0.0


@sizes
def bench_jit_units(against, n_bytes):
    """What the C core does not count."""
    words = dense(n_bytes)
    words[np.random.default_rng(2).random(words.size) < 0.5] = 0
    units = dirty_units.over([Region("ram", n_bytes * 8)], GROUP_PAGES)
    per_group = GROUP_PAGES // 16

    def numpy_units():
        return np.count_nonzero(words.view(np.uint16).reshape(-1, per_group), axis=1)

    def numpy_small_sums():
        """The fastest way found: the truth values added up as bytes."""
        dirty = (words.view(np.uint16) != 0).view(np.uint8)
        return dirty.reshape(-1, per_group).sum(axis=1, dtype=np.uint8)

    given = {"ram": words}
    assert np.array_equal(units(given)["ram"], numpy_units())
    assert np.array_equal(units(given)["ram"], numpy_small_sums())
    against(
        lambda: units(given),
        [Peer("numpy", numpy_units), Peer("numpy, sums of bytes", numpy_small_sums)],
        rounds=60 if n_bytes == SIZES["8MiB"] else 15,
    )


@sizes
def bench_jit_counts(against, n_bytes):
    """What the C core does count."""
    words = dense(n_bytes)
    counts = dirty_pages.over([Region("ram", n_bytes * 8)], GROUP_PAGES)
    given = {"ram": words}

    def core():
        return group_counts(words, n_bytes * 8, GROUP_PAGES)

    def numpy_counts():
        return np.bitwise_count(words).reshape(-1, GROUP_PAGES // 64).sum(axis=1)

    assert np.array_equal(counts(given)["ram"], core())
    against(
        lambda: counts(given),
        [Peer("group_counts of the C core", core), Peer("numpy", numpy_counts)],
        rounds=60 if n_bytes == SIZES["8MiB"] else 15,
    )


def bench_jit_policy(against):
    """A thousand migrations of twenty passes."""
    passes = np.zeros(20_000, jit.PASS)
    passes["number"] = np.arange(passes.size) % 20 + 2
    passes["pending_bytes"] = np.random.default_rng(3).integers(1, 2**32, passes.size)
    passes["bandwidth_Bps"] = 1e9
    first = np.arange(passes.size) // 20 * 20

    def python():
        decide = when_stalled.function
        return [decide(passes[first[i] : i + 1]) for i in range(passes.size)]

    assert when_stalled.run(passes).tolist() == python()
    against(lambda: when_stalled.run(passes), [Peer("plain Python", python)], rounds=10)
