"""Time by address, held to counts made anew from the very pages."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model import grown, per_group, to_pages
from traces import HERE, REGIONS, grow, make_intervals

from mempattern import Region
from mempattern.analysis.watch import Activity, Row, SoFar, Watch
from mempattern.report import cells
from mempattern.report.cells import Cells
from mempattern.stats import Seen


def counted(intervals, group_pages):
    watch = Watch(intervals[0].regions, HERE, group_pages)
    counting = Cells(intervals[-1].regions, len(intervals), group_pages)
    for interval in intervals:
        counting.add(watch.observe(interval))
    return counting.heat_map(), watch.summary()


def pages_of(interval, regions):
    """Of the interval, in the regions that there are at the end."""
    found = {}
    for region in interval.regions:
        words = interval.bitmaps[region.name].copy()
        if past := -region.n_pages % 64:
            words[-1] &= np.uint64((1 << (64 - past)) - 1)
        found[region.name] = to_pages(words, region.n_pages)
    return grown(found, interval.regions, regions)


@given(
    st.integers(1, 12), st.integers(0, 2**32 - 1), st.sampled_from([64, 512]), st.booleans(),
    st.sampled_from([(2000, 1000, 8192), (3, 7, 40), (5, 400, 16)]),
)  # fmt: skip
def test_cells_are_what_a_model_counts(n_intervals, seed, group_pages, grows, limits):
    intervals = make_intervals(n_intervals, seed=seed, growth=grow if grows else None)
    names = ("MOST_COLUMNS", "MOST_ROWS", "_MOST_BASE")
    with pytest.MonkeyPatch.context() as patch:
        for name, limit in zip(names, limits, strict=True):
            patch.setattr(cells, name, limit)
        heat, summary = counted(intervals, group_pages)
    regions = intervals[-1].regions
    assert heat.regions == regions
    model = {region.name: [] for region in regions}
    for interval in intervals:
        for name, pages in pages_of(interval, regions).items():
            model[name].append(per_group(pages, group_pages))
    first = 0
    for number, column in enumerate(heat.columns):
        last = first + column.n_intervals
        for row, stretch in enumerate(heat.rows):
            groups = slice(stretch.first_group, stretch.first_group + stretch.n_groups)
            of = np.array(model[regions[stretch.region].name])
            assert heat.dirty[row, number] == of[first:last, groups].sum()
        assert (column.first, column.last) == (intervals[first].index, intervals[last - 1].index)
        first = last
    assert first == n_intervals
    assert len(heat.columns) <= limits[0]
    # The rows are all pages, each once and in order.
    for number, region in enumerate(regions):
        rows = [row for row in heat.rows if row.region == number]
        assert sum(row.n_pages for row in rows) == region.n_pages
        ends = [0, *np.cumsum([row.n_groups for row in rows])]
        assert [row.first_group for row in rows] == ends[:-1]
        assert ends[-1] == region.n_groups(group_pages)
    total = summary.total
    for name in ("dirty_pages", "redirtied_pages", "fresh_pages"):
        assert sum(getattr(column, name) for column in heat.columns) == getattr(total, name)
    assert heat.dirty.sum() == total.dirty_pages
    assert (heat.share() <= 1).all()


def test_what_was_never_written_makes_room_for_what_was():
    """1 TiB, of which 600 groups next to each other are written, and one far away."""
    region = Region("ram", 1 << 28)
    written = np.zeros(1 << 19, np.uint32)
    written[1000:1600], written[500_000] = 512, 1
    heat, n_groups = heat_of(region, written), written.size
    assert len(heat.rows) <= cells.MOST_ROWS
    assert sum(row.n_groups for row in heat.rows) == n_groups
    assert [row.is_folded for row in heat.rows].count(True) == 3
    busy = [row for row, dirty in zip(heat.rows, heat.dirty, strict=True) if dirty.any()]
    assert all(row.n_groups == 64 for row in busy)  # of 8192 that are counted apart
    assert heat.dirty.sum() == written.sum()


def test_where_writes_are_scattered_all_rows_are_alike():
    written = np.zeros(1 << 19, np.uint32)
    written[::128] = 1
    heat = heat_of(Region("ram", 1 << 28), written)
    assert len(heat.rows) <= cells.MOST_ROWS
    assert not any(row.is_folded for row in heat.rows)
    assert (heat.dirty > 0).all()


def test_of_no_interval_there_are_no_columns():
    heat = Cells(REGIONS, 0, 512).heat_map()
    assert heat.columns == ()
    assert heat.dirty.shape == (len(heat.rows), 0)


def heat_of(region, dirty):
    seen = Seen(int(dirty.sum()), 0, 0, int((dirty > 0).sum()), 1)
    row = Row(0, "", 0.1, 0.1, 0.0, seen, 4096 * seen.dirty_pages, (region,), dirty.size, 512,
              {region.name: Activity(region, seen, dirty)}, 0, SoFar(0, 0, 0.0, 0, 0))  # fmt: skip
    counting = Cells((region,), 1, 512)
    counting.add(row)
    return counting.heat_map()
