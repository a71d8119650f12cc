"""A region's bitmap as one zstd frame, with its size and a checksum in it."""

from __future__ import annotations

import sys

import numpy as np

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


class Packer:
    """Makes blobs, with one compressor for all: a new one takes as long as a small bitmap does.

    One thread at a time.
    """

    def __init__(self) -> None:
        self._zstd = zstd.ZstdCompressor(options=_OPTIONS)

    def pack(self, words: Bitmap) -> bytes:
        self._zstd.set_pledged_input_size(words.nbytes)  # which the frame states
        raw = np.ascontiguousarray(words).data
        blob: bytes = self._zstd.compress(raw, zstd.ZstdCompressor.FLUSH_FRAME)
        return blob


def most_bytes(region: Region) -> int:
    """The largest blob of a bitmap of the region: ZSTD_COMPRESSBOUND of zstd.h."""
    n_bytes = region.n_words * 8
    return n_bytes + (n_bytes >> 8) + (max(0, (128 << 10) - n_bytes) >> 11)


def unpack(blob: bytes, region: Region) -> Bitmap:
    """Never takes more memory than the region's bitmap needs, whatever the blob claims.

    Raises `ValueError`, `BlobError`.
    """
    n_bytes = region.n_words * 8
    if len(blob) < _FRAME_HEADER or not blob[_FRAME_HEADER - 1] & _HAS_CHECKSUM:
        raise ValueError(f"region {region.name!r} has a bitmap without a checksum")
    # The size that the frame states bounds the window that zstd allocates for it.
    stated = zstd.get_frame_info(blob).decompressed_size
    inflater = zstd.ZstdDecompressor()
    raw = inflater.decompress(blob, max_length=n_bytes + 1) if stated == n_bytes else b""
    if len(raw) != n_bytes or not inflater.eof or inflater.unused_data:
        raise ValueError(f"region {region.name!r} has not the {n_bytes} bytes that belong there")
    return np.frombuffer(raw, np.uint64)


def count_dirty(words: Bitmap, region: Region) -> int:
    """Pages whose bit is set; bits past the region's end do not count."""
    padding = region.n_words * 64 - region.n_pages
    beyond = int(words[-1]) >> (64 - padding)
    return int(np.bitwise_count(words).sum(dtype=np.int64)) - beyond.bit_count()
