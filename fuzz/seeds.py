"""Seeds of the fuzz targets, all real: recorded guests and programs, streams of QEMU's."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from mempattern.regions import Region
from mempattern.trace import TraceReader, TraceWriter

ROOT = Path(__file__).parent.parent
CORPUS = ROOT / "benches/data/corpus"
RECORDED = ("guest-log-hotset", "guest-ring-sweep", "linux-redis", "memcached", "stress-vm")
MOST_WORDS = 40
RAM_BYTES, MORE_BYTES = 4160, 16  # of the last bitmaps of small_trace


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
    """Three intervals as the bitmap, the previous one and those ever written; and a full bitmap."""
    return {"full": b"\xff\xff\x03\x00" + b"\xfd" * 16} | {
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


def small_trace(path: Path) -> tuple[bytes, bytes, bytes]:
    """Three intervals of a recorded guest that gets more memory each time; one before the last was
    dropped. The file and its log while it is written, and the file once it is closed.
    """
    with TraceReader(CORPUS / "guest-log-idle.mpt") as whole:
        kept, provenance = [whole[i] for i in range(3)], whole.provenance
    (ram,) = kept[0].regions
    more = Region("more", 100, address=1 << 40)
    grown = (ram,), (ram, more), (replace(ram, n_pages=RAM_BYTES * 8), more)
    with TraceWriter(path, grown[0], provenance) as trace:
        for interval, regions in zip(kept, grown, strict=True):
            (words,) = interval.bitmaps.values()
            bitmaps = {r.name: np.resize(words, r.n_words) for r in regions}
            trace.write(replace(interval, regions=regions, bitmaps=bitmaps))
        while trace.written < len(kept):
            time.sleep(0.01)
        written, log = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    database = sqlite3.connect(path)
    database.execute("insert into dropped values (2, 1)")
    database.commit()
    database.close()
    return written, log, path.read_bytes()


MONITOR = json.loads((Path(__file__).parent / "qmp_replies.json").read_text())
COMMAND_LINES = (
    "qemu-system-x86_64\0-m\0size=4194304k,slots=2,maxmem=16G\0",
    "kvm\0-m\01.5G\0-object\0memory-backend-file,id=a,mem-path=/a,,b,size=1G\0"
    '-object\0{"qom-type":"memory-backend-memfd","id":"b","size":536870912}\0',
)
FACTS = (
    '{"status":"completed","total_s":9.5,"downtime_s":0.3,"ceiling_s":0.5,"failure":""}',
    '[{"ns":5,"number":1,"at_s":2,"sent_bytes":4096,"bandwidth_Bps":1e300,"dirty_pages_per_s":9,'
    '"page_bytes":4096,"limit_s":0.3,"throttle":0.2}]',
    '[{"at_s":2,"did":"waits","why":"it is busy"}]',
    '{"part_pages":64,"regions":{"ram":[64,0,3]}}',
    '[["sweep",5],["idle",3]]',
)


def of_texts() -> dict[str, bytes]:
    """QEMU's, this process's and a trace's, by their kind (texts.py)."""
    mappings = Path("/proc/self/maps").read_text(errors="replace")
    ram = "7f0000000000-7f0100000000 rw-s 00000000 00:01 3 /memfd:ram (deleted)\n"
    texts = (
        ("mtree", 0, MONITOR["info mtree -f"]),
        ("gpa2hva", 1, MONITOR["gpa2hva 0x0"]),
        ("process-0", 2, f"{COMMAND_LINES[0]}\1{ram}{mappings[:600]}"),
        ("process-1", 2, f"{COMMAND_LINES[1]}\1{mappings[-900:]}"),
        ("facts", 3, "\0".join(FACTS)),
    )
    return {name: bytes([kind]) + text.encode() for name, kind, text in texts}


def write(directory: Path) -> None:
    """Each target's into a directory of its name."""
    for target, seeds in (
        ("bitmaps", of_bitmaps()),
        ("bitmaps_simde", of_bitmaps()),
        ("kernels", of_kernels()),
        ("kernels_simde", of_kernels()),
        ("follow", of_follow()),
        ("stream", of_stream()),
        ("texts", of_texts()),
    ):
        (directory / target).mkdir(parents=True, exist_ok=True)
        for name, content in seeds.items():
            (directory / target / name).write_bytes(content)
