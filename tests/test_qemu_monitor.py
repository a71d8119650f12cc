"""What QEMU may say and its command line hold: read as it is meant, or refused in one sentence."""

import json
import mmap
import os
import socket
import threading
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempattern import Region
from mempattern.errors import ClosedError, QMPError
from mempattern.monitor.qmp import QMP
from mempattern.qemu.command_line import backend_bytes, ram_bytes
from mempattern.qemu.mtree import Piece, parse_flat_view, parse_host_address
from mempattern.qemu.ram import guest_ram_blocks
from mempattern.sources.layout import Block

MIB = 1 << 20
GIB = 1 << 30

# ---- a monitor that says what we like -----------------------------------------------------------

GREETING: dict[str, Any] = {"QMP": {"version": {}, "capabilities": []}}


@contextmanager
def monitor_of_ours(path, answers, greeting=GREETING):
    """A QMP server in this process. `answers` maps a command, or a monitor line, to its return."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def serve():
        with suppress(OSError), listener.accept()[0] as client:
            said = greeting if isinstance(greeting, bytes) else json.dumps(greeting).encode()
            client.sendall(said + b"\n")
            while asked := client.recv(65536):  # one message: the client awaits its answer
                message = json.loads(asked)
                command = message["execute"]
                if command == "human-monitor-command":
                    command = message["arguments"]["command-line"]
                if command == "hang up":
                    return
                reply = {"return": answers.get(command, {}), "id": message.get("id")}
                client.sendall(json.dumps(reply).encode() + b"\n")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(20)
        assert not thread.is_alive()


def flat_view(*lines):
    head = 'FlatView #0\n AS "memory", root: system\n Root memory region: system\n'
    return head + "".join(f"  {line}\n" for line in lines) + "\n"


@pytest.fixture
def memory():
    """1 MiB of our own, and its address; the guards keep other mappings away."""
    with mmap.mmap(-1, 3 * MIB) as area:
        address = np.frombuffer(area, np.uint8).ctypes.data + MIB
        yield address


def host(at, name, address):
    return {f"gpa2hva {at:#x}": f"Host virtual address for {at:#x} ({name}) is {address:#x}\r\n"}


def test_memory_that_the_board_shows_twice_is_one_block(tmp_path, memory):
    view = flat_view(
        "0000000000000000-000000000003ffff (prio 0, ram): /objects/m KVM KVM",
        "0000000000040000-000000000007ffff (prio 1, i/o): a window",
        "0000000000080000-00000000000fffff (prio 0, rom): /objects/m @0000000000080000 KVM",
        "0000000020000000-000000002003ffff (prio 0, ram): /objects/m",
        "0000000030000000-000000003003ffff (prio 0, ram): some vram",
        "0000000040000000-000000004003ffff (prio 0, ramd): 0000:00:03.0 BAR 0 mmaps[0]",
        "0000000050000000-000000005003ffff (prio 0, rom): sealed",
    )
    answers = {"query-memdev": [{"id": "m"}, {"id": "sealed"}, {}], "info mtree -f": view}
    answers |= host(0, "/objects/m", memory) | host(0x20000000, "/objects/m", memory)
    with monitor_of_ours(tmp_path / "qmp", answers):
        ram = guest_ram_blocks(os.getpid(), tmp_path / "qmp")
    assert ram.blocks == (Block(Region("m", 256), memory),)
    assert ram.left_out == ("some vram",)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"query-memdev": {}}, "dict, not a list"),
        ({"query-memdev": [{"id": ["m"]}, 3]}, "no memory backend"),
        ({"query-memdev": []}, "no memory backend"),
        ({"info mtree -f": {}}, "not with text"),
        ({"info mtree -f": ""}, "no address space"),
        ({"info mtree -f": flat_view("nonsense")}, "unknown form"),
        ({"gpa2hva 0x0": "Memory at address 0x0is not RAM\r\n"}, "no address in 'm'"),
        (host(0, "other", 0x1000), "no address in 'm'"),
        (host(0, "m", 0x1000), "no writable memory"),
        (host(0, "m", (1 << 64) - 1), "no writable memory"),
    ],
)
def test_answers_that_make_no_sense(answers, said, tmp_path):
    view = flat_view("0000000000000000-00000000000fffff (prio 0, ram): m")
    good = {"query-memdev": [{"id": "m"}], "info mtree -f": view}
    with monitor_of_ours(tmp_path / "qmp", good | answers), pytest.raises(QMPError, match=said):
        guest_ram_blocks(os.getpid(), tmp_path / "qmp")


def test_half_pages_are_refused(tmp_path, memory):
    view = flat_view("0000000000000000-00000000000ffffe (prio 0, ram): m")
    answers = {"query-memdev": [{"id": "m"}], "info mtree -f": view} | host(0, "m", memory)
    with monitor_of_ours(tmp_path / "qmp", answers), pytest.raises(QMPError, match="whole pages"):
        guest_ram_blocks(os.getpid(), tmp_path / "qmp")


@pytest.mark.parametrize(
    "greeting", [b"", b"SSH-2.0-OpenSSH", b"[]", b"{}", b'{"QMP": 3}', b"\xff"]
)
def test_a_server_that_is_no_qmp(greeting, tmp_path, capfd):
    with monitor_of_ours(tmp_path / "qmp", {}, greeting), pytest.raises(QMPError):
        QMP(tmp_path / "qmp", os.getpid(), timeout_s=2)
    assert capfd.readouterr() == ("", "")  # the library's log stays out of the terminal


def test_a_server_that_hangs_up(tmp_path):
    with monitor_of_ours(tmp_path / "qmp", {}), QMP(tmp_path / "qmp", os.getpid()) as session:
        with pytest.raises(QMPError):
            session.execute("hang up")
        with pytest.raises(QMPError):
            session.execute("query-memdev")
    session.close()
    with pytest.raises(ClosedError):
        session.execute("query-memdev")


# ---- the texts ----------------------------------------------------------------------------------

# QEMU 7.2, pc with 5 GiB under TCG, shortened; the format has not changed up to 10.
PC_5_GIB = """FlatView #0
 AS "cpu-smm-0", root: memory
 Root memory region: memory
  0000000000000000-00000000000bffff (prio 0, ram): pc.ram

FlatView #1
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 AS "e1000", root: bus master container
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): pc.ram
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
  00000000000c0000-00000000000cafff (prio 0, rom): pc.ram @00000000000c0000
  0000000000100000-00000000bfffffff (prio 0, ram): pc.ram @0000000000100000
  00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram
  00000000febf0400-00000000febf041f (prio 0, i/o): vga ioports remapped
  00000000fee00000-00000000feefffff (prio 4096, i/o): apic-msi
  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios
  0000000100000000-000000017fffffff (prio 0, ram): pc.ram @00000000c0000000

FlatView #3
 AS "i440FX", root: bus master container
 Root memory region: (none)
  No rendered FlatView

"""


def test_a_flat_view_is_read():
    pieces = parse_flat_view(PC_5_GIB)
    assert len(pieces) == 9
    assert pieces[0] == Piece("pc.ram", "ram", 0, 0xA0000, 0)
    assert pieces[2] == Piece("pc.ram", "rom", 0xC0000, 0xB000, 0xC0000)
    assert pieces[5] == Piece("vga ioports remapped", "i/o", 0xFEBF0400, 0x20, 0)
    assert pieces[-1] == Piece("pc.ram", "ram", 4 * GIB, 2 * GIB, 3 * GIB)
    assert parse_flat_view(PC_5_GIB.replace("\n", "\r\n")) == pieces
    unrendered = PC_5_GIB.partition("FlatView #3")[2].replace("i440FX", "memory")
    assert parse_flat_view(unrendered) == []
    (piece,) = parse_flat_view(
        flat_view("0000000100000000-00000001000fffff (prio -1, nv-ram): nv 1 @0000000000001000 KVM")
    )
    assert piece == Piece("nv 1", "nv-ram", 4 * GIB, MIB, 4096)
    with pytest.raises(QMPError, match="before it starts"):
        parse_flat_view(flat_view("0000000000001000-0000000000000fff (prio 0, ram): m"))


def test_a_host_address_is_read():
    text = "Host virtual address for 0x100000000 (pc.ram) is 0x7f1fafe00000\r\n"
    assert parse_host_address(text, "pc.ram") == 0x7F1FAFE00000
    with pytest.raises(QMPError, match=r"vga\.vram"):
        parse_host_address(text, "vga.vram")


def edited(text):
    """The text with a stretch of it replaced."""
    return st.builds(
        lambda i, n, new: text[:i] + new + text[i + n :],
        st.integers(0, len(text)),
        st.integers(0, 40),
        st.one_of(st.text(max_size=20), st.text("0123456789abcdef-() @:,\r\n\t", max_size=20)),
    )


@given(st.one_of(st.text(), edited(PC_5_GIB), edited(flat_view("0-f (prio 0, ram): m"))))
def test_hostile_flat_views(text):
    with suppress(QMPError):
        for piece in parse_flat_view(text):
            assert piece.n_bytes > 0 <= piece.start
            assert piece.name


@given(st.one_of(st.text(), edited("Host virtual address for 0x1 (m) is 0x7f1fafe00000\r\n")))
def test_hostile_host_addresses(text):
    with suppress(QMPError):
        assert 0 <= parse_host_address(text, "m") < 1 << 64


@pytest.mark.parametrize(
    ("arguments", "n_bytes"),
    [
        ("", 128 * MIB),
        ("-m 64", 64 * MIB),
        ("-m 5G", 5 * GIB),
        ("-m 1.5g -vga none", 1536 * MIB),
        ("-m size=4194304k", 4 * GIB),
        ("-m 4096,slots=2,maxmem=16G", 4 * GIB),
        ("-m slots=2,maxmem=16G,size=1T", 1024 * GIB),
        ("-m 2G -m slots=2,maxmem=4G", 2 * GIB),
        ("--m 512M", 512 * MIB),
        ("-m lots", None),
        ("-m " + "9" * 50, None),
    ],
)
def test_sizes_of_m(arguments, n_bytes):
    assert ram_bytes(["qemu-system-x86_64", *arguments.split(), ""]) == n_bytes


def test_sizes_of_backends():
    arguments = [
        "-object", "memory-backend-ram,id=a,size=1G",
        "-object", "qom-type=memory-backend-file,mem-path=/a,,size=9,size=4096,id=b",
        "-object", '{"qom-type":"memory-backend-memfd","id":"c","size":1073741824}',
        "-object", "iothread,id=d,size=5",
        "-object", "memory-backend-ram,id=e",
        "-object", "[" * 100_000,
        "-object", "null",
        "-object",
    ]  # fmt: skip
    assert backend_bytes(arguments) == [GIB, 4096, GIB]


@given(st.lists(st.one_of(st.sampled_from(["-m", "-object", "--m"]), st.text())))
def test_hostile_command_lines(arguments):
    assert (ram_bytes(arguments) or 0) >= 0
    assert all(size >= 0 for size in backend_bytes(arguments))
