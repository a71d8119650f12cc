"""A source that plays a script: regions that come and grow, and exactly known pages.

Run as a program, it is mempattern-trace with such a source in place of the one that attaches:

    scripted.py N_INTERVALS N_REGIONS [argument of mempattern-trace ...]

With N_INTERVALS 0 the script never ends.
"""

import json
import os
import sys
import time
from itertools import count

import numpy as np
from model import to_words

from mempattern.cli import attach, trace
from mempattern.errors import ProcessEnded
from mempattern.interval import Interval, Provenance
from mempattern.regions import Region
from mempattern.sources import Source

PROVENANCE = Provenance("scripted", ("writes of a device",), "a page, or a huge page when split")
FAST = ["--interval", "0.01"]
ME = str(os.getpid())
SCRIPTED = [sys.executable, __file__]
STEP = 512 * 4096  # regions grow downwards by this


def scripted_regions(number, n_regions):
    """Of interval `number`: the first grows up, the second down, the last one comes at number 3,
    and one has large pages.
    """
    base = [
        Region("heap", 700 + 130 * min(number, 6), address=1 << 30),
        Region("stack", 1000 + 512 * min(number, 4), address=(1 << 40) - STEP * min(number, 4)),
        Region("huge", 9, 2 << 20, address=1 << 41),
    ]
    base += [
        Region(f"map{i:03}", 64 + i, address=(2 << 41) + (i << 24)) for i in range(n_regions - 3)
    ]
    late = [Region("late", 300, address=1 << 44)] if number >= 3 else []
    return tuple(base[:n_regions] + late)


def scripted_pages(number, regions):
    """Dirty pages of each region, drawn anew for each interval; the hot ones stay the same."""
    rng = np.random.default_rng(number)
    pages = {}
    for region in regions:
        pages[region.name] = rng.random(region.n_pages) < rng.choice([0.0, 0.02, 0.3])
        if region.name == "heap":
            pages["heap"][10:60] = True
    return pages


class Scripted(Source):
    attach_s = 0.0012

    def __init__(self, n_intervals=None, n_regions=3):
        self.provenance = PROVENANCE
        self.n_intervals = n_intervals
        self.n_regions = n_regions
        self.regions = scripted_regions(0, n_regions)
        self.n_closed = 0
        self._number = count()
        self._end_ns = time.monotonic_ns()

    def collect(self):
        number = next(self._number)
        if self.n_intervals is not None and number >= self.n_intervals:
            raise ProcessEnded("the process has exited")
        start = time.monotonic_ns()
        self.regions = scripted_regions(number, self.n_regions)
        bitmaps = {
            name: to_words(pages) for name, pages in scripted_pages(number, self.regions).items()
        }
        end = time.monotonic_ns()
        begun, self._end_ns = self._end_ns, end
        lost = 7 if number == 2 else 0
        return Interval(
            number, begun, end, self.regions, bitmaps, self.provenance, lost, end - start
        )

    def close(self):
        self.n_closed += 1


def use(source, monkeypatch=None):
    """Let mempattern-trace find this source, whatever it is asked to attach to."""

    def open_source(pid, options, wait):
        return source, attach.describe(source, "scripted", pid, "what the script says")

    if monkeypatch is None:
        attach.open_source = open_source
    else:
        monkeypatch.setattr(attach, "open_source", open_source)
    return source


def trace_json(capsys, *arguments):
    """Exit code, the intervals' objects, the summary's, and what was said on stderr."""
    code = trace.main([*FAST, "--json", *arguments])
    said = capsys.readouterr()
    *lines, summary = map(json.loads, said.out.splitlines())
    return code, lines, summary, said.err


if __name__ == "__main__":
    use(Scripted(int(sys.argv[1]) or None, int(sys.argv[2])))
    sys.exit(trace.main(sys.argv[3:]))
