"""An independent writer of QEMU's migration stream, and QEMU 7.2's loop over its pages.

After migration/savevm.c, ram.c: what is here is written from these, and shares nothing with csrc/.
"""

import struct
from dataclasses import dataclass, field

ZERO, MEM_SIZE, PAGE, EOS, CONTINUE = 0x02, 0x04, 0x08, 0x10, 0x20
HEADER = struct.pack(">II", 0x5145564D, 3)
RAM_ID = 2


def name(text):
    data = text.encode() if isinstance(text, str) else text
    return bytes([len(data)]) + data


def configuration(machine="pc-i440fx-7.2", *subsections):
    return b"\x07" + struct.pack(">I", len(machine)) + machine.encode() + b"".join(subsections)


def subsection(which, body):
    return b"\x05" + name("configuration/" + which) + struct.pack(">I", 1) + body


def page_bits(bits):
    return subsection("target-page-bits", struct.pack(">I", bits))


def capabilities(*names):
    return subsection("capabilities", struct.pack(">I", len(names)) + b"".join(map(name, names)))


def command(number, data=b""):
    return b"\x08" + struct.pack(">HH", number, len(data)) + data


def footer():
    return b"\x7e" + struct.pack(">I", RAM_ID)


def section_start(section_id=RAM_ID, idstr="ram", version=4):
    return b"\x01" + struct.pack(">I", section_id) + name(idstr) + struct.pack(">II", 0, version)


def section_part():
    return b"\x02" + struct.pack(">I", RAM_ID)


def block_list(blocks, page_bytes=4096):
    total = sum(blocks.values()) * page_bytes
    said = struct.pack(">Q", total | MEM_SIZE)
    for block, n_pages in blocks.items():
        said += name(block) + struct.pack(">Q", n_pages * page_bytes)
    return said


def eos():
    return struct.pack(">Q", EOS)


def setup(blocks, page_bytes, footers):
    return section_start() + block_list(blocks, page_bytes) + eos() + (footer() if footers else b"")


@dataclass
class Sender:
    """RAMState: goes round the blocks, as ram_find_and_save_block does."""

    blocks: dict
    page_bytes: int = 4096
    footers: bool = True
    dirty: dict = field(init=False)
    sent: bytearray = field(default_factory=bytearray)
    found: list = field(default_factory=list)
    """By pass: what a sync found written, as (block, page); the first is all."""
    passes: list = field(default_factory=list)
    """By pass: what was sent in it, in order."""
    last_block: str | None = None

    def __post_init__(self):
        self.names = list(self.blocks)
        self.dirty = {block: set(range(n)) for block, n in self.blocks.items()}
        self.at = (0, 0)
        self.passes.append([])

    def remaining(self):
        return sum(map(len, self.dirty.values()))

    def sync(self, written):
        for block, page in written:
            self.dirty[block].add(page)
        self.passes.append([])

    def _find(self):
        number, page = self.at
        rounds = [(number, page, None)]
        rounds += [((number + i) % len(self.names), 0, None) for i in range(1, len(self.names))]
        rounds += [(number, 0, page)]
        for which, start, end in rounds:
            pages = self.dirty[self.names[which]]
            ahead = [p for p in pages if p >= start and (end is None or p < end)]
            if ahead:
                return which, min(ahead)
        return None

    def section(self, most_pages, is_zero):
        """ram_save_iterate; whether it ran out of pages."""
        self.sent += section_part()
        done = False
        for _ in range(most_pages):
            found = self._find()
            if found is None:
                number = self.at[0]
                self.at = (number, self.blocks[self.names[number]])
                done = True
                break
            number, page = found
            block = self.names[number]
            self.dirty[block].remove(page)
            self.passes[-1].append((block, page))
            self._page(block, page, is_zero(block, page))
            self.at = (number, page + 1)
        self.sent += eos() + (footer() if self.footers else b"")
        return done

    def _page(self, block, page, is_zero):
        flags = ZERO if is_zero else PAGE
        if block == self.last_block:
            flags |= CONTINUE
        self.sent += struct.pack(">Q", page * self.page_bytes | flags)
        if block != self.last_block:
            self.sent += name(block)
        self.last_block = block
        self.sent += b"\0" if is_zero else b"\x5a" * self.page_bytes
