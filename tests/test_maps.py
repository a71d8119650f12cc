"""A process's list of mappings as Linux writes it, and as it is read again and again."""

import os
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from mappings import AT_HUGE, HUGE, HUGE_ONES, MAPS, SMALL, parse, steps
from target import Target

from mempattern.errors import ProcessError
from mempattern.sources import maps
from mempattern.sources.maps import Mapping, MapsParser, page_sizes, read_mappings


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
