"""The corpus tiled: which bitmaps, and where they lie."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent.parent / "benches"))
import tiles
from peers.work import GROUP_WORDS

from mempattern.trace import TraceReader


def bitmaps(name, n_groups, active, pages_each, n_intervals=2):
    """So many active groups, with so many dirty pages each."""
    bits = np.zeros((n_intervals, n_groups, 512), bool)
    bits[:, :active, :pages_each] = True
    words = np.packbits(bits.reshape(n_intervals, -1), axis=1, bitorder="little").view(np.uint64)
    return tiles.Bitmaps(name, words)


def test_shares_are_of_pages_and_of_active_groups():
    trace = bitmaps("t", n_groups=10, active=4, pages_each=128)
    assert trace.dirty_share == 4 * 128 / 5120
    assert trace.pages_per_active == 128
    assert bitmaps("idle", 10, 0, 0).pages_per_active == 0


def test_classes_are_chosen_by_what_the_bitmaps_are():
    traces = (
        bitmaps("idle", 100, 0, 0),
        bitmaps("half", 100, 100, 256),
        bitmaps("few everywhere", 100, 100, 2),
        bitmaps("few in groups", 100, 1, 500),
        bitmaps("between", 100, 10, 40),
        bitmaps("too many in groups", 100, 20, 512),
    )
    chosen = {kind: trace.name for kind, trace in tiles.classes(traces).items()}
    assert chosen == {"dense": "half", "sparse": "few everywhere", "clustered": "few in groups"}


def test_each_tile_is_an_interval_ahead():
    trace = tiles.Bitmaps("t", np.arange(3 * 8, dtype=np.uint64).reshape(3, 8))
    case = tiles.tiled(trace, gib=20 / tiles.GIB_WORDS * 2, n_intervals=4)
    assert case.n_words == 40
    for number, words in enumerate(case.bitmaps):
        for tile, found in enumerate(words.reshape(-1, 8)):
            assert np.array_equal(found, trace.words[(number + tile) % 3])


def test_the_last_tile_may_be_a_part():
    trace = tiles.Bitmaps("t", np.arange(2 * 24, dtype=np.uint64).reshape(2, 24))
    (words,) = tiles.tiled(trace, gib=32 / tiles.GIB_WORDS, n_intervals=1).bitmaps
    assert np.array_equal(words, np.concatenate([trace.words[0], trace.words[1][:8]]))


@pytest.mark.parametrize("name", ["memcached", "guest-log-zipf"])
def test_a_trace_is_read_from_its_middle_region_after_region(name):
    path = tiles.CORPUS / f"{name}.mpt"
    found = tiles.read(path)
    assert len(found.words) == tiles.N_WINDOWED
    with TraceReader(path) as trace:
        first = (len(trace) - tiles.N_WINDOWED) // 2
        for number, words in enumerate(found.words, first):
            interval = trace[number]
            n_dirty = sum(interval.pages(r.name).size for r in interval.regions)
            assert np.bitwise_count(words).sum() == n_dirty
            at = words.size  # regions grow at either end, but the last one's end is the end
            last = interval.bitmaps[interval.regions[-1].name]
            if interval.regions == trace[len(trace) - 1].regions:
                at -= -(-last.size // GROUP_WORDS) * GROUP_WORDS
                assert np.array_equal(words[at : at + last.size], last)


def test_the_corpus_has_the_three_classes():
    chosen = tiles.classes(tiles.corpus())
    assert len({trace.name for trace in chosen.values()}) == 3
    assert chosen["dense"].dirty_share > 0.5
    assert chosen["clustered"].pages_per_active > 100 * chosen["sparse"].pages_per_active
