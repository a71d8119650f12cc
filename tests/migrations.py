"""Migrations of synthetic recordings over one link of 40 MB/s."""

from model import to_words
from recordings import record

from mempattern.migration.precopy import Host, precopy
from mempattern.migration.replayed import ReplayedMemory

PAGES = 20_000
BANDWIDTH = 40e6
PAGE_S = 4104 / BANDWIDTH
STEP_S = 0.051 + 33 * PAGE_S  # no step is longer
LIMIT_S = 0.3
LIMIT_PAGES = BANDWIDTH * LIMIT_S / 4096
BARE = Host(buffer_s=0.0, switchover_s=0.004, setup_s=0.0)


def migrate(rows, limit_s=LIMIT_S, *, zero=None, chunk_pages=1 << 18, start_s=0.0, **options):
    recording = record(rows)
    words = None if zero is None else [to_words(zero)]
    memory = ReplayedMemory(recording, [start_s], words, chunk_pages=chunk_pages)
    return precopy(memory, BANDWIDTH, limit_s, **({"host": BARE} | options))
