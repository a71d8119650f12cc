"""Everything that can be given to the library as regions, bitmaps and durations."""

import array
import mmap
import re

import numpy as np
import pytest

from mempattern import (
    DirtyHistory,
    GroupStats,
    Interval,
    Provenance,
    Region,
    errors,
    group_counts,
)
from mempattern._memory import as_words
from mempattern.errors import (
    BitmapError,
    OutOfMemoryError,
    RegionError,
    UsageError,
)

N_PAGES = 1000  # 16 words, 128 bytes, of which 125 hold pages
RNG = np.random.default_rng(1000)
WORDS = RNG.integers(0, 2**64, 16, dtype=np.uint64)
BYTES = WORDS.tobytes()
EXPECTED = GroupStats([Region("ram", N_PAGES)], 64).update({"ram": WORDS}, 1.0)


def new_stats(n_pages=N_PAGES):
    return GroupStats([Region("ram", n_pages)], 64)


def unaligned(dtype):
    memory = np.zeros(129, np.uint8)
    memory[1:] = np.frombuffer(BYTES, np.uint8)
    return memory[1:].view(dtype)


def strided(source, step):
    memory = np.zeros(source.size * abs(step), source.dtype)[::step]
    memory[:] = source
    return memory


def mapped():
    memory = mmap.mmap(-1, 128)
    memory[:] = BYTES
    return memory


def read_only(source):
    source = source.copy()
    source.flags.writeable = False
    return source


def own(source):
    """Bytes past the last page that say something else."""
    other = bytearray(source)
    other[125:] = b"\xa5" * 3
    return other


TAKEN = {
    "uint64 array": WORDS.copy,
    "uint8 array": lambda: np.frombuffer(BYTES, np.uint8),
    "ulonglong array": lambda: WORDS.astype(np.ulonglong),
    "read-only": lambda: read_only(WORDS),
    "read-only bytes": lambda: read_only(np.frombuffer(BYTES, np.uint8)),
    "strided": lambda: strided(WORDS, 3),
    "backwards": lambda: strided(WORDS, -1),
    "strided bytes": lambda: strided(np.frombuffer(BYTES, np.uint8), 2),
    "unaligned words": lambda: unaligned(np.uint64),
    "unaligned bytes": lambda: unaligned(np.uint8),
    "a column": lambda: np.repeat(WORDS[:, None], 2, axis=1)[:, 1],
    "bytes": lambda: BYTES,
    "bytearray": lambda: bytearray(BYTES),
    "memoryview": lambda: memoryview(BYTES),
    "memoryview of words": lambda: memoryview(BYTES).cast("Q"),
    "strided memoryview": lambda: memoryview(strided(WORDS, 2)),
    "mmap": mapped,
    "array.array of words": lambda: array.array("Q", WORDS.tolist()),
    "array.array of unsigned long": lambda: array.array("L", WORDS.tolist()),
    "array.array of bytes": lambda: array.array("B", BYTES),
    "bytes without padding": lambda: BYTES[:125],
    "bytearray without padding": lambda: bytearray(BYTES[:125]),
    "uint8 array without padding": lambda: np.frombuffer(BYTES, np.uint8)[:125],
    "strided bytes without padding": lambda: strided(np.frombuffer(BYTES, np.uint8)[:125], -3),
    "other bits past the end": lambda: own(BYTES),
}


@pytest.mark.parametrize("make", TAKEN.values(), ids=TAKEN)
def test_taken_everywhere_and_left_alone(make):
    bitmap = make()
    before = bytes(memoryview(bitmap).tobytes())
    assert new_stats().update({"ram": bitmap}, 1.0) == EXPECTED
    assert group_counts(bitmap, N_PAGES, 1024).tolist() == [EXPECTED.dirty_pages]
    history = DirtyHistory([Region("ram", N_PAGES)], 1)
    history.update({"ram": bitmap})
    np.testing.assert_array_equal(history.hot_pages(1)["ram"][:15], WORDS[:15])
    assert int(history.hot_pages(1)["ram"][15]) == int(WORDS[15]) & (2 ** (N_PAGES % 64) - 1)
    assert memoryview(bitmap).tobytes() == before


@pytest.mark.parametrize("make", TAKEN.values(), ids=TAKEN)
def test_the_core_gets_whole_aligned_words(make):
    """What x86 forgives, another machine or the sanitizers do not."""
    words = as_words(make(), Region("ram", N_PAGES))
    assert (words.dtype, words.size, words.strides) == (np.uint64, 16, (8,))
    assert words.ctypes.data % 8 == 0


@pytest.mark.parametrize("name", ["uint64 array", "read-only", "bytearray", "mmap", "memoryview"])
def test_nothing_is_copied_without_need(name):
    bitmap = TAKEN[name]()
    if np.frombuffer(bitmap, np.uint8).ctypes.data % 8 == 0:
        assert np.shares_memory(as_words(bitmap, Region("ram", N_PAGES)), np.asarray(bitmap))


REFUSED = {
    "too few words": (WORDS[:15], r"1000 pages has 16 words, not 15$"),
    "too many words": (np.append(WORDS, WORDS), "has 16 words, not 32$"),
    "no words": (WORDS[:0], "has 16 words, not 0$"),
    "too few bytes": (BYTES[:124], r"has 128 bytes \(or 125, without the padding\), not 124$"),
    "bytes between": (BYTES[:126], "not 126$"),
    "too many bytes": (BYTES + b"\0", "not 129$"),
    "no bytes": (b"", "not 0$"),
    "a byte a page": (np.ones(1000, np.uint8), "not 1000$"),
    "big-endian": (WORDS.astype(">u8"), r"big-endian.*little-endian.*astype\('<u8'\)"),
    "int64": (WORDS.view(np.int64), "dtype uint64 or uint8, not int64; view it"),
    "int8": (np.frombuffer(BYTES, np.int8), "dtype uint64 or uint8, not int8"),
    "uint32": (WORDS.view(np.uint32), "dtype uint64 or uint8, not uint32"),
    "uint16": (memoryview(BYTES).cast("H"), "dtype uint64 or uint8, not uint16"),
    "float64": (WORDS.astype(float), "dtype uint64 or uint8, not float64"),
    "objects": (WORDS.astype(object), "dtype uint64 or uint8, not object"),
    "signed array.array": (array.array("q", [0] * 16), "dtype uint64 or uint8, not int64"),
    "a bool a page": (np.zeros(1000, bool), r"one bool a page.*packbits\(.*'little'\)"),
    "bools of a byte's size": (np.zeros(125, bool), "one bool a page"),
    "two dimensions": (WORDS.reshape(4, 4), "one dimension, not 2"),
    "one column": (WORDS.reshape(16, 1), "one dimension, not 2"),
    "no dimension": (np.array(5, np.uint64), "one dimension, not 0"),
    "a number of NumPy": (np.uint64(5), "one dimension, not 0"),
    "two-dimensional memoryview": (memoryview(BYTES).cast("B", (2, 64)), "one dimension, not 2"),
    "a list": (WORDS.tolist(), "must be an array or have the buffer protocol, and list has not"),
    "None": (None, "buffer protocol, and NoneType has not"),
    "a string": ("0" * 128, "buffer protocol, and str has not"),
    "a number": (0, "buffer protocol, and int has not"),
    "a Boolean": (True, "buffer protocol, and bool has not"),
    "an iterator": (iter(BYTES), "buffer protocol, and bytes_iterator has not"),
}


@pytest.mark.parametrize(("bitmap", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_everywhere_without_a_trace(bitmap, message):
    stats, history = new_stats(), DirtyHistory([Region("ram", N_PAGES)])
    stats.update({"ram": WORDS}, 1.0)
    with pytest.raises(BitmapError, match=rf"^region 'ram': .*{message}"):
        stats.update({"ram": bitmap}, 1.0)
    with pytest.raises(BitmapError, match=rf"^region 'ram': .*{message}"):
        history.update({"ram": bitmap})
    with pytest.raises(BitmapError, match=message):
        group_counts(bitmap, N_PAGES)
    assert len(history) == 0
    assert (stats.n_intervals, stats.seen("ram")) == (1, EXPECTED)
    assert stats.groups("ram").dirty_total.sum() == EXPECTED.dirty_pages


def test_a_released_or_closed_buffer_is_refused():
    released, closed = memoryview(BYTES), mapped()
    released.release()
    closed.close()
    for gone in (released, closed):
        with pytest.raises(BitmapError, match="region 'ram'"):
            new_stats().update({"ram": gone}, 1.0)


@pytest.mark.parametrize(
    "bitmaps", [None, WORDS, BYTES, [WORDS], 5, "ram"], ids=lambda given: type(given).__name__
)
def test_bitmaps_that_are_no_mapping(bitmaps):
    stats, history = new_stats(), DirtyHistory([Region("ram", N_PAGES)])
    with pytest.raises(errors.MempatternError, match=r"mapping|Interval"):
        stats.update(bitmaps, 1.0)
    with pytest.raises(errors.MempatternError, match=r"mapping|Interval"):
        history.update(bitmaps)
    assert stats.n_intervals == len(history) == 0


@pytest.mark.parametrize(
    ("bitmaps", "message"),
    [
        ({}, r"lack \['ram', 'vga'\]; expected exactly one for each of \['ram', 'vga'\]"),
        ({"ram": WORDS}, r"lack \['vga'\]; expected"),
        ({"ram": WORDS, "vga": b"\0", "bios": b"\0"}, r"have unknown \['bios'\]; expected"),
        ({"ram": WORDS, 7: b"\0"}, r"lack \['vga'\] and have unknown \['7'\]"),
    ],
)
def test_bitmaps_of_other_regions(bitmaps, message):
    stats = GroupStats([Region("ram", N_PAGES), Region("vga", 1)])
    with pytest.raises(RegionError, match=message):
        stats.update(bitmaps, 1.0)
    assert stats.n_intervals == 0


def test_an_interval_of_other_regions():
    def interval_of(region):
        return Interval(0, 0, 10**9, (region,), {region.name: WORDS}, Provenance("test"))

    stats = new_stats()
    with pytest.raises(RegionError, match="unknown"):
        stats.update(interval_of(Region("vga", N_PAGES)))
    # As many words, and yet other pages: the last 20 would be lost without a word.
    with pytest.raises(RegionError, match=r"1020|other regions"):
        stats.update(interval_of(Region("ram", 1020)))
    # What differs is said on both sides.
    with pytest.raises(RegionError, match="regions, 'ram' of 1000 pages of 65536 bytes; expected"):
        stats.update(interval_of(Region("ram", N_PAGES, 65536)))
    with pytest.raises(RegionError, match="regions, 'ram' of 1000 pages at 0x1000; expected"):
        stats.update(interval_of(Region("ram", N_PAGES, address=4096)))
    assert stats.n_intervals == 0
    assert stats.update(interval_of(Region("ram", N_PAGES))) == EXPECTED


def test_the_order_of_the_mapping_does_not_matter():
    stats = GroupStats([Region("a", 64), Region("b", 64)])
    stats.update({"b": b"\x01" + bytes(7), "a": b"\x0f" + bytes(7)}, 1.0)
    assert (stats.seen("a").dirty_pages, stats.seen("b").dirty_pages) == (4, 1)


@pytest.mark.parametrize(
    "duration_s",
    [0, -1, -0.0, float("nan"), float("inf"), -float("inf"), "soon", [1], 1j, "1", True],
)
def test_a_duration_that_is_none(duration_s):
    stats = new_stats()
    for bitmaps in (
        {"ram": WORDS},
        Interval(0, 0, 1, stats.regions, {"ram": WORDS}, Provenance("test")),
    ):
        wanted = rf"duration_s must be a positive, finite.*{re.escape(repr(duration_s))}"
        with pytest.raises(UsageError, match=wanted):
            stats.update(bitmaps, duration_s)
    assert stats.n_intervals == 0


def test_a_missing_duration():
    with pytest.raises(UsageError, match="duration_s is needed with bare bitmaps"):
        new_stats().update({"ram": WORDS})


def test_more_seconds_than_a_double_holds():
    stats = new_stats()
    stats.update({"ram": WORDS}, 1.7e308)
    with pytest.raises(UsageError, match=r"duration|seconds|time"):
        stats.update({"ram": WORDS}, 1.7e308)
    assert stats.n_intervals == 1


@pytest.mark.parametrize(
    "half_life_s", [0, -1, float("nan"), float("inf"), None, "long", "1", True]
)
def test_a_half_life_that_is_none(half_life_s):
    with pytest.raises(UsageError, match="half_life_s must be a positive, finite number"):
        GroupStats([Region("ram", 64)], half_life_s=half_life_s)


@pytest.mark.parametrize("half_life_s", [5e-324, 1e-310, 9e-10])
def test_a_half_life_whose_rates_were_infinite(half_life_s):
    with pytest.raises(UsageError, match="half_life_s must be at least 1e-9"):
        GroupStats([Region("ram", 64)], half_life_s=half_life_s)
    stats = GroupStats([Region("ram", 64)], half_life_s=1e-9)
    stats.update({"ram": b"\x0f" + bytes(7)}, 2.0)
    assert stats.groups("ram").write_rate.tolist() == [pytest.approx(2.0)]


# ---- regions and groups ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "n_pages", [0, -1, -(2**70), 2**52 + 1, 2**64, 1.0, "64", None, True, np.True_, np.array([5])]
)
def test_page_counts_that_are_none(n_pages):
    with pytest.raises(
        RegionError, match=r"'ram': n_pages must be a whole number from 1 to 2\*\*52"
    ):
        Region("ram", n_pages)


@pytest.mark.parametrize("page_bytes", [0, -4096, 3, 4097, 4096.0, None, True])
def test_page_sizes_that_are_none(page_bytes):
    with pytest.raises(RegionError, match="'ram': page_bytes must be a power of two"):
        Region("ram", 1, page_bytes)


@pytest.mark.parametrize("address", [-4096, 1, 4097, 1 << 64, 4096.0, None, True])
def test_addresses_that_are_none(address):
    with pytest.raises(RegionError, match="'ram': address must be a multiple of 4096 below"):
        Region("ram", 1, address=address)


@pytest.mark.parametrize("name", ["", None, 5, b"ram"])
def test_names_that_are_none(name):
    with pytest.raises(RegionError, match="name must be a non-empty string"):
        Region(name, 1)


def test_whole_numbers_of_numpy_are_whole_numbers():
    region = Region("ram", np.int64(N_PAGES), np.uint32(4096))
    assert region == Region("ram", N_PAGES)
    assert (region.n_words, region.page_bytes) == (16, 4096)
    stats = GroupStats([region], np.int32(64))
    assert stats.update({"ram": WORDS}, np.float32(1)) == EXPECTED
    assert type(Region("ram", np.array(5)).n_pages) is int


@pytest.mark.parametrize("n", [np.True_, np.float64(5), np.array([5]), np.array([5, 6])])
def test_what_is_no_whole_number_of_numpy(n):
    with pytest.raises(RegionError, match="n_pages must be a whole number"):
        Region("ram", n)


@pytest.mark.parametrize("make", [GroupStats, DirtyHistory])
def test_regions_that_make_no_sense_together(make):
    with pytest.raises(RegionError, match=r"write \[region\]"):
        make(Region("ram", 5))
    with pytest.raises(RegionError, match="no region was given"):
        make([])
    with pytest.raises(RegionError, match="'ram' is named twice"):
        make([Region("ram", 1), Region("vga", 1), Region("ram", 2)])
    with pytest.raises(RegionError, match=r"expected a mempattern\.Region, not tuple"):
        make([("ram", 64)])
    with pytest.raises(RegionError, match=r"expected a mempattern\.Region, not str"):
        make("ram")


@pytest.mark.parametrize(
    "group_pages", [0, -64, 1, 63, 65, 100, 2**32, 2**64, 512.0, "512", None, True]
)
def test_group_sizes_that_are_none(group_pages):
    with pytest.raises(RegionError, match=r"positive multiple of 64 below 2\*\*32"):
        GroupStats([Region("ram", 64)], group_pages)
    with pytest.raises(RegionError, match=r"positive multiple of 64 below 2\*\*32"):
        group_counts(bytes(8), 64, group_pages)


@pytest.mark.parametrize("make", [GroupStats, DirtyHistory])
def test_more_memory_than_there_is(make):
    with pytest.raises(OutOfMemoryError, match="smaller or fewer regions") as caught:
        make([Region("ram", 2**52)])
    assert isinstance(caught.value, MemoryError)
    with pytest.raises(OutOfMemoryError):
        make([Region(f"slot {number}", 2**52) for number in range(300)])


def test_a_huge_region_wants_a_huge_bitmap():
    with pytest.raises(BitmapError, match="has 70368744177664 words, not 16"):
        group_counts(WORDS, 2**52)


@pytest.mark.parametrize("n_pages", [1, 7, 8, 9, 56, 57, 63, 64, 65, 127, 128, 129])
def test_bits_past_the_end_are_never_counted(n_pages):
    for n_bytes in {-(-n_pages // 8), -(-n_pages // 64) * 8}:
        stats = GroupStats([Region("ram", n_pages)], 64)
        for _ in range(2):
            assert stats.update({"ram": b"\xff" * n_bytes}, 1.0).dirty_pages == n_pages
        assert stats.groups("ram").touched.sum() == n_pages
        assert group_counts(b"\xff" * n_bytes, n_pages, 64).sum() == n_pages


# ---- what lies about itself --------------------------------------------------------------------


def test_an_array_that_lies_about_its_size():
    class Liar(np.ndarray):
        size = 10**8 // 64

    with pytest.raises(BitmapError, match="has 1562500 words"):
        group_counts(np.zeros(1, np.uint64).view(Liar), 10**8)


def test_a_masked_array():
    with pytest.raises(BitmapError, match="filled"):
        new_stats().update({"ram": np.ma.array(WORDS, mask=True)}, 1.0)


def test_a_mapping_that_shrinks_an_array_in_the_middle():
    regions = [Region("a", 64 * 10_000), Region("b", 64)]
    big = np.zeros(10_000, np.uint64)

    class Shrinking(dict):
        def __getitem__(self, name):
            if name == "b":
                big.resize(1, refcheck=False)
            return super().__getitem__(name)

    with pytest.raises(BitmapError, match="resized"):
        GroupStats(regions).update(Shrinking(a=big, b=np.zeros(1, np.uint64)), 1.0)


def test_a_region_name_that_a_terminal_would_obey():
    for name in ("\x1b]0;owned\x07", "a\nb"):
        with pytest.raises(RegionError, match="printable"):
            Region(name, 1)
