"""Where a process's mappings are put in regions: a model, and a list as Linux writes it."""

import os
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from target import Target

from mempattern import GroupStats, Region
from mempattern.errors import ProcessError, UsageError
from mempattern.sources import maps
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
from mempattern.sources.maps import Mapping, MapsParser, page_sizes, read_mappings

SMALL, HUGE = 4096, 2 << 20
MIB, GIB = 1 << 20, 1 << 30
TOP = 1 << 47  # of a process's addresses

# ---- spans, at random --------------------------------------------------------------------------


def lay(mappings, start, end, new=None):
    """As mmap(MAP_FIXED) or munmap do: the mappings with that range cut out, and `new` in it."""
    left = [] if new is None else [new]
    for m in mappings:
        low = max(m.start, start // m.page_bytes * m.page_bytes)
        high = min(m.end, -(-end // m.page_bytes) * m.page_bytes)
        if low >= high:
            left.append(m)
            continue
        if m.start < low:
            left.append(replace(m, end=low))
        if high < m.end:
            left.append(replace(m, start=high))
    return sorted(left, key=lambda m: m.start)


@st.composite
def steps(draw):
    """Lists of mappings, each made of the one before by mapping, unmapping, growing, in places
    where much meets.
    """
    places = [0, 64 * MIB, GIB, GIB + 64 * MIB, GIB + 130 * MIB, 0x5555_5540_0000, TOP]
    mappings, made = [], []
    for _ in range(draw(st.integers(1, 8))):
        for _ in range(draw(st.integers(0, 4))):
            page_bytes = draw(st.sampled_from([SMALL, SMALL, HUGE]))
            length = draw(st.sampled_from([1, 3, 511, 512, 513, 5000])) * page_bytes
            what = draw(st.sampled_from(["map", "map", "unmap", "grow up", "grow down"]))
            if what.startswith("grow") and mappings:
                old = draw(st.sampled_from(mappings))
                page_bytes = old.page_bytes
                length = length // page_bytes * page_bytes or page_bytes
                low = old.start - length * (what == "grow down")
                high = old.end + length * (what == "grow up")
                name = old.path
            else:
                n = draw(st.integers(-3, 3) | st.sampled_from([-600, -64, 64, 512, 600]))
                low = draw(st.sampled_from(places)) + n * page_bytes
                high = low + length
                name = draw(st.sampled_from(["", "[heap]", "/lib/a b", "/x\n", "/anon@0", "[]"]))
            low, high = max(0, low), min(TOP, high)
            if low < high:
                permissions = draw(st.sampled_from(["rw-p", "rw-p", "rw-s", "r--p"]))
                inode = draw(st.sampled_from([0, 5]))
                new = Mapping(low, high, permissions, 0, inode, name, page_bytes)
                mappings = lay(mappings, low, high, None if what == "unmap" else new)
        made.append(mappings)
    return made


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

MAPS = r"""
55d0c8a00000-55d0c8a28000 r--p 00000000 fd:01 1835021                    /usr/bin/qemu-system-x86_64
55d0c8a28000-55d0c8b00000 r-xp 00028000 fd:01 1835021                    /usr/bin/qemu-system-x86_64
55d0c8b00000-55d0c8b10000 rw-p 00100000 fd:01 1835021                    /usr/bin/qemu-system-x86_64
55d0c9d00000-55d0c9e21000 rw-p 00000000 00:00 0                          [heap]
7b0000000000-7d0000000000 ---p 00000000 00:00 0~
7d0000000000-7d8000000000 rw-p 00000000 00:00 0~
7d8000000000-7d8000001000 ---p 00000000 00:00 0~
7e0000000000-7e0040000000 rw-s 00000000 00:01 2051                       /memfd:pc.ram (deleted)
7e0040000000-7e0040400000 rw-s 00000000 00:0f 31415                     /dev/hugepages/ram (deleted)
7e0050000000-7e0050001000 rw-s 00000000 00:01 1033                       /dev/zero (deleted)
7e0050002000-7e0050003000 rw-s 00000000 00:1a 7                          /dev/shm/a b\012c
7e0050004000-7e0050006000 rw-s 100000000 00:06 389                       /dev/dri/renderD128
7e0050008000-7e005000b000 rw-s 00000000 00:0e 1063                       anon_inode:kvm-vcpu:0
7e005000c000-7e005000d000 rw-s 00000000 00:11 99                         /[aio] (deleted)
7e0050010000-7e0050011000 rw-p 00000000 fd:01 42                         /srv/two  blanks~
7e0050012000-7e0050013000 rw-p 00000000 00:00 0                          [anon:arena]
7ffc7a5c0000-7ffc7a5e1000 rw-p 00000000 00:00 0                          [stack]
7ffc7a5f4000-7ffc7a5f8000 r--p 00000000 00:00 0                          [vvar]
7ffc7a5f8000-7ffc7a5fa000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
""".replace("~", " ")


def parse(text, sizes=None):
    return MapsParser(lambda: sizes or {}).parse(text)


AT_HUGE = (0x7E00_4000_0000, 0x7E00_4040_0000, 31415, "/dev/hugepages/ram (deleted)")
HUGE_ONES = {AT_HUGE: HUGE}


def names_of(layout):
    """Names of the mappings it selects, in order."""
    mappings = parse(MAPS, HUGE_ONES)
    _, placed = layout.place(mappings)
    by_start = {m.start: m.name for m in mappings}
    return [by_start[part.start] for part in sorted(placed, key=lambda part: part.start)]


def test_a_list_is_read():
    mappings = parse(MAPS, HUGE_ONES)
    assert len(mappings) == 19  # [vsyscall] is the kernel's
    program, heap = mappings[2], mappings[3]
    assert program == Mapping(
        0x55D0_C8B0_0000, 0x55D0_C8B1_0000, "rw-p", 0x100000, 1835021, "/usr/bin/qemu-system-x86_64"
    )
    assert (program.name, program.is_private_file) == ("qemu-system-x86_64", True)
    assert (heap.name, heap.is_private_file) == ("heap", False)
    assert [m.name for m in mappings[4:]] == [
        "anon", "anon", "anon", "memfd:pc.ram", "ram", "zero", r"a b\012c", "renderD128",
        "anon_inode:kvm-vcpu:0", "[aio]", "two  blanks ",
        "anon:arena", "stack", "vvar", "vdso",
    ]  # fmt: skip
    assert [m.page_bytes for m in mappings if m.page_bytes != SMALL] == [HUGE]
    assert mappings[11].offset == 0x100000000
    assert not any(m.page_bytes != SMALL for m in parse(MAPS))


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


def test_lines_that_are_none_are_left_out():
    assert parse("") == []
    assert parse("\nnonsense\n1000-2000 rw-p\n") == []


def test_what_looks_like_a_line_within_a_path_is_none():
    """The kernel writes \\n as \\012, and all other characters as they are."""
    line = "1000-2000 rw-p 00000000 00:00 0 [heap]"
    for end in "\r\v\f\x1c\x85\u2028":
        (mapping,) = parse(f"5000-6000 rw-p 00000000 fd:01 7      /tmp/x{end}{line}\n")
        assert (mapping.start, mapping.path) == (0x5000, f"/tmp/x{end}{line}")


def test_page_sizes_are_asked_for_new_places_that_may_be_huge():
    asked = []

    def sizes():
        asked.append(1)
        return HUGE_ONES

    parser = MapsParser(sizes)
    first = parser.parse(MAPS)
    assert first == parse(MAPS, HUGE_ONES)
    assert len(asked) == 1
    heap = MAPS.replace("55d0c9e21000 rw-p", "55d0c9f21000 rw-p")
    assert parser.parse(heap)[3].end == 0x55D0_C9F2_1000
    grown = heap.replace("7e0050000000-7e0050001000", "7e0050200000-7e0050400000")
    anonymous = "201000-203000 rw-s 00000000 00:0f 3 /file\n400000-800000 rw-p 00000000 00:00 0 \n"
    locked = heap.replace("7e0040400000 rw-s", "7e0040400000 r--s")
    for text in (heap, anonymous + heap, locked):
        parsed = parser.parse(text)
        assert [m.start for m in parsed if m.page_bytes == HUGE] == [AT_HUGE[0]]
        assert parsed == parse(text, HUGE_ONES)
    assert len(asked) == 1
    assert parser.parse(grown) == parse(grown, HUGE_ONES)
    assert len(asked) == 2
    assert parser.parse("") == []
    assert parser.parse(MAPS) == first
    assert len(asked) == 3


@given(made=steps())
def test_a_list_is_read_as_if_it_were_the_first(made):
    parser = MapsParser(lambda: sizes)
    for drawn in made:
        mappings = [
            replace(m, path=m.path.strip(), inode=m.inode or m.page_bytes // HUGE) for m in drawn
        ]
        sizes = {m.place: m.page_bytes for m in mappings}
        text = "".join(
            f"{m.start:x}-{m.end:x} {m.permissions} {m.offset:08x} 00:00 {m.inode} {m.path}\n"
            for m in mappings
        )
        assert parser.parse(text) == mappings


def test_a_real_list(tmp_path, monkeypatch):
    file = tmp_path / "a b\r1000-2000 rw-p 00000000 00:00 0 [heap]\nKernelPageSize: 2048 kB"
    file.write_bytes(b"x" * 4096)
    with Target() as target:
        start = target.map(1, "private-file", path=str(file))
        mappings = read_mappings(target.pid)
        monkeypatch.setattr(maps, "machine_has_hugetlb", lambda: True)
        sizes = page_sizes(target.pid)
    (mapping,) = [m for m in mappings if m.start == start]
    assert mapping.path == str(file).replace("\n", r"\012")
    assert mapping.inode == os.stat(file).st_ino
    assert [m.name for m in mappings].count("heap") == 1
    assert {m.place for m in mappings} <= set(sizes)
    assert set(sizes.values()) == {SMALL}
    assert all(a.end <= b.start for a, b in pairwise(mappings))


def test_the_list_of_no_process():
    with pytest.raises(ProcessError, match="the mappings of process 4194303: No such file"):
        read_mappings((1 << 22) - 1)


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
