"""Which parts of a guest's RAM are zero, sampled from outside, against what was put there."""

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np
import pytest
from guest_in_qemu import qemu_guest, wait_for
from hypothesis import given
from hypothesis import strategies as st

from mempattern.qemu.ram import guest_ram_blocks
from mempattern.regions import Region
from mempattern.sources.content import META, Content, sample_content
from mempattern.sources.layout import Block

MIB = 1 << 20


def resident_pages(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


@pytest.mark.qemu
@pytest.mark.usefixtures("qemu")
def test_parts_of_a_guest_that_hold_something_are_found_and_nothing_is_touched(tmp_path):
    fill = tmp_path / "fill"
    fill.write_bytes(os.urandom(64 * MIB))
    options = ("-device", f"loader,file={fill},addr={96 * MIB},force-raw=on")
    with qemu_guest("tcg", "pattern=idle", tmp_path, *options, memory=("-m", "256")) as guest:
        process, serial, _ = guest
        wait_for(process, serial, "pattern=")
        blocks = guest_ram_blocks(process.pid).blocks
        before = resident_pages(process.pid)
        content = sample_content(process.pid, blocks)
        touched = resident_pages(process.pid) - before
    ((name, parts),) = content.nonzero_pages.items()
    assert name == blocks[0].region.name
    assert len(parts) * content.part_pages == 256 * MIB // 4096
    start, end = (at * MIB // 4096 // content.part_pages for at in (96, 160))
    assert all(count == content.part_pages for count in parts[start:end])
    assert sum(map(bool, parts[end:])) <= 2  # a few pages of the firmware's
    assert touched < 64  # sampling the empty two thirds would make some 5000


@pytest.mark.skipif(os.geteuid() != 0, reason="who may not open map_files is told it is all data")
def test_shared_memory_that_is_not_mapped_at_the_moment_is_found_by_its_file():
    """As others have written it (vhost-user), or the kernel dropped it from the page table."""
    n_pages = 4096
    descriptor = os.memfd_create("ram")
    os.ftruncate(descriptor, n_pages * 4096)
    with mmap.mmap(descriptor, n_pages * 4096) as ram:
        for page in range(n_pages // 2):
            ram[page * 4096] = 1
        ram.madvise(mmap.MADV_DONTNEED)
        held = ctypes.c_char.from_buffer(ram)
        block = Block(Region("ram", n_pages), ctypes.addressof(held))
        content = sample_content(os.getpid(), [block])
        del held
        blocks_after = os.fstat(descriptor).st_blocks
    os.close(descriptor)
    assert content.nonzero_pages["ram"] == (64,) * 32 + (0,) * 32
    assert blocks_after == n_pages // 2 * 8  # its holes are none the fewer


def test_it_is_kept_in_a_trace_file():
    content = Content(128, {"ram": (128, 0, 5), "other": (1,)})
    assert Content.from_meta(content.to_meta()) == content


@given(st.text() | st.dictionaries(st.text(), st.integers()).map(str))
def test_what_makes_no_sense_in_a_file_is_left_out(text):
    assert Content.from_meta({META: text}) is None


@pytest.mark.parametrize(
    "text",
    ['{"part_pages": 0, "regions": {}}', '{"part_pages": 64, "regions": {"a": [-1]}}',
     '{"part_pages": 64, "regions": {"a": [1.5]}}', '{"part_pages": 65, "regions": {}}',
     '{"part_pages": true, "regions": {}}', "[" * 100_000],
)  # fmt: skip
def test_numbers_that_cannot_be_are_left_out(text):
    assert Content.from_meta({META: text}) is None


def test_a_part_may_be_short(tmp_path):
    """Our own memory, which we may read."""
    n_pages = 1000
    array = np.zeros(n_pages * 4096 + 4096, np.uint8)
    start = -(-array.ctypes.data // 4096) * 4096
    array[start - array.ctypes.data :][: 500 * 4096] = 1
    array[start - array.ctypes.data + 500 * 4096] = 0
    content = sample_content(os.getpid(), [Block(Region("mine", n_pages), start)])
    assert content.part_pages == 64
    parts = content.nonzero_pages["mine"]
    assert len(parts) == 16
    assert list(parts[:7]) == [64] * 7
    assert not any(parts[8:])
