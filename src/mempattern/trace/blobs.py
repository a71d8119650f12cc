"""A region's bitmap as one zstd frame, with its size and a checksum in it."""

from __future__ import annotations

import sys

import numpy as np

from mempattern._memory import BitmapPool, as_words, lend
from mempattern._native import ffi, lib
from mempattern._results import check
from mempattern.interval import Bitmap
from mempattern.regions import Region

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BlobError = zstd.ZstdError

# The checksum makes any flipped bit of a bitmap an error on reading.
_OPTIONS: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 3,
    zstd.CompressionParameter.checksum_flag: 1,
}
_FRAME_HEADER = 5  # bytes up to and with the frame header descriptor, RFC 8878, 3.1.1.1
_HAS_CHECKSUM = 4
_PIECE_BYTES = 64 << 10
_MOST_CLEAN, _LONGEST_CLEAN = 4096, 4096
"""Sizes of clean bitmaps whose blobs are remembered, and bytes of a blob: of 1 TiB it has 1047."""
_SEEN = ffi.typeof("mpat_seen *")


class Packer:
    """Makes blobs, with one compressor for all: a new one takes as long as a small bitmap does.

    One thread at a time.
    """

    def __init__(self) -> None:
        self._zstd = zstd.ZstdCompressor(options=_OPTIONS)
        self._clean = _Clean()

    def pack_counted(self, words: Bitmap, dirty_pages: int) -> bytes:
        """The same blob as `pack`; of a clean region mostly without compressing anything."""
        if not _is_clean(words, dirty_pages):
            return self.pack(words)
        return self._clean.blob(words.size) or self._clean.remember(words.size, self.pack(words))

    def pack(self, words: Bitmap) -> bytes:
        self._zstd.set_pledged_input_size(words.nbytes)  # which the frame states
        raw = np.ascontiguousarray(words).data
        blob: bytes = self._zstd.compress(raw, zstd.ZstdCompressor.FLUSH_FRAME)
        return blob


def most_bytes(region: Region) -> int:
    """The largest blob of a bitmap of the region: ZSTD_COMPRESSBOUND of zstd.h."""
    n_bytes = region.n_words * 8
    return n_bytes + (n_bytes >> 8) + (max(0, (128 << 10) - n_bytes) >> 11)


class Unpacker:
    """Makes bitmaps of blobs again, in memory that is reused once nobody has them any more.

    One thread at a time.
    """

    def __init__(self) -> None:
        self._pools: dict[str, tuple[int, BitmapPool]] = {}
        """Of each region, for as many pages as it had when it was read last."""
        self._clean = _Clean()
        self._zeros: Bitmap = np.zeros(0, np.uint64)

    def unpack_counted(self, blob: bytes, region: Region) -> tuple[Bitmap, int]:
        """The same bitmap as `unpack`, and its dirty pages; of a clean region like one before
        without inflating or counting anything. Raises as `unpack`, and `KernelError`.
        """
        if blob == self._clean.blob(region.n_words):
            return self._all_zero(region.n_words), 0
        words = self.unpack(blob, region)
        dirty_pages = count_dirty(words, region)
        if _is_clean(words, dirty_pages):
            self._clean.remember(region.n_words, blob)
        return words, dirty_pages

    def _all_zero(self, n_words: int) -> Bitmap:
        """Part of one array for all, which is not backed by memory where it is large."""
        if self._zeros.size < n_words:
            self._zeros = np.zeros(n_words, np.uint64)
            self._zeros.flags.writeable = False
        return self._zeros[:n_words]

    def unpack(self, blob: bytes, region: Region) -> Bitmap:
        """Never takes more memory than the region's bitmap needs, whatever the blob claims.

        Raises `ValueError`, `BlobError`.
        """
        n_bytes = region.n_words * 8
        if len(blob) < _FRAME_HEADER or not blob[_FRAME_HEADER - 1] & _HAS_CHECKSUM:
            raise ValueError(f"region {region.name!r} has a bitmap without a checksum")
        # The size that the frame states bounds the window that zstd allocates for it.
        stated = zstd.get_frame_info(blob).decompressed_size
        inflater = zstd.ZstdDecompressor()
        first = inflater.decompress(blob, max_length=_PIECE_BYTES) if stated == n_bytes else b""
        if len(first) < _PIECE_BYTES:
            words, n_read = np.frombuffer(first[: len(first) // 8 * 8], np.uint64), len(first)
        else:
            words, n_read = self._unpack_rest(first, inflater, region)
        if n_read != n_bytes or not inflater.eof or inflater.unused_data:
            raise ValueError(
                f"region {region.name!r} has not the {n_bytes} bytes that belong there"
            )
        return words

    def _unpack_rest(
        self, piece: bytes, inflater: zstd.ZstdDecompressor, region: Region
    ) -> tuple[Bitmap, int]:
        """Piece by piece, each of which stays in the cache; and how many bytes there are."""
        n_bytes, at = region.n_words * 8, 0
        pointer, words = self._pool(region).take()
        room = ffi.buffer(pointer, n_bytes)
        while piece and at + len(piece) <= n_bytes:
            room[at : at + len(piece)] = piece
            at += len(piece)
            piece = b"" if inflater.eof else inflater.decompress(b"", max_length=_PIECE_BYTES)
        return words, at + len(piece)

    def _pool(self, region: Region) -> BitmapPool:
        n_pages, pool = self._pools.get(region.name, (0, None))
        if pool is None or n_pages != region.n_pages:
            if pool is not None:
                pool.close()
            pool = BitmapPool(region.n_pages)
            self._pools[region.name] = region.n_pages, pool
        return pool

    def close(self) -> None:
        """Free what nobody has; what somebody still has stays."""
        for _, pool in self._pools.values():
            pool.close()


def count_dirty(words: Bitmap, region: Region) -> int:
    """Pages whose bit is set; bits past the region's end do not count. Raises `KernelError`."""
    counts = ffi.new(_SEEN)
    lent = lend(as_words(words, region), region)
    check(lib.mpat_bitmap_seen(lent, ffi.NULL, ffi.NULL, region.n_pages, counts))
    return counts.dirty_pages


def _is_clean(words: Bitmap, dirty_pages: int) -> bool:
    """Whether all words are zero: the bits past the region's end, in the last one, too."""
    return dirty_pages == 0 and not words[-1]


class _Clean:
    """The blobs of clean bitmaps, by their size in words."""

    def __init__(self) -> None:
        self._blobs: dict[int, bytes] = {}

    def blob(self, n_words: int) -> bytes | None:
        return self._blobs.get(n_words)

    def remember(self, n_words: int, blob: bytes) -> bytes:
        if len(blob) <= _LONGEST_CLEAN:
            if len(self._blobs) >= _MOST_CLEAN:
                self._blobs.clear()
            self._blobs[n_words] = blob
        return blob
