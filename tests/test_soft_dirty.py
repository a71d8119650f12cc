"""Soft-dirty bits: on files made by hand, as few kernels have them; for real where there are.

The files stand in for those of /proc/PID: the list of mappings, the bits, and what clears them.
"""

import errno
import os
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from target import PAGE, Target
from traced import addresses

from mempattern.errors import ClosedError, ProcessEnded, ProcessError
from mempattern.interval import Provenance
from mempattern.sources import SoftDirty, auto, open_process, process, soft_dirty
from mempattern.sources.layout import Placed, address_range
from mempattern.sources.soft_dirty import dirty_entries

SOFT_DIRTY, PRESENT, SWAPPED, FILE, EXCLUSIVE = (1 << bit for bit in (55, 63, 62, 61, 56))
HUGE = 2 << 20
START = 0x10000 * PAGE

# ---- decoding ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "is_dirty"),
    [
        (0, False),
        (SOFT_DIRTY, False),  # of a mapping that is new, where nothing was ever touched
        (PRESENT, False),
        (SWAPPED, False),
        (PRESENT | FILE | EXCLUSIVE | (1 << 55) - 1, False),
        (SOFT_DIRTY | FILE | EXCLUSIVE | (1 << 55) - 1, False),
        (PRESENT | SOFT_DIRTY, True),
        (SWAPPED | SOFT_DIRTY, True),
        ((1 << 64) - 1, True),
    ],
)
def test_an_entry(entry, is_dirty):
    assert dirty_entries(np.array([0, entry], "<u8").tobytes()).tolist() == [False, is_dirty]


@pytest.fixture
def pagemap(tmp_path):
    with open(tmp_path / "pagemap", "w+b", buffering=0) as file:
        yield file


def put(file, start, entries):
    """Entries of the pages from that address on."""
    os.pwrite(file.fileno(), np.asarray(entries, "<u8").tobytes(), start // PAGE * 8)


def dirty_pages(file, start, n_bytes, page_bytes=PAGE):
    part = Placed(start, start + n_bytes, 0, 0, page_bytes, False)
    return np.flatnonzero(soft_dirty._dirty_pages(file.fileno(), part)).tolist()


@given(pages=st.sets(st.integers(0, 199)), clean=st.sets(st.integers(0, 199)))
def test_a_range_of_a_file(tmp_path_factory, pages, clean):
    with open(tmp_path_factory.mktemp("bits") / "pagemap", "w+b", buffering=0) as file:
        entries = np.zeros(200, np.uint64)
        entries[list(clean)] = PRESENT
        entries[list(pages)] = PRESENT | SOFT_DIRTY
        put(file, START, entries)
        put(file, START - PAGE, [PRESENT | SOFT_DIRTY])  # the neighbours are not ours
        put(file, START + 200 * PAGE, [PRESENT | SOFT_DIRTY])
        assert dirty_pages(file, START, 200 * PAGE) == sorted(pages)


def test_a_file_is_read_in_chunks(pagemap, monkeypatch):
    monkeypatch.setattr(soft_dirty, "_CHUNK_PAGES", 64)
    pages = [0, 63, 64, 127, 128, 190]
    for page in pages:
        put(pagemap, START + page * PAGE, [PRESENT | SOFT_DIRTY])
    assert dirty_pages(pagemap, START, 191 * PAGE) == pages


def test_a_huge_page_is_dirty_where_any_of_its_entries_is(pagemap):
    entries = np.full(4 * 512, PRESENT, np.uint64)
    entries[[512, 3 * 512 + 511]] |= np.uint64(SOFT_DIRTY)
    put(pagemap, START, entries)
    assert dirty_pages(pagemap, START, 4 * HUGE, HUGE) == [1, 3]


def test_where_the_file_ends_nothing_is_dirty(pagemap):
    put(pagemap, START, [PRESENT | SOFT_DIRTY] * 3)
    os.ftruncate(pagemap.fileno(), START // PAGE * 8 + 2 * 8 + 5)  # in the middle of an entry
    assert dirty_pages(pagemap, START, 64 * PAGE) == [0, 1]
    assert dirty_pages(pagemap, START + 3 * PAGE, 64 * PAGE) == []


def test_short_reads_are_gone_on_with(pagemap, monkeypatch):
    real = os.pread

    def short(fd, n, offset):
        return real(fd, min(n, 13), offset)

    monkeypatch.setattr(os, "pread", short)
    put(pagemap, START, [PRESENT | SOFT_DIRTY, 0] * 50)
    assert dirty_pages(pagemap, START, 100 * PAGE) == list(range(0, 100, 2))


# ---- a source over files that the test writes --------------------------------------------------


class Files:
    """What the source opens in place of the files of /proc/PID, whose PID is our parent's."""

    pid = os.getppid()

    def __init__(self, directory):
        self.paths = {name: directory / name for name in ("maps", "pagemap", "clear_refs")}
        for path in self.paths.values():
            path.write_bytes(b"")
        self.opened = []

    def open(self, pid, name, mode=os.O_RDONLY):
        assert pid == self.pid
        self.opened.append(os.open(self.paths[name], mode | os.O_CLOEXEC))
        return self.opened[-1]

    def map(self, *mappings):
        """Each as (start, pages), or (start, pages, "path")."""
        lines = [
            f"{start:x}-{start + n * PAGE:x} rw-p 00000000 00:00 {len(path)} {''.join(path)}\n"
            for start, n, *path in mappings
        ]
        self.paths["maps"].write_text("".join(lines))

    def set(self, addresses, entry=PRESENT | SOFT_DIRTY):
        """These pages, and no others."""
        with open(self.paths["pagemap"], "r+b", buffering=0) as file:
            file.truncate(0)
            for address in addresses:
                put(file, address, [entry])

    @property
    def n_cleared(self):
        written = self.paths["clear_refs"].read_bytes()
        assert set(written) <= set(b"4")
        return len(written)


@pytest.fixture
def files(tmp_path, monkeypatch):
    fake = Files(tmp_path)
    for module in (process, soft_dirty):
        monkeypatch.setattr(module, "open_file", fake.open)
    monkeypatch.setattr(process, "page_sizes", lambda pid: {})
    monkeypatch.setattr(soft_dirty, "works", lambda: True)
    return fake


def test_exactly_the_pages_whose_bits_are_set(files):
    rng = np.random.default_rng(4)
    far = START + (1 << 40)
    mappings = [(START, 700), (far, 65)]
    files.map(*mappings)
    files.set([START])
    with SoftDirty(files.pid) as source:
        assert files.n_cleared == 1
        assert source.attach_s == 0
        intervals = []
        for number in range(8):
            if number == 4:  # one goes, one comes, one grows
                mappings = [(START, 900), (far + (1 << 40), 3)]
                files.map(*mappings)
            mapped = [start + page * PAGE for start, n in mappings for page in range(n)]
            written = set(rng.choice(mapped, rng.integers(0, len(mapped)), replace=False).tolist())
            files.set({*written, START - PAGE, START + 900 * PAGE})
            interval = source.collect()
            assert addresses(interval) == written
            assert files.n_cleared == number + 2
            intervals.append(interval)
    assert [interval.index for interval in intervals] == list(range(8))
    for before, after in pairwise(intervals):
        assert after.start_ns == before.end_ns
    assert {interval.provenance for interval in intervals} == {source.provenance}
    assert isinstance(source.provenance, Provenance)
    assert any("between the reading and the clearing" in s for s in source.provenance.blind_spots)
    for fd in files.opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    source.close()
    with pytest.raises(ClosedError):
        source.collect()


def test_hugetlb_pages_beside_small_ones(files, monkeypatch):
    huge = 0x40000000
    path = "/anon_hugepage (deleted)"
    place = (huge, huge + 4 * HUGE, 1, path)
    monkeypatch.setattr(process, "page_sizes", lambda pid: {place: HUGE})
    files.map((huge - 4 * PAGE, 4), (huge, 4 * 512, path))
    files.set([])
    with SoftDirty(files.pid) as source:
        files.set([huge - PAGE, huge, huge + 2 * HUGE + 7 * PAGE, huge + 2 * HUGE + 9 * PAGE])
        interval = source.collect()
    assert addresses(interval) == {huge - PAGE, huge, huge + 2 * HUGE}
    assert {region.page_bytes for region in interval.regions} == {PAGE, HUGE}


def test_reading_the_mappings_is_part_of_the_cost(files, monkeypatch):
    now = iter(range(1000, 100_000, 1000))
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(now))
    files.map((START, 10))
    with SoftDirty(files.pid) as source:
        follow, read = source.follow_mappings, []
        monkeypatch.setattr(source, "follow_mappings", lambda: read.append(next(now)) or follow())
        interval = source.collect()
    assert interval.end_ns - interval.collect_ns < read[0] < interval.end_ns


def test_a_clock_that_stands_still_gives_intervals_all_the_same(files, monkeypatch):
    monkeypatch.setattr(time, "monotonic_ns", lambda: 1000)
    files.map((START, 10))
    with SoftDirty(files.pid) as source:
        intervals = [source.collect() for _ in range(3)]
    assert [(i.start_ns, i.end_ns) for i in intervals] == [(1000, 1001), (1001, 1002), (1002, 1003)]


def test_the_end_of_the_memory_is_the_end(files):
    files.map((START, 10))
    with SoftDirty(files.pid) as source:
        source.collect()
        files.map()
        with pytest.raises(ProcessEnded):
            source.collect()
        assert files.n_cleared == 2


def test_nothing_to_follow(files):
    files.map((START, 10))
    with pytest.raises(ProcessError, match="no such memory mapped"):
        SoftDirty(files.pid, address_range(START - PAGE, START))
    for fd in files.opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert files.n_cleared == 0


# ---- when it is chosen -------------------------------------------------------------------------


def refuse_uffd(monkeypatch, number):
    def refuse(pid, layout, *, split_thp):
        raise ProcessError(number, "no userfaultfd for this process")

    monkeypatch.setattr(auto, "ProcessWrites", refuse)


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.EACCES, errno.EBUSY])
def test_auto_falls_back_where_it_works(files, monkeypatch, number):
    refuse_uffd(monkeypatch, number)
    files.map((START, 10))
    layout = address_range(START, START + 4 * PAGE)
    with open_process(files.pid, "auto", layout) as source:
        assert isinstance(source, SoftDirty)
        assert source.layout is layout
    with pytest.raises(ProcessError, match=r"^no userfaultfd for this process$"):
        open_process(files.pid, "uffd")


@pytest.mark.parametrize("number", [errno.EPERM, errno.ESRCH, errno.EEXIST, errno.ENXIO])
def test_auto_does_not_fall_back_where_that_is_no_help(files, monkeypatch, number):
    refuse_uffd(monkeypatch, number)
    files.map((START, 10))
    with pytest.raises(ProcessError, match=r"^no userfaultfd for this process$"):
        open_process(files.pid)
    assert files.opened == []


def test_auto_says_why_neither_works(files, monkeypatch):
    refuse_uffd(monkeypatch, errno.EACCES)
    monkeypatch.setattr(soft_dirty, "works", lambda: False)
    with pytest.raises(ProcessError, match=r"^no userfaultfd.*CONFIG_MEM_SOFT_DIRTY") as caught:
        open_process(files.pid)
    assert caught.value.errno == errno.EACCES


# ---- and for real ------------------------------------------------------------------------------


def test_a_kernel_without_the_bits_is_not_believed(monkeypatch):
    """Nor is one with the bits, if writing a page does not show in them."""
    if soft_dirty.works():
        monkeypatch.setattr(soft_dirty, "dirty_entries", lambda raw: np.zeros(len(raw) // 8, bool))
    with Target() as target:
        for open_it in (SoftDirty, lambda pid: open_process(pid, "soft-dirty")):
            with pytest.raises(
                ProcessError,
                match=r"^this kernel has no soft-dirty bits \(CONFIG_MEM_SOFT_DIRTY\); Linux 6\.7 "
                r"and later has something better: --source uffd$",
            ) as caught:
                open_it(target.pid)
            assert caught.value.errno == errno.ENOTSUP


@pytest.mark.usefixtures("soft_dirty")
def test_exactly_the_pages_written():
    with Target() as target:
        start = target.map(600)
        target.write(range(600))
        with SoftDirty(target.pid, address_range(start, start + 600 * PAGE)) as source:
            for pages in ([0, 7, 599], [], list(range(0, 600, 3)), [7]):
                target.write(pages)
                assert addresses(source.collect()) == {start + page * PAGE for page in pages}
            target.do("read", pages=list(range(600)))
            assert addresses(source.collect()) == set()
            target.do("read-into", pages=[5])
            assert addresses(source.collect()) == {start + 5 * PAGE}
            assert target.end() == 0
            with pytest.raises(ProcessEnded):
                source.collect()
