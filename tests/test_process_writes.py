"""What another process writes is reported exactly, whatever kind of memory it is."""

import itertools
import random
import time

import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from target import KINDS, Target
from traced import file_of, only, over

from mempattern.errors import UsageError
from mempattern.sources import ProcessWrites, open_process

pytestmark = pytest.mark.usefixtures("uffd")

HUGE_PAGES = 512


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "hugetlb"])
def test_exactly_the_pages_written(target, tmp_path, kind):
    n_pages = 3000
    address = target.map(n_pages, kind, path=file_of(tmp_path, n_pages))
    target.write(range(0, n_pages, 2))
    choose = random.Random(kind)
    with over(target, address, n_pages) as source:
        for n_written in (0, 1, 7, 1200, n_pages, 3, 0):
            pages = sorted(choose.sample(range(n_pages), n_written))
            target.write(pages)
            interval = source.collect()
            seen = only(interval)
            if kind == "shared-file":  # a large folio of the page cache is mapped as a whole
                assert set(pages) <= set(seen)
                assert {page // HUGE_PAGES for page in seen} == {p // HUGE_PAGES for p in pages}
            else:
                assert seen == pages
            assert interval.lost_pages == 0
        assert only(source.collect()) == []


def test_more_scattered_pages_than_a_batch_takes(target):
    """Every second page of 8192 is 4096 ranges, four times what one scan returns."""
    address = target.map(8192)
    target.write(range(8192))
    with over(target, address, 8192) as source:
        for first, step in ((0, 2), (1, 2), (5, 64), (3, 17)):
            target.write(range(first, 8192, step))
            assert only(source.collect()) == list(range(first, 8192, step))


@examples(30)
@given(rounds=st.lists(st.sets(st.integers(0, 1100)), min_size=1, max_size=6))
def test_random_sets(shared_target, rounds):
    target, address = shared_target
    with over(target, address, 1101) as source:
        for pages in rounds:
            target.write(pages)
            assert only(source.collect()) == sorted(pages)


@pytest.fixture(scope="module")
def shared_target():
    with Target() as process:
        yield process, process.map(1101)


def test_reads_are_no_writes(target):
    address = target.map(600)
    target.write(range(100))
    with over(target, address, 600) as source:
        target.do("read", pages=list(range(600)))
        assert only(source.collect()) == []
        target.write([50, 300])
        assert only(source.collect()) == [50, 300]


def test_reads_of_a_file_are_no_writes(target, tmp_path):
    with_file = file_of(tmp_path, 600)
    address = target.map(600, "private-file", path=with_file)
    with over(target, address, 600) as source:
        target.do("read", pages=list(range(600)))
        assert only(source.collect()) == []
        target.write([7])
        assert only(source.collect()) == [7]


def test_untouched_neighbours_are_not_reported(target):
    """One write makes the page table of 2 MiB; the 511 empty entries beside it are no writes."""
    address = target.map(2048)
    with over(target, address, 2048) as source:
        target.write([1000])
        assert only(source.collect()) == [1000]
        target.write([1001])
        assert only(source.collect()) == [1001]
        assert only(source.collect()) == []


def test_the_kernel_writes_for_the_process(target):
    address = target.map(64)
    target.write(range(64))
    with over(target, address, 64) as source:
        target.do("read-into", pages=[3, 4, 60])
        assert only(source.collect()) == [3, 4, 60]


def test_a_disk_writes_for_the_process(target, tmp_path):
    """A read by O_DIRECT pins its pages as the kernel would write them, which counts."""
    address = target.map(64)
    target.write(range(64))
    with over(target, address, 64) as source:
        for pages in ([3, 4, 60], [4], []):
            target.do("read-into", pages=pages, path=file_of(tmp_path, 1))
            assert only(source.collect()) == pages


def test_a_forked_child_changes_nothing(target):
    address = target.map(256)
    target.write(range(256))
    with over(target, address, 256) as source:
        target.do("fork")
        assert only(source.collect()) == []
        target.write([9])
        assert only(source.collect()) == [9]


def test_discarded_pages(target):
    address = target.map(256)
    target.write(range(256))
    with over(target, address, 256) as source:
        target.do("discard", first=16, n=32)
        assert only(source.collect()) == []
        target.write([20])
        assert only(source.collect()) == [20]
        target.write([20, 40])
        assert only(source.collect()) == [20, 40]


def test_intervals_are_seamless(target):
    target.map(64)
    with ProcessWrites(target.pid) as source:
        intervals = list(source.intervals(period_s=0.02, count=5))
    for before, after in itertools.pairwise(intervals):
        assert after.start_ns == before.end_ns
        assert after.index == before.index + 1
    assert all(interval.collect_ns > 0 for interval in intervals)


def test_reading_the_mappings_is_part_of_the_cost(target, monkeypatch):
    with ProcessWrites(target.pid) as source:
        follow = source.follow_mappings
        read_ns = []

        def follow_and_look():
            read_ns.append(time.monotonic_ns())
            return follow()

        monkeypatch.setattr(source, "follow_mappings", follow_and_look)
        interval = source.collect()
    assert interval.end_ns - interval.collect_ns < read_ns[0] < interval.end_ns


def test_the_best_source_is_chosen(target):
    with open_process(target.pid) as source:
        assert isinstance(source, ProcessWrites)
    with pytest.raises(UsageError, match="source is"):
        open_process(target.pid, "best")
