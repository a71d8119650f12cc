"""Bitmaps as Roaring's portable format has them: for both of its libraries to read.

https://github.com/RoaringBitmap/RoaringFormatSpec: a header with the key and the number of values
of each 2**16 values in which there are any, where each begins, and then up to 4096 values as a
list, and more as a bitmap. Either library makes runs of what is better as runs when asked.
"""

from __future__ import annotations

import numpy as np

from peers.work import Words

_NO_RUNS = 12346
_CHUNK_WORDS = (1 << 16) // 64
_MOST_LISTED = 4096


def portable(words: Words) -> bytes:
    """Of a bitmap of at most 2**32 pages."""
    keys, sizes, bodies = [], [], []
    for key, start in enumerate(range(0, words.size, _CHUNK_WORDS)):
        chunk = words[start : start + _CHUNK_WORDS]
        n = int(np.bitwise_count(chunk).sum(dtype=np.uint64))
        if n == 0:
            continue
        keys.append(key)
        sizes.append(n - 1)
        if n <= _MOST_LISTED:
            bits = np.unpackbits(chunk.view(np.uint8), bitorder="little")
            bodies.append(np.flatnonzero(bits).astype("<u2").tobytes())
        else:
            bodies.append(chunk.tobytes().ljust(8 * _CHUNK_WORDS, b"\0"))
    header = np.column_stack([keys, sizes]).astype("<u2").tobytes() if keys else b""
    n_before = 8 + len(header) + 4 * len(keys)
    starts = n_before + np.cumsum([0, *map(len, bodies)])[:-1]
    head = np.array([_NO_RUNS, len(keys)], "<u4").tobytes()
    return b"".join([head, header, starts.astype("<u4").tobytes(), *bodies])
