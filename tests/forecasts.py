"""What the tests of forecasts share: a VM, its link, and what any forecast must be."""

import math

import numpy as np

from mempattern.curve import DirtyCurve
from mempattern.migration.forecast import forecast
from mempattern.migration.precopy import Host

PAGES = 4000
BANDWIDTH = 8e6
PAGE_S = 4104 / BANDWIDTH  # 2 s for all of them
LIMIT_S = 0.3
LIMIT_PAGES = BANDWIDTH * LIMIT_S / 4096
BARE = Host(buffer_s=0.0, switchover_s=0.0, setup_s=0.0)
WINDOWS_S = np.geomspace(0.05, 20, 25)


def curve_of(writes_per_s, n_pages=PAGES, page_bytes=4096):
    """D(t) of writes at random."""
    pages = -n_pages * np.expm1(-writes_per_s * WINDOWS_S / n_pages)
    return DirtyCurve(WINDOWS_S, pages, 0.01 * pages, 100, n_pages, page_bytes)


def foresee(workload, limit_s=LIMIT_S, **options):
    return forecast(workload, BANDWIDTH, limit_s, **({"courses": 4, "patience_s": 20.0} | options))


def outlooks(of):
    phase = [of.phase.outlook] if of.phase else []
    return [of.stock, of.earliest, of.auto_converge, *phase]


def ranges(of):
    for outlook in outlooks(of):
        yield from (outlook.total_s, outlook.sent_bytes, outlook.downtime_s, outlook.passes)
    yield of.least_limit_s
    yield from (of.postcopy.total_s, of.postcopy.sent_bytes)
    yield from (of.postcopy.missing_pages, of.postcopy.degraded_s)


def check_sense(of):
    for found in ranges(of):
        if found is not None:
            assert 0 <= found.low <= found.middle <= found.high < math.inf
    for outlook in outlooks(of):
        assert 0 <= outlook.likelihood <= 1
        figures = (outlook.total_s, outlook.sent_bytes, outlook.downtime_s, outlook.passes)
        assert [figure is None for figure in figures] == [outlook.likelihood == 0] * 4
        assert outlook.throttled_s >= 0
    assert of.stock.throttled_s == of.earliest.throttled_s == 0
    assert all(isinstance(note, str) and "\n" not in note for note in of.notes)
