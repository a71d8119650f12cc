"""Huge pages of a traced process: split and counted, refused, or the unit."""

import pytest
from target import PAGE
from traced import addresses, huge_kib, is_watched, only, over

from mempattern.errors import ProcessError
from mempattern.sources import ProcessWrites
from mempattern.sources.layout import address_range

pytestmark = pytest.mark.usefixtures("uffd")

HUGE_PAGES = 512


def test_thp_is_followed_by_small_pages_and_counted(target):
    n_pages = 4 * HUGE_PAGES
    address = target.map(n_pages, "thp")
    target.write(range(n_pages))
    with ProcessWrites(target.pid, address_range(address, address + n_pages * PAGE)) as source:
        if source.huge_bytes == 0:
            pytest.skip("this kernel gave no transparent huge page")
        target.write([0, 700, 701])
        assert only(source.collect()) == [0, 700, 701]


def test_one_write_makes_a_huge_page_and_counts_as_one(target):
    n_pages = 4 * HUGE_PAGES
    address = target.map(n_pages, "thp")
    with over(target, address, n_pages) as source:
        target.write([700, 701, 1300])
        assert huge_kib(target.pid, address) > 0
        assert only(source.collect()) == [700, 701, 1300]
        target.write([699, 700])
        assert only(source.collect()) == [699, 700]


def test_thp_may_be_refused(target):
    n_pages = 4 * HUGE_PAGES
    address = target.map(n_pages, "thp")
    target.write(range(n_pages))
    with pytest.raises(ProcessError, match=r"huge pages.*--no-split-thp"):
        over(target, address, n_pages, split_thp=False)
    assert huge_kib(target.pid, address) >= 2048
    assert not is_watched(target.pid)


def test_huge_pages_that_come_later_are_left_whole(target):
    small = target.map(HUGE_PAGES)
    with ProcessWrites(target.pid, split_thp=False) as source:
        address = target.map(4 * HUGE_PAGES, "thp", name="huge")
        target.write(range(4 * HUGE_PAGES), name="huge")
        target.write([3])
        interval = source.collect()
        assert small + 3 * PAGE in addresses(interval)
        assert interval.lost_pages >= HUGE_PAGES
        assert huge_kib(target.pid, address) >= 2048


@pytest.mark.usefixtures("huge_pages")
def test_hugetlb_pages_are_the_unit(target):
    address = target.map(4 * HUGE_PAGES, "hugetlb")
    target.write(range(4 * HUGE_PAGES))
    with ProcessWrites(target.pid) as source:
        (region,) = [r for r in source.regions if r.page_bytes == 2 << 20]
        source.collect()
        target.write([HUGE_PAGES + 3, 3 * HUGE_PAGES])
        interval = source.collect()
        first = (address - region.address) // (2 << 20)
        assert interval.pages(region.name).tolist() == [first + 1, first + 3]
