"""Bitmaps as blobs, of sizes on both sides of the pieces that they are inflated in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempattern._memory import BitmapPool
from mempattern.errors import MempatternError
from mempattern.regions import Region
from mempattern.trace import blobs

PIECE_WORDS = blobs._PIECE_BYTES // 8
SIZES = (1, PIECE_WORDS - 1, PIECE_WORDS, PIECE_WORDS + 1, 2 * PIECE_WORDS, 3 * PIECE_WORDS + 7)


def region_of(n_words):
    return Region("ram", 64 * n_words)


def bitmap(n_words, dirty, seed):
    words = np.zeros(n_words, np.uint64)
    rng = np.random.default_rng(seed)
    at = rng.integers(0, n_words, int(dirty * n_words))
    words[at] = rng.integers(0, 1 << 63, at.size, np.uint64)
    return words


@given(st.lists(st.tuples(st.sampled_from(SIZES), st.sampled_from((0, 0.001, 1)),
                          st.integers(0, 99)), min_size=1, max_size=6))  # fmt: skip
def test_they_come_back_and_stay_while_somebody_has_them(made):
    packer, unpacker = blobs.Packer(), blobs.Unpacker()
    kept = []
    for number, (n_words, dirty, seed) in enumerate(made):
        words = bitmap(n_words, dirty, seed)
        found = unpacker.unpack(packer.pack(words), region_of(n_words))
        if number % 2:
            kept.append((words, found))
        assert np.array_equal(found, words)
        del found
    unpacker.close()
    assert all(np.array_equal(words, found) for words, found in kept)


def test_large_ones_that_nobody_has_any_more_are_where_others_were():
    packer, unpacker = blobs.Packer(), blobs.Unpacker()
    n_words = SIZES[-1]
    places = set()
    for seed in range(8):
        found = unpacker.unpack(packer.pack(bitmap(n_words, 1, seed)), region_of(n_words))
        places.add(found.ctypes.data)
    assert len(places) <= 2


def test_a_region_that_grows_leaves_no_memory_behind(monkeypatch):
    """Else a trace could ask for that of all sizes that its regions ever had."""
    taken = []
    take = BitmapPool.take
    monkeypatch.setattr(BitmapPool, "take", lambda pool: taken.append(pool) or take(pool))
    packer, unpacker = blobs.Packer(), blobs.Unpacker()
    for n_words in range(PIECE_WORDS, 2 * PIECE_WORDS, PIECE_WORDS // 10):
        unpacker.unpack(packer.pack(bitmap(n_words, 1, 0)), region_of(n_words))
    assert len(set(map(id, taken))) > 1
    assert sum(len(pool._free) for pool in taken) == 1


@pytest.mark.parametrize("n_words", SIZES)
@pytest.mark.parametrize("by", [-8, -1, 1, 8, blobs._PIECE_BYTES])
def test_frames_of_another_length_are_none(n_words, by):
    """Whether they say so or not: the size that is stated is in the header, if there is one."""
    n_bytes = n_words * 8
    if n_bytes + by <= 0:
        return
    other = blobs.zstd.compress(bytes(n_bytes + by), options=blobs._OPTIONS)
    right = blobs.Packer().pack(np.zeros(n_words, np.uint64))
    for blob in (other, right[:-4], right[:-5], right + b"x", right + right):
        with pytest.raises((ValueError, blobs.BlobError)):
            blobs.Unpacker().unpack(blob, region_of(n_words))


def test_a_flipped_bit_is_an_error():
    blob = bytearray(blobs.Packer().pack(bitmap(SIZES[-1], 0.001, 0)))
    for at in range(blobs._FRAME_HEADER, len(blob), len(blob) // 50):
        blob[at] ^= 4
        with pytest.raises((ValueError, blobs.BlobError, MempatternError)):
            blobs.Unpacker().unpack(bytes(blob), region_of(SIZES[-1]))
        blob[at] ^= 4


def test_bits_past_the_end_make_no_clean_bitmap():
    """Of a larger region of as many words they are pages."""
    small, large = Region("small", 65), Region("large", 128)
    beyond = np.array([0, 1 << 63], np.uint64)
    packer, unpacker = blobs.Packer(), blobs.Unpacker()
    blob = packer.pack_counted(beyond, blobs.count_dirty(beyond, small))
    assert packer.pack_counted(np.zeros(2, np.uint64), 0) != blob
    assert unpacker.unpack_counted(blob, small)[1] == 0
    words, dirty_pages = unpacker.unpack_counted(blob, large)
    assert (words.tolist(), dirty_pages) == (beyond.tolist(), 1)


def test_what_a_clean_bitmap_is_cannot_be_changed():
    packer, unpacker = blobs.Packer(), blobs.Unpacker()
    blob = packer.pack(np.zeros(3, np.uint64))
    for _ in range(2):
        words, _ = unpacker.unpack_counted(blob, region_of(3))
        assert not words.flags.writeable


def test_of_clean_bitmaps_no_more_is_remembered_than_may_be(monkeypatch):
    """A trace may have any number of sizes, and blobs that are longer than they need to be."""
    monkeypatch.setattr(blobs, "_MOST_CLEAN", 2)
    clean = blobs._Clean()
    for n_words in range(1, 6):
        assert clean.remember(n_words, b"short") == b"short"
        assert clean.blob(n_words) == b"short"
        assert len(clean._blobs) <= 2
    long = bytes(blobs._LONGEST_CLEAN + 1)
    assert clean.remember(9, long) == long
    assert clean.blob(9) is None
