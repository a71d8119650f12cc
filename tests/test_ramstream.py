"""The C core's reader of migration streams, against an independent writer, and against damage."""

import errno
import socket
import struct

import numpy as np
import pytest
import stream_writer as w
from hypothesis import given
from hypothesis import strategies as st

from mempattern._native import ffi, lib

BLOCKS = {"pc.ram": 150, "empty": 0, "vga.vram": 70, "/rom@etc/acpi/tables": 1}


class Stream:
    """The C object, and all passes taken from it, as sets of (block, page)."""

    def __init__(self, most_pages=1 << 20):
        out = ffi.new("mpat_ramstream **")
        assert lib.mpat_ramstream_create(most_pages, out) == 0
        self.handle = ffi.gc(out[0], lib.mpat_ramstream_destroy)
        self.blocks = {}
        self.passes = []
        self.about = []

    def feed(self, data, pieces=(1 << 30,), take=True):
        """0 or a negative errno; `pieces` are the sizes in which the data come, again and again."""
        n_used = ffi.new("size_t *")
        at = turn = 0
        while at < len(data):
            piece = data[at : at + pieces[turn % len(pieces)]]
            turn += 1
            result = lib.mpat_ramstream_feed(self.handle, piece, len(piece), 1000 + at, n_used)
            assert n_used[0] <= len(piece)
            if result:
                return result
            at += n_used[0]
            if take:
                self.take()
            if self.state().stopped:
                break
        return 0

    def state(self):
        state = ffi.new("mpat_ramstream_state *")
        assert lib.mpat_ramstream_state_of(self.handle, state) == 0
        return state

    def names(self):
        block = ffi.new("mpat_ramblock *")
        self.blocks = {}
        for i in range(self.state().n_blocks):
            assert lib.mpat_ramstream_block(self.handle, i, block) == 0
            self.blocks[ffi.string(block.name).decode(errors="replace")] = block.n_pages
        assert lib.mpat_ramstream_block(self.handle, i + 1, block) == -errno.ENOENT
        return self.blocks

    def _bitmaps(self, function, *out):
        arrays = [np.full(-(-n // 64), 0xFFFF, np.uint64) for n in self.names().values()]
        lent = [ffi.from_buffer("uint64_t[]", a) if a.size else ffi.NULL for a in arrays]
        result = function(self.handle, lent, *out)
        found = set()
        for block, array in zip(self.blocks, arrays, strict=True):
            bits = np.unpackbits(array.view(np.uint8), bitorder="little")
            found |= {(block, int(page)) for page in np.flatnonzero(bits)}
        return result, found

    def take(self):
        if self.state().untaken:
            about = ffi.new("mpat_ramstream_pass *")
            result, pages = self._bitmaps(lib.mpat_ramstream_take, about)
            assert result == 0
            self.passes.append(pages)
            self.about.append(about)

    def zeros(self):
        result, pages = self._bitmaps(lib.mpat_ramstream_zeros)
        assert result == 0
        return pages

    def problem(self):
        return ffi.string(lib.mpat_ramstream_problem(self.handle)).decode(errors="replace")


def beginning(blocks=BLOCKS, page_bytes=4096, footers=True):
    bits = [w.page_bits(page_bytes.bit_length() - 1)] if page_bytes != 4096 else []
    return (
        w.HEADER
        + w.configuration("pc-q35-7.2", *bits, w.subsection("uuid", bytes(16)))
        + w.command(1)
        + w.command(2, b"\0\0\0\1")
        + w.setup(blocks, page_bytes, footers)
    )


def writes(blocks=BLOCKS):
    places = [(block, page) for block, n in blocks.items() for page in range(n)]
    return st.sets(st.sampled_from(places), min_size=1, max_size=60)


pieces = st.lists(st.integers(1, 5000), max_size=3).map(lambda sizes: (*sizes, 9000))
ends = st.sampled_from([b"\x03\0\0\0\2", b"\x04\0\0\0\5", b"\0"])


@given(
    written=st.lists(writes(), max_size=6),
    quota=st.integers(5, 100),
    pieces=pieces,
    form=st.tuples(st.sampled_from([1024, 4096, 16384]), st.booleans(), st.integers(1, 5)),
    end=ends,
)
def test_every_pass_is_what_was_sent_in_it(written, quota, pieces, form, end):
    """Each pass ends with nothing left, as most do; one page is written in all of them. A section
    holds more than the one page behind that block: none could be the end of the pass before."""
    page_bytes, footers, zero_every = form

    def is_zero(block, page):
        return page % zero_every == 0

    sender = w.Sender(BLOCKS, page_bytes, footers)
    for pages in [*written, None]:
        while not sender.section(quota, is_zero):
            pass
        if pages is not None:
            sender.sync({("vga.vram", 13)} | pages)
    stream = Stream()
    data = beginning(BLOCKS, page_bytes, footers) + sender.sent + end
    assert stream.feed(data, pieces) == 0
    assert stream.names() == BLOCKS
    assert stream.passes == [set(sent) for sent in sender.passes]
    assert stream.state().stopped
    assert stream.state().page_bytes == page_bytes
    for number, (about, sent) in enumerate(zip(stream.about, sender.passes, strict=True)):
        assert (about.first, about.n_passes) == (number, 1)
        assert about.pages == len(sent)
        assert about.zero_pages == sum(is_zero(*place) for place in sent)
    for about, before in zip(stream.about[1:], stream.about, strict=False):
        assert about.start_ns == before.end_ns <= about.end_ns
    assert stream.zeros() == {place for place in sender.passes[0] if is_zero(*place)}


@given(
    written=st.lists(writes(), max_size=8),
    quotas=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    threshold=st.integers(1, 10),
    pieces=pieces,
)
def test_no_page_is_lost_wherever_passes_end(written, quotas, threshold, pieces):
    """Also where a pass begins before the one before has sent all: at most joined, or early."""
    sender = w.Sender(BLOCKS)
    turn = 0
    for pages in [*written, None]:
        while sender.remaining() >= threshold:
            sender.section(quotas[turn % len(quotas)], lambda block, page: False)
            turn += 1
        if pages is not None:
            sender.sync(pages)
    stream = Stream()
    assert stream.feed(beginning() + sender.sent + b"\0", pieces) == 0
    sent = [set(pages) for pages in sender.passes if pages]
    assert set().union(*stream.passes) == set().union(*sent)
    assert len(stream.passes) <= len(sent)
    assert sum(about.pages for about in stream.about) == sum(map(len, sender.passes))


def test_a_pass_that_begins_inside_a_block_is_cut_where_its_section_began():
    def is_zero(_block, page):
        return page % 2 == 0

    sender = w.Sender({"a": 100, "b": 10})
    sender.section(95, is_zero)  # 5 pages of a and all of b are left, and it looks anew
    sender.sync({("a", 3), ("a", 50), ("a", 97)})
    before = beginning({"a": 100, "b": 10})
    section_ns = 1000 + len(before) + len(sender.sent)  # by bytes, as Stream tells the time
    while not sender.section(1000, is_zero):
        pass
    stream = Stream()
    assert stream.feed(before + sender.sent + b"\0", (1,)) == 0
    assert stream.passes == [set(sent) for sent in sender.passes]
    zero_pages = [sum(is_zero(*place) for place in sent) for sent in sender.passes]
    assert [about.zero_pages for about in stream.about] == zero_pages
    assert section_ns < stream.about[1].end_ns < section_ns + 20


def test_a_page_at_the_head_of_two_passes_is_in_both():
    """QEMU begins either with b, whose end it has not reached, and goes round in the section."""
    sender = w.Sender({"a": 10, "b": 10})
    for pages in (None, {("a", 1)}, *2 * [{("b", 5), ("a", 1)}]):
        if pages is not None:
            sender.sync(pages)
        while not sender.section(30, lambda *_: False):
            pass
    assert sender.passes[-2:] == 2 * [[("b", 5), ("a", 1)]]
    stream = Stream()
    assert stream.feed(beginning({"a": 10, "b": 10}) + sender.sent + b"\0") == 0
    assert stream.passes == [set(sent) for sent in sender.passes]


def test_a_pass_may_begin_with_what_lies_ahead_of_the_one_before():
    """Its sections before the one that goes round look like that one's, and count there."""
    b = [("b", page) for page in range(10)]
    sender = w.Sender({"a": 10, "b": 10})
    for pages in (None, {("a", 1)}, {("a", 1), *b}):
        if pages is not None:
            sender.sync(pages)
        while not sender.section(6 if pages and b[0] in pages else 30, lambda *_: False):
            pass
    assert sender.passes[1:] == [[("a", 1)], [*b, ("a", 1)]]
    stream = Stream()
    assert stream.feed(beginning({"a": 10, "b": 10}) + sender.sent + b"\0") == 0
    assert stream.passes[1:] == [{("a", 1), *b[:6]}, {*b[6:], ("a", 1)}]
    assert [about.pages for about in stream.about] == [20, 7, 5]


def test_passes_in_order_without_a_common_page_are_one():
    sender = w.Sender({"a": 100})
    for pages in [{("a", 1), ("a", 2)}, {("a", 5), ("a", 6)}, {("a", 6)}, None]:
        while not sender.section(1000, lambda *_: False):
            pass
        if pages:
            sender.sync(pages)
    stream = Stream()
    assert stream.feed(beginning({"a": 100}) + sender.sent + b"\0") == 0
    assert stream.passes[1:] == [{("a", 1), ("a", 2), ("a", 5), ("a", 6)}, {("a", 6)}]


def test_passes_that_nobody_took_are_joined():
    sender = w.Sender({"a": 10})
    for _ in range(3):
        while not sender.section(1000, lambda *_: False):
            pass
        sender.sync({("a", 1)})
    stream = Stream()
    assert stream.feed(beginning({"a": 10}) + sender.sent + b"\0", take=False) == 0
    stream.take()
    assert stream.passes == [{("a", page) for page in range(10)}]
    (about,) = stream.about
    assert (about.first, about.n_passes, about.pages) == (0, 3, 12)


def header(word):
    return struct.pack(">Q", word)


PART = beginning({"a": 10}) + w.section_part()
FIRST = header(w.PAGE) + w.name("a") + bytes(4096)

REFUSED = {
    "not a stream": (b"QEVN" + bytes(4), "does not begin"),
    "an old stream": (struct.pack(">II", 0x5145564D, 2), "version is 2"),
    "a block device": (w.HEADER + w.section_start(3, "block", 1), '"block"'),
    "virtio-mem's early section": (
        w.HEADER + b"\x04" + w.section_start(7, "0000:00:03.0/virtio-mem-device-early", 1)[1:],
        "virtio-mem-device-early",
    ),
    "another version": (w.HEADER + w.section_start(version=3), "version 3, and not 4"),
    "an unknown section type": (w.HEADER + b"\x55", "0x55"),
    "an unknown section": (PART[:-4] + struct.pack(">I", 9), "number 9"),
    "an early end": (w.HEADER + b"\0", "ends before"),
    "postcopy": (w.HEADER + w.command(3, bytes(16)), "postcopy-ram"),
    "ignore-shared": (
        w.HEADER + w.configuration("m", w.capabilities("x-ignore-shared")),
        "x-ignore-shared, which must be switched off",
    ),
    "mapped-ram": (w.HEADER + w.configuration("m", w.capabilities("mapped-ram")), "mapped-ram"),
    "an unknown part": (w.HEADER + w.configuration("m", w.subsection("new", b"")), '"config'),
    "a long machine": (w.HEADER + b"\x07\xff\xff\xff\xff", "4294967295 bytes"),
    "tiny pages": (w.HEADER + w.configuration("m", w.page_bits(9)), "2^9"),
    "vast pages": (w.HEADER + w.configuration("m", w.page_bits(64)), "2^64"),
    "other pages in the middle": (
        beginning({"a": 10}) + w.configuration("m", w.page_bits(16)),
        "2^16",
    ),
    "no RAM": (w.HEADER + w.section_start() + header(w.MEM_SIZE), "no RAM"),
    "sizes that do not add up": (
        w.HEADER + w.section_start() + header(4096 | w.MEM_SIZE) + w.name("a") + header(8192),
        "do not make up",
    ),
    "half pages": (
        w.HEADER + w.section_start() + header(8192 | w.MEM_SIZE) + w.name("a") + header(100),
        "do not make up",
    ),
    "more RAM than most_pages": (
        w.HEADER + w.section_start() + w.block_list({"a": 1 << 40}),
        "more RAM",
    ),
    "more RAM than most_pages in all blocks": (
        w.HEADER + w.section_start() + w.block_list({"a": (1 << 29) + 1, "b": 1 << 29}),
        "more RAM",
    ),
    "a block twice": (
        w.HEADER + w.section_start() + header(8192 | w.MEM_SIZE) + 2 * (w.name("a") + header(4096)),
        'two RAM blocks "a"',
    ),
    "the list twice": (PART + w.block_list({"a": 1}), "comes twice"),
    "an empty name": (PART + header(w.PAGE) + b"\0", "empty"),
    "a name with a 0": (PART + header(w.PAGE) + w.name(b"a\0b"), "byte 0"),
    "a page of no block": (PART + header(w.PAGE | w.CONTINUE), "does not say"),
    "a page of an unknown block": (PART + header(w.PAGE) + w.name("b"), '"b"'),
    "a page before the list": (
        w.HEADER + w.section_start() + header(w.PAGE) + w.name("a"),
        "before the list",
    ),
    "a page past the end": (PART + header(10 * 4096 | w.PAGE) + w.name("a"), "0xa"),
    "a page far past the end": (PART + header((1 << 64) - 4096 | w.ZERO) + w.name("a"), "ends"),
    "xbzrle": (PART + FIRST + header(0x40 | w.CONTINUE), "capability xbzrle"),
    "compress": (PART + FIRST + header(0x100 | w.CONTINUE), "capability compress"),
    "multifd": (PART + FIRST + header(0x200), "capability multifd"),
    "rdma": (PART + header(0x80), "RDMA"),
    "unknown flags": (PART + header(0x801), "0x801"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_with_a_sentence_and_for_good(what):
    data, said = REFUSED[what]
    for pieces in [(1 << 20,), (1,)]:
        stream = Stream(most_pages=1 << 30)
        assert stream.feed(data, pieces) == -errno.EPROTO
        assert said in stream.problem()
        assert stream.feed(b"\0") == -errno.EPROTO


def test_nonsense_arguments():
    out = ffi.new("mpat_ramstream **")
    assert lib.mpat_ramstream_create(0, out) == -errno.EINVAL
    stream = Stream()
    about = ffi.new("mpat_ramstream_pass *")
    assert lib.mpat_ramstream_take(stream.handle, [], about) == -errno.EAGAIN
    assert lib.mpat_ramstream_zeros(stream.handle, []) == -errno.EAGAIN
    assert lib.mpat_ramstream_feed(stream.handle, b"", 0, 0, ffi.NULL) == -errno.EINVAL
    assert stream.problem() == ""


@given(st.data())
def test_damage_gives_an_error_or_nothing(data):
    """Whatever is changed in it: the reader ends, in order, and stays within its bitmaps."""
    sender = w.Sender({"a": 70, "b": 3}, page_bytes=1024)
    for _ in range(3):
        while not sender.section(20, lambda block, page: page % 2):
            pass
        sender.sync({("a", 1), ("b", 2)})
    damaged = bytearray(beginning({"a": 70, "b": 3}, 1024) + sender.sent)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1) | st.integers(0, 300))
        damaged[place] = data.draw(st.integers(0, 255))
    stream = Stream(most_pages=1 << 16)
    result = stream.feed(bytes(damaged), data.draw(pieces))
    assert result in (0, -errno.EPROTO)
    assert bool(stream.problem()) == (result != 0)


def read(stream, ours):
    state = ffi.new("mpat_ramstream_state *")
    return lib.mpat_ramstream_read(stream.handle, ours.fileno(), state), state


@pytest.fixture
def ends_of_a_socket():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(None)
        theirs.settimeout(30)
        yield ours, theirs


def test_reading_a_socket_returns_at_each_thing_to_know(ends_of_a_socket):
    ours, theirs = ends_of_a_socket
    sender = w.Sender({"a": 10})
    for _ in range(2):
        while not sender.section(4, lambda *_: False):
            pass
        sender.sync({("a", 1)})
    theirs.sendall(beginning({"a": 10}) + sender.sent + b"\0" + b"the devices")
    stream = Stream()
    result, state = read(stream, ours)
    assert (result, state.n_blocks, state.untaken) == (0, 1, 0)
    result, state = read(stream, ours)
    assert (result, state.untaken, state.stopped) == (0, 1, 0)
    stream.take()
    result, state = read(stream, ours)
    assert (result, state.untaken, state.stopped) == (0, 1, 1)
    assert theirs.recv(1) == b""  # it was shut down at once
    with pytest.raises(BrokenPipeError):
        theirs.sendall(b"more")


def test_a_stream_that_makes_no_sense_is_shut_down_at_once(ends_of_a_socket):
    ours, theirs = ends_of_a_socket
    theirs.sendall(b"GET / HTTP/1.1\r\n")
    stream = Stream()
    assert read(stream, ours)[0] == -errno.EPROTO
    assert theirs.recv(1) == b""


def test_the_other_end_may_close_at_any_time(ends_of_a_socket):
    ours, theirs = ends_of_a_socket
    theirs.sendall(beginning({"a": 10})[:-7])
    stream = Stream()
    assert read(stream, ours)[0] == 0  # the blocks
    theirs.close()
    result, state = read(stream, ours)
    assert (result, state.closed, state.stopped, state.untaken) == (0, 1, 0, 0)


def test_the_other_end_may_close_with_something_unread(ends_of_a_socket):
    """Which resets the connection, and is an end like any other."""
    ours, theirs = ends_of_a_socket
    ours.sendall(b"never read")
    theirs.close()
    result, state = read(Stream(), ours)
    assert (result, state.closed) == (0, 1)
