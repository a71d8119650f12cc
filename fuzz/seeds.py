"""Seeds of the fuzz targets, all real: recorded guests and programs, streams of QEMU's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mempattern.trace import TraceReader, TraceWriter

ROOT = Path(__file__).parent.parent
CORPUS = ROOT / "benches/data/corpus"
RECORDED = ("guest-log-hotset", "guest-ring-sweep", "linux-redis", "memcached", "stress-vm")
MOST_WORDS = 40


def runs(words: np.ndarray) -> bytes:
    """As `next_bitmap` of input.h reads them."""
    said = b""
    for word in words.tolist():
        if word == 0:
            said += b"\x04"  # two clean words, for 0 alone would end it
        elif word == 2**64 - 1:
            said += b"\x01"
        else:
            said += b"\x02" + word.to_bytes(8, "little")
    return said + b"\0"


def bitmaps(name: str, n_intervals: int) -> list[np.ndarray]:
    """Words about the first dirty page of the trace's largest region."""
    with TraceReader(CORPUS / f"{name}.mpt") as trace:
        largest = max(trace.regions, key=lambda region: region.n_pages).name
        found = [trace[min(10 + i, len(trace) - 1)].bitmaps[largest] for i in range(n_intervals)]
    dirty = np.flatnonzero(np.bitwise_or.reduce([words[: min(map(len, found))] for words in found]))
    start = int(dirty[0]) if dirty.size else 0
    return [words[start : start + MOST_WORDS] for words in found]


HEAD = (MOST_WORDS * 64 - 7).to_bytes(2, "little")


def of_bitmaps() -> dict[str, bytes]:
    """Three intervals as the bitmap, the previous one and those ever written."""
    return {
        name: HEAD + bytes([group, 3]) + b"".join(map(runs, bitmaps(name, 3)))
        for group, name in enumerate(RECORDED)
    }


def of_kernels() -> dict[str, bytes]:
    """Many intervals, under different bits of what kernels.c asks for."""
    return {
        name: HEAD + bytes([group, 0x33 * group & 0x7F]) + b"".join(map(runs, bitmaps(name, 18)))
        for group, name in enumerate(RECORDED)
    }


def of_follow() -> dict[str, bytes]:
    """Of one region, which then grows by 77 pages at its end."""
    seeds = {}
    for kind, name in enumerate(RECORDED):
        intervals = [b"\x01\x64" + runs(words) for words in bitmaps(name, 6)]
        grows = b"\x03\x00\x80\x00" + (77).to_bytes(2, "little")
        said = b"".join(intervals[:3]) + grows + b"".join(intervals[3:])
        seeds[name] = bytes([0x50 | kind << 2 & 0x0C]) + HEAD + said
    return seeds


def of_stream() -> dict[str, bytes]:
    streams = (Path(__file__).parent / "streams").iterdir()
    return {path.name: b"\x06" + path.read_bytes() for path in streams}


def small_trace(path: Path) -> None:
    """The first three intervals of a recorded guest, in a trace of their own."""
    with TraceReader(CORPUS / "guest-log-idle.mpt") as whole:
        kept = [whole[i] for i in range(3)]
        with TraceWriter(path, whole.regions, whole.provenance) as trace:
            for interval in kept:
                trace.write(interval)


def write(directory: Path) -> None:
    """Each target's into a directory of its name."""
    for target, seeds in (
        ("bitmaps", of_bitmaps()),
        ("kernels", of_kernels()),
        ("kernels_simde", of_kernels()),
        ("follow", of_follow()),
        ("stream", of_stream()),
    ):
        (directory / target).mkdir(parents=True, exist_ok=True)
        for name, content in seeds.items():
            (directory / target / name).write_bytes(content)
