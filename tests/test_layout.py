"""Where a process's mappings are put in regions, against a model and by hand."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mappings import GIB, HUGE, HUGE_ONES, MAPS, MIB, SMALL, parse, steps

from mempattern import GroupStats, Region
from mempattern.errors import UsageError
from mempattern.sources.layout import (
    Block,
    Placed,
    SpanAt,
    Spans,
    address_range,
    everything,
    guest_ram,
    named,
    writable_memory,
)
from mempattern.sources.maps import Mapping

# ---- spans, at random --------------------------------------------------------------------------


def check_growth(before, after, group_pages):
    """Every region is still there, in order, and grew by whole groups in front at most."""
    for old, new in zip(before, after[: len(before)], strict=True):
        assert (new.name, new.page_bytes) == (old.name, old.page_bytes)
        in_front = old.address - new.address
        assert in_front >= 0
        assert in_front % (max(group_pages, 512) * new.page_bytes) == 0
        assert end_of(new) >= end_of(old)


def end_of(region):
    return region.address + region.n_pages * region.page_bytes


def check_regions(regions):
    names = [region.name for region in regions]
    assert len(set(names)) == len(names)
    assert all(name and name.isprintable() for name in names)
    for page_bytes in (SMALL, HUGE):
        of_size = sorted(
            (region.address, end_of(region))
            for region in regions
            if region.page_bytes == page_bytes
        )
        assert all(a[1] <= b[0] for a, b in pairwise(of_size))


def check_parts(selected, regions, placed):
    """The parts are the mappings, cut where one region ends and the next begins."""
    parts = sorted(placed, key=lambda part: part.start)
    for mapping in selected:
        at = mapping.start
        while at < mapping.end:
            part = parts.pop(0)
            assert part.start == at
            at = part.end
            assert part.page_bytes == mapping.page_bytes
            assert part.is_private_file == mapping.is_private_file
        assert at == mapping.end
    assert not parts
    for part in placed:
        region = regions[part.region]
        assert part.page_bytes == region.page_bytes
        assert part.start == region.address + part.first_page * region.page_bytes
        assert region.address <= part.start < part.end <= end_of(region)


def follow(mapping, selects, keeps, placed):
    """The mapping; or its pages that were placed before: found by cutting it at every edge."""
    if selects(mapping):
        return [mapping]
    if not keeps(mapping):
        return []
    size = mapping.page_bytes
    edges = {mapping.start, mapping.end}
    for part in placed:
        edges |= {part.start // size * size, -(-part.end // size) * size}
    edges = sorted(edge for edge in edges if mapping.start <= edge <= mapping.end)
    parts = []
    for low, high in pairwise(edges):
        if any(part.start < high and low < part.end for part in placed):
            joins = parts and parts[-1].end == low
            start = parts.pop().start if joins else low
            parts.append(replace(mapping, start=start, end=high))
    return parts


@given(made=steps(), group_pages=st.sampled_from([1, 64, 512, 4096]), writable_only=st.booleans())
def test_regions_only_grow_and_every_page_is_in_one(made, group_pages, writable_only):
    def selects(mapping):
        return not writable_only or "w" in mapping.permissions

    def keeps(mapping):
        return mapping.path != "/lib/a b"

    spans = Spans(selects, group_pages, keeps)
    stats, before, placed = None, (), []
    for mappings in made:
        followed = [part for m in mappings for part in follow(m, selects, keeps, placed)]
        regions, placed = spans.place(mappings)
        check_growth(before, regions, group_pages)
        check_regions(regions)
        check_parts(followed, regions, placed)
        assert spans.place(mappings) == (regions, placed)
        if regions and group_pages >= 64:
            stats = stats or GroupStats(regions, group_pages)
            stats.follow(regions)
        before = regions


# ---- spans, by hand ----------------------------------------------------------------------------


def anon(start, end, **more):
    return replace(Mapping(start, end, "rw-p", 0, 0, ""), **more)


def place(*lists):
    """The regions of each list of mappings as (name, address, pages), and the last list's parts."""
    spans = Spans(lambda _: True)
    for mappings in lists:
        regions, placed = spans.place(mappings)
    return [(r.name, r.address, r.n_pages) for r in regions], placed


def test_a_region_begins_and_ends_with_a_group():
    regions, placed = place([anon(GIB + 5 * SMALL, GIB + 9 * SMALL)])
    assert regions == [(f"anon@{GIB + 5 * SMALL:x}", GIB, 512)]
    assert placed == [Placed(GIB + 5 * SMALL, GIB + 9 * SMALL, 0, 5, SMALL, False)]


def test_a_mapping_near_by_makes_a_region_grow_either_way():
    heap = anon(GIB, GIB + HUGE, path="[heap]")
    near = 66 * MIB  # there are 64 MiB between
    assert place([heap], [anon(GIB + near, GIB + near + SMALL)])[0] == [
        ("heap", GIB, 34 * 512),
    ]
    assert place([heap], [heap, anon(GIB - near, GIB - near + SMALL)])[0] == [
        ("heap", GIB - near, 34 * 512),
    ]
    far = near + HUGE
    assert place([heap], [heap, anon(GIB + far, GIB + far + SMALL)])[0] == [
        ("heap", GIB, 512),
        (f"anon@{GIB + far:x}", GIB + far, 512),
    ]


def test_the_nearer_region_grows_and_a_mapping_may_lie_in_two():
    low, high = anon(GIB, GIB + HUGE, path="/a"), anon(GIB + 100 * MIB, GIB + 102 * MIB, path="/b")
    between = anon(GIB + 90 * MIB, GIB + 92 * MIB)
    across = anon(GIB, GIB + 102 * MIB)
    regions, placed = place([low, high], [between], [across])
    assert regions == [("a", GIB, 45 * 512), ("b", GIB + 90 * MIB, 6 * 512)]
    assert [(p.region, p.first_page, p.end - p.start) for p in placed] == [
        (0, 0, 90 * MIB),
        (1, 0, 12 * MIB),
    ]


@pytest.mark.parametrize("small_first", [True, False])
def test_small_pages_within_a_step_of_huge_ones(small_first):
    """A step of 512 huge pages is a GiB, in which there is much else."""
    small = anon(GIB + 3 * SMALL, GIB + 8 * SMALL)
    huge = anon(GIB + 10 * HUGE, GIB + 12 * HUGE, page_bytes=HUGE, path="/huge", inode=3)
    lists = [[small], [small, huge]] if small_first else [[huge], [small, huge]]
    regions, placed = place(*lists)
    assert sorted(regions) == [(f"anon@{small.start:x}", GIB, 512), ("huge", GIB, 512)]
    by_size = {part.page_bytes: (part.first_page, part.start) for part in placed}
    assert by_size == {SMALL: (3, small.start), HUGE: (10, huge.start)}


def test_huge_pages_where_small_ones_were():
    file = anon(GIB, GIB + HUGE, path="/dev/shm/ram", inode=3)
    regions, placed = place([file], [replace(file, page_bytes=HUGE)])
    assert regions == [("ram", GIB, 512), (f"ram@{GIB:x}", GIB, 512)]
    assert placed == [Placed(GIB, GIB + HUGE, 1, 0, HUGE, True)]


def test_names_are_never_given_twice():
    far = [n * GIB for n in range(1, 5)]
    regions, _ = place(
        [
            anon(far[0], far[0] + SMALL, path="/x"),
            anon(far[1], far[1] + SMALL, path=f"/x@{far[2]:x}"),
            anon(far[2], far[2] + SMALL, path="/y/x (deleted)"),
            anon(far[3], far[3] + SMALL, path="/tab\tand\x1bescape"),
        ]
    )
    names = [name for name, *_ in regions]
    assert names == ["x", f"x@{far[2]:x}", f"x@{far[2]:x}'", "tab?and?escape"]


def placed_ranges(layout, *lists):
    """What is placed of each list, as (first page, end page) from a GiB on."""
    return [
        [((p.start - GIB) // SMALL, (p.end - GIB) // SMALL) for p in layout.place(mappings)[1]]
        for mappings in lists
    ]


def test_what_became_read_only_is_placed_until_it_is_unmapped():
    heap = anon(GIB, GIB + 8 * SMALL)
    locked = replace(heap, permissions="r--p")
    reserved = anon(GIB - MIB, GIB + (2 << 40), permissions="---p")  # merged into a larger one
    file = replace(locked, end=GIB + 2 * SMALL, inode=7, path="/lib.so")
    assert placed_ranges(
        writable_memory(), [locked], [heap], [locked], [reserved], [reserved], [file], [locked], []
    ) == [[], [(0, 8)], [(0, 8)], [(0, 8)], [(0, 8)], [(0, 2)], [(0, 2)], []]


def test_parts_that_became_read_only():
    low, high = anon(GIB, GIB + 2 * SMALL), anon(GIB + 5 * SMALL, GIB + 6 * SMALL)
    across = anon(GIB + SMALL, GIB + 9 * SMALL, permissions="r-xp")
    device = replace(across, path="/dev/dri/card0", inode=3)
    assert placed_ranges(writable_memory(), [low, high], [across], [device], [across]) == [
        [(0, 2), (5, 6)],
        [(1, 2), (5, 6)],
        [],
        [],
    ]


def test_what_was_named_and_is_another_one_by_now():
    heap = anon(GIB, GIB + SMALL, path="[heap]")
    assert placed_ranges(named("heap"), [heap], [replace(heap, path="")]) == [[(0, 1)], []]


@pytest.mark.parametrize("group_pages", [0, -512, 3, 192, 1.5, "512", None, 1 << 40])
def test_group_pages_that_no_span_can_have(group_pages):
    with pytest.raises(UsageError, match="group_pages must be a power of two to follow a process"):
        writable_memory(group_pages)


# ---- a list as Linux writes it -----------------------------------------------------------------


def names_of(layout):
    """Names of the mappings it selects, in order."""
    mappings = parse(MAPS, HUGE_ONES)
    _, placed = layout.place(mappings)
    by_start = {m.start: m.name for m in mappings}
    return [by_start[part.start] for part in sorted(placed, key=lambda part: part.start)]


def test_what_is_writable_memory():
    assert names_of(writable_memory()) == [
        "qemu-system-x86_64", "heap", "anon", "memfd:pc.ram", "ram", "zero", r"a b\012c",
        "two  blanks ", "anon:arena", "stack",
    ]  # fmt: skip


def test_everything_has_also_what_is_read_only():
    """But for 2 TiB of reserved addresses, the kernel's own, and devices."""
    assert names_of(everything()) == [
        *["qemu-system-x86_64"] * 3, "heap", "anon", "anon", "memfd:pc.ram", "ram", "zero",
        r"a b\012c", "two  blanks ", "anon:arena", "stack",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("heap", 1),
        ("[heap]", 1),
        ("qemu-system-x86_64", 3),
        ("/usr/bin/qemu-system-x86_64", 3),
        ("memfd:pc.ram", 1),
        ("two  blanks ", 1),
        (r"/dev/shm/a b\012c", 1),
        ("vdso", 1),
        ("vsyscall", 0),
        ("a b", 0),
        ("", 3),  # the path of anonymous memory
    ],
)
def test_by_name(name, n):
    assert len(names_of(named(name))) == n


# ---- fixed places ------------------------------------------------------------------------------


def test_blocks_take_what_lies_in_them():
    ram = Region("ram", 1024, address=GIB)
    rom = Region("rom", 4)
    huge = Region("huge", 3, HUGE, address=4 * GIB)
    blocks = guest_ram(
        [Block(ram, 0x7000_0000_0000), Block(rom, 0x7100_0000_0000), Block(huge, 0x7200_0000_0000)]
    )
    assert blocks.place([]) == ((ram, rom, huge), [])
    regions, placed = blocks.place(
        [
            anon(0x6FFF_FFFF_F000, 0x7000_0000_2000),
            anon(0x7000_0000_5000, 0x7000_0050_0000, inode=9),
            anon(0x7200_0000_0000, 0x7200_0000_1000),  # not of the pages that the block has
            anon(0x7200_0020_0000, 0x7200_0080_0000, page_bytes=HUGE),
        ]
    )
    assert regions == (ram, rom, huge)
    assert placed == [
        Placed(0x7000_0000_0000, 0x7000_0000_2000, 0, 0, SMALL, False),
        Placed(0x7000_0000_5000, 0x7000_0040_0000, 0, 5, SMALL, True),
        Placed(0x7200_0020_0000, 0x7200_0060_0000, 2, 1, HUGE, False),
    ]


def test_a_range_of_addresses():
    layout = address_range(0x55D0_C9E2_0000, 0x7D00_0000_2000)
    (region,), placed = layout.place(parse(MAPS, HUGE_ONES))
    assert region.name == "55d0c9e20000-7d0000002000"
    assert (region.address, end_of(region)) == (0x55D0_C9E2_0000, 0x7D00_0000_2000)
    assert [(p.start, p.end - p.start, p.first_page) for p in placed] == [
        (0x55D0_C9E2_0000, 0x1000, 0),
        (0x7B00_0000_0000, 2 << 40, (0x7B00_0000_0000 - region.address) // SMALL),
        (0x7D00_0000_0000, 0x2000, (0x7D00_0000_0000 - region.address) // SMALL),
    ]
    assert address_range(0, 1 << 64).place([])[0][0].n_pages == 1 << 52


def test_a_region_is_found_by_its_printed_name_and_keeps_to_it():
    """NAME@ADDRESS: the one region that the address lies in, also after it has grown."""
    far = [Mapping(start, start + MIB, "rw-p", 0, 0, "") for start in (GIB, 8 * GIB, 16 * GIB)]
    names = [region.name for region in writable_memory().place(far)[0]]
    assert names == ["anon@40000000", "anon@200000000", "anon@400000000"]
    layout = SpanAt(writable_memory(), 8 * GIB)
    (before,), (placed,) = layout.place(far)
    assert (before.name, before.address, before.n_pages) == ("anon@200000000", 8 * GIB, 512)
    assert (placed.start, placed.region, placed.first_page) == (8 * GIB, 0, 0)
    below = Mapping(8 * GIB - 4 * MIB, 8 * GIB - 2 * MIB, "rw-p", 0, 0, "")
    (after,), placed = layout.place(sorted([*far, below], key=lambda m: m.start))
    assert after.address == 8 * GIB - 4 * MIB
    assert [(part.region, part.first_page) for part in placed] == [(0, 0), (0, 1024)]
    assert SpanAt(writable_memory(), 3 * GIB).place(far) == ((), [])
