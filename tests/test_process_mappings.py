"""Mappings of a traced process that move, change or go; and which are followed."""

import mmap

import pytest
from target import PAGE
from traced import addresses, only, over

from mempattern import GroupStats
from mempattern.errors import ProcessError, UsageError
from mempattern.sources import ProcessWrites
from mempattern.sources.layout import address_range, everything, named

pytestmark = pytest.mark.usefixtures("uffd")


def test_mapped_anew_at_the_same_place(target):
    """The list of mappings looks the same; what is written to the new one counts."""
    address = target.map(256)
    target.write(range(256))
    with over(target, address, 256) as source:
        target.do("remap")
        target.write([5, 6, 200])
        assert only(source.collect()) == [5, 6, 200]
        target.write([6])
        assert only(source.collect()) == [6]


def test_mremap_takes_the_pages_along(target):
    address = target.map(64)
    target.write(range(64))
    with ProcessWrites(target.pid) as source:
        source.collect()
        moved = target.do("resize", n_pages=4096)
        target.write([1, 4000])
        written = addresses(source.collect())
        assert {moved + 1 * PAGE, moved + 4000 * PAGE} <= written
        if moved != address:  # all that was moved is new where it is now
            assert {moved + page * PAGE for page in range(64)} <= written
        target.write([2])
        written = addresses(source.collect())
        assert moved + 2 * PAGE in written
        assert moved + 3 * PAGE not in written


def test_mappings_come_and_go(target):
    with ProcessWrites(target.pid) as source:
        stats = GroupStats(source.regions)
        for turn in range(4):
            name = f"n{turn}"
            address = target.map(300, name=name)
            pages = [1, 2, 299 - turn]
            target.write(pages, name=name)
            interval = source.collect()
            stats.follow(interval.regions)
            assert stats.update(interval).dirty_pages >= 3
            written = addresses(interval)
            inside = {a for a in written if address <= a < address + 300 * PAGE}
            assert inside == {address + page * PAGE for page in pages}
            if turn % 2:
                target.do("unmap", name=name)
        names = [region.name for region in source.regions]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("protection", [0, mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_EXEC])
def test_written_and_then_made_read_only(target, protection):
    address = target.map(256)
    target.write(range(256))
    with ProcessWrites(target.pid) as source:
        source.collect()
        target.write([3, 40, 90])
        target.do("protect", first=0, n=64, protection=protection)
        assert within(source.collect(), address, 256) == [3, 40, 90]
        target.write([100])
        assert within(source.collect(), address, 256) == [100]
        target.do("protect", first=0, n=64, protection=mmap.PROT_READ | mmap.PROT_WRITE)
        target.write([5])
        assert within(source.collect(), address, 256) == [5]


def within(interval, address, n_pages):
    """The dirty pages of a mapping, as numbers of its own."""
    pages = sorted((written - address) // PAGE for written in addresses(interval))
    return [page for page in pages if 0 <= page < n_pages]


def test_named_mappings_and_all(target):
    address = target.map(64, "memfd")
    target.write(range(64))
    with ProcessWrites(target.pid, named("memfd:target")) as source:
        target.write([0, 63])
        interval = source.collect()
        assert addresses(interval) == {address, address + 63 * PAGE}
    with ProcessWrites(target.pid, everything()) as source:
        target.write([1])
        assert address + PAGE in addresses(source.collect())


def test_a_range_that_is_not_mapped(target):
    with pytest.raises(ProcessError, match="no such memory mapped"):
        ProcessWrites(target.pid, address_range(1 << 40, (1 << 40) + PAGE))
    with pytest.raises(ProcessError, match="no such memory mapped"):
        ProcessWrites(target.pid, named("no-such-name"))


@pytest.mark.parametrize(("low", "high"), [(0, 0), (4096, 0), (1, 4097), (-4096, 0), (0, 1 << 65)])
def test_ranges_that_are_none(low, high):
    with pytest.raises(UsageError, match="a range is"):
        address_range(low, high)
