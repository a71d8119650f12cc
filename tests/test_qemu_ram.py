"""Guest RAM is where we say: the guest's own counters and QEMU's monitor are the witnesses."""

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from guest_in_qemu import dump_memory, qemu_guest, wait_for
from guest_program import guest_model

from mempattern.errors import ProcessError, QMPError
from mempattern.monitor.qmp import QMP
from mempattern.qemu.ram import guest_ram_blocks, is_qemu

MIB = 1 << 20
GIB = 1 << 30

# ---- against real QEMU --------------------------------------------------------------------------

N_STEPS = 3000
N_PAGES = 7000  # 16 to 43 MiB: over the edge of a node of 32 MiB, below the scratch of the BIOS
LINE = f"pattern=uniform pages={N_PAGES} seed=5 steps={N_STEPS}"


@contextmanager
def ready_guest(tmp_path, *options, accel="tcg", **more):
    """A guest that has done its steps; gives QEMU's pid, its QMP socket and its monitor."""
    qmp = tmp_path / "qmp"
    options = ("-qmp", f"unix:{qmp},server=on,wait=off", *options)
    with qemu_guest(accel, LINE, tmp_path, *options, **more) as (process, serial, monitor):
        wait_for(process, serial, "done")
        yield process.pid, qmp, monitor


def read_guest(pid, ram, address, n_bytes):
    """Guest-physical memory, through the blocks."""
    data = bytearray()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        while len(data) < n_bytes:
            at = address + len(data)
            (block,) = [b for b in ram.blocks if b.region.address <= at < end_of(b.region)]
            memory.seek(block.host_start + at - block.region.address)
            data += memory.read(min(n_bytes - len(data), end_of(block.region) - at))
    return bytes(data)


def end_of(region):
    return region.address + region.n_pages * region.page_bytes


def assert_counters(pid, ram):
    """The guest has counted its writes to each page of its own, in the page."""
    expected = np.zeros(N_PAGES, np.int64)
    for page, writes in Counter(guest_model.pages(LINE, N_STEPS)).items():
        expected[page] += writes
    data = np.frombuffer(read_guest(pid, ram, 16 * MIB, N_PAGES * 4096), "<u4")
    assert np.array_equal(data.reshape(N_PAGES, 1024)[:, 0], expected)


def shape(ram):
    return [
        (block.region.name, block.region.address, end_of(block.region), block.region.page_bytes)
        for block in ram.blocks
    ]


@pytest.mark.usefixtures("qemu")
@pytest.mark.parametrize("accel", ["tcg", "kvm"])
def test_plain_ram(accel, tmp_path, request):
    if accel == "kvm":
        request.getfixturevalue("kvm")
    with ready_guest(tmp_path, "-vga", "std", accel=accel) as (pid, qmp, _):
        assert is_qemu(pid)
        told = guest_ram_blocks(pid, qmp)
        assert shape(told) == [("pc.ram", 0, 64 * MIB, 4096)]
        assert told.found_by.startswith("QMP")
        assert "vga.vram" in told.left_out
        assert_counters(pid, told)
        seen = guest_ram_blocks(pid)
        assert shape(seen) == [("ram", 0, 64 * MIB, 4096)]
        assert seen.found_by.startswith("mappings")
        assert seen.blocks[0].host_start == told.blocks[0].host_start
        assert guest_ram_blocks(pid, qmp) == told  # the first session let go of the socket


@pytest.mark.usefixtures("qemu")
@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_ram_on_both_sides_of_4_gib(machine, tmp_path):
    """The guest is a 32-bit one: above 4 GiB, what we write QEMU's monitor must see."""
    memory = ("-machine", machine, "-m", "size=5G,slots=2,maxmem=8G")
    with ready_guest(tmp_path, memory=memory) as (pid, qmp, monitor):
        ram = guest_ram_blocks(pid, qmp)
        hole = 3 * GIB if machine == "pc" else 2 * GIB
        assert shape(ram) == [
            ("pc.ram@0x0", 0, hole, 4096),
            ("pc.ram@0x100000000", 4 * GIB, 9 * GIB - hole, 4096),
        ]
        low, high = ram.blocks
        assert high.host_start - low.host_start == hole
        assert_counters(pid, ram)
        for block in ram.blocks:
            for offset in (0x3000000, block.region.n_pages * 4096 - 4096):
                mark = os.urandom(4096)
                with open(f"/proc/{pid}/mem", "r+b", buffering=0) as of_qemu:
                    of_qemu.seek(block.host_start + offset)
                    of_qemu.write(mark)
                dump = tmp_path / "dump"
                dump_memory(monitor, block.region.address + offset, 4096, dump)
                assert dump.read_bytes() == mark
        seen = guest_ram_blocks(pid)
        assert shape(seen) == [("ram", 0, 5 * GIB, 4096)]  # one RAM block: offsets within it
        assert seen.blocks[0].host_start == low.host_start


def _nodes(kind, size="32M"):
    options = []
    for i in range(2):
        options += ["-object", f"memory-backend-{kind},id=node{i},size={size}"]
        options += ["-numa", f"node,memdev=node{i}"]
    return options


BACKENDS = {
    "memfd": ["-object", "memory-backend-memfd,id=mem,size=64M", "-machine", "memory-backend=mem"],
    "json": [
        "-object", '{"qom-type":"memory-backend-memfd","id":"mem","size":67108864}',
        "-machine", "memory-backend=mem",
    ],
    "shared": [
        "-object", "memory-backend-ram,id=mem,size=64M,share=on", "-machine", "memory-backend=mem",
    ],
    "file": [
        "-object", "memory-backend-file,id=mem,size=64M,mem-path={file},share=on",
        "-machine", "memory-backend=mem",
    ],
    "private file": [
        "-object", "memory-backend-file,id=mem,size=64M,mem-path={file}",
        "-machine", "memory-backend=mem",
    ],
    "mem-path": ["-mem-path", "{directory}"],
    "canonical path": [
        "-object", "memory-backend-ram,id=mem,size=64M,x-use-canonical-path-for-ramblock-id=on",
        "-machine", "memory-backend=mem",
    ],
}  # fmt: skip


@pytest.mark.usefixtures("qemu")
@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_backends(backend, tmp_path):
    places = {"{file}": str(tmp_path / "ram"), "{directory}": str(tmp_path)}
    options = BACKENDS[backend]
    for mark, place in places.items():
        options = [option.replace(mark, place) for option in options]
    name = "pc.ram" if backend == "mem-path" else "mem"
    with ready_guest(tmp_path, *options) as (pid, qmp, _):
        told = guest_ram_blocks(pid, qmp)
        assert shape(told) == [(name, 0, 64 * MIB, 4096)]
        assert_counters(pid, told)
        assert guest_ram_blocks(pid).blocks[0].host_start == told.blocks[0].host_start


@pytest.mark.usefixtures("qemu")
@pytest.mark.parametrize("kind", ["ram", "memfd"])
def test_nodes_of_equal_size(kind, tmp_path):
    with ready_guest(tmp_path, *_nodes(kind)) as (pid, qmp, _):
        told = guest_ram_blocks(pid, qmp)
        assert shape(told) == [
            ("node0", 0, 32 * MIB, 4096),
            ("node1", 32 * MIB, 64 * MIB, 4096),
        ]
        assert_counters(pid, told)
        seen = guest_ram_blocks(pid)
        assert [block.region.name for block in seen.blocks] == ["ram.0", "ram.1"]
        assert {b.host_start for b in seen.blocks} == {b.host_start for b in told.blocks}


@pytest.mark.usefixtures("qemu")
def test_a_dimm_is_seen_over_qmp(tmp_path):
    dimm = ["-object", "memory-backend-ram,id=more,size=128M", "-device", "pc-dimm,memdev=more"]
    memory = ("-m", "64M,slots=1,maxmem=1G")
    with ready_guest(tmp_path, *dimm, memory=memory) as (pid, qmp, _):
        told = guest_ram_blocks(pid, qmp)
        assert shape(told) == [
            ("pc.ram", 0, 64 * MIB, 4096),
            ("more", 4 * GIB, 4 * GIB + 128 * MIB, 4096),
        ]
        assert_counters(pid, told)
        assert shape(guest_ram_blocks(pid)) == [("ram", 0, 64 * MIB, 4096)]


@pytest.mark.usefixtures("qemu", "huge_pages")
def test_huge_pages(tmp_path):
    options = ["-object", "memory-backend-memfd,id=mem,size=64M,hugetlb=on,hugetlbsize=2M"]
    options += ["-machine", "memory-backend=mem"]
    with ready_guest(tmp_path, *options) as (pid, qmp, _):
        told = guest_ram_blocks(pid, qmp)
        assert shape(told) == [("mem", 0, 64 * MIB, 2 * MIB)]
        assert_counters(pid, told)
        assert shape(guest_ram_blocks(pid)) == [("ram", 0, 64 * MIB, 2 * MIB)]


@pytest.mark.usefixtures("qemu")
def test_a_socket_in_use_or_a_stopped_qemu_does_not_hang(tmp_path):
    with ready_guest(tmp_path) as (pid, qmp, _):
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(str(qmp))
            other.recv(1)  # it has us
            for _ in range(3):  # until even the queue of the socket is full
                with pytest.raises(QMPError, match="one client at a time"):
                    QMP(qmp, pid, timeout_s=0.2)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(QMPError, match="busy or stopped"):
            QMP(qmp, pid, timeout_s=0.2)
        os.kill(pid, signal.SIGCONT)
        deadline = time.monotonic() + 20  # those who gave up are served first
        while True:
            with suppress(QMPError):
                assert guest_ram_blocks(pid, qmp).blocks
                break
            assert time.monotonic() < deadline
        session = QMP(qmp, pid)
        os.kill(pid, signal.SIGKILL)
        with session, pytest.raises(QMPError):
            session.execute("query-memdev")


@pytest.mark.usefixtures("qemu")
def test_a_socket_that_a_supervisor_opened(tmp_path):
    """As libvirt does: QEMU listens on it again, so the kernel's credentials are QEMU's."""
    path = tmp_path / "handed"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        fd = listener.fileno()
        options = ("-chardev", f"socket,id=q,fd={fd},server=on,wait=off", "-mon", "q,mode=control")
        with ready_guest(tmp_path, *options, pass_fds=[fd]) as (pid, _, _):
            assert_counters(pid, guest_ram_blocks(pid, path))
            with pytest.raises(QMPError, match=f"belongs to process {pid}, not to .* 1$"):
                guest_ram_blocks(1, path)


@pytest.mark.usefixtures("qemu")
def test_mappings_in_doubt_are_an_error(tmp_path):
    with ready_guest(tmp_path, "-vga", "std", "-global", "VGA.vgamem_mb=64") as (pid, qmp, _):
        with pytest.raises(ProcessError, match=r"just one .* 67108864 .* --qmp, .* --region"):
            guest_ram_blocks(pid)
        assert shape(guest_ram_blocks(pid, qmp)) == [("pc.ram", 0, 64 * MIB, 4096)]


# ---- processes and sockets that are none --------------------------------------------------------


def test_who_is_no_qemu():
    assert not is_qemu(os.getpid())
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    for question in (is_qemu, guest_ram_blocks):
        with pytest.raises(ProcessError) as raised:
            question(gone.pid)
        assert raised.value.errno in (errno.ENOENT, errno.ESRCH)
    with pytest.raises(ProcessError, match="--region"):
        guest_ram_blocks(os.getpid())


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("qemu-system-aarch64", True), ("qemu-kvm", True), (".qemu-system-x86_64-wrapped", True),
     ("qemu-aarch64", False), ("qemu-img", False), ("sleep", False)],
)  # fmt: skip
def test_names_of_qemu(name, is_one, tmp_path):
    program = tmp_path / name
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    with subprocess.Popen([program, "60"]) as process:
        try:
            assert is_qemu(process.pid) == is_one
            program.unlink()  # as an upgrade does
            assert is_qemu(process.pid) == is_one
        finally:
            process.kill()


def test_what_is_no_socket(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for path in (tmp_path / "absent", file, tmp_path, tmp_path / ("x" * 200), "nul\0"):
        with pytest.raises(QMPError, match="-qmp unix:PATH"):
            guest_ram_blocks(os.getpid(), path)


def test_the_extra_is_named_if_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "qemu.qmp", None)
    with pytest.raises(QMPError, match=re.escape("pip install 'mempattern[qemu]'")):
        guest_ram_blocks(os.getpid(), "qmp")
