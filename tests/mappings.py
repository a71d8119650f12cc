"""Lists of a process's mappings: drawn at random, and one as Linux writes it."""

from dataclasses import replace

from hypothesis import strategies as st

from mempattern.sources.maps import Mapping, MapsParser

SMALL, HUGE = 4096, 2 << 20
MIB, GIB = 1 << 20, 1 << 30
TOP = 1 << 47  # of a process's addresses


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
