"""A trace as a Parquet or Arrow table: a row for each interval and active group."""

# pyarrow has no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from mempattern._closing import Closing
from mempattern.errors import MissingPackageError
from mempattern.interval import Interval
from mempattern.regions import Region
from mempattern.stats import Groups, GroupStats

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:
    raise MissingPackageError(
        "an Arrow or Parquet file needs the package pyarrow: pip install 'mempattern[arrow]'"
    ) from None

SCHEMA = "mempattern.groups/1"
_FIELDS = (
    ("interval", pa.int64()),
    ("start_ns", pa.int64()),
    ("end_ns", pa.int64()),
    ("region", pa.dictionary(pa.int32(), pa.string())),
    ("group", pa.int64()),
    ("address", pa.uint64()),
    ("pages", pa.uint32()),
    ("page_size", pa.int64()),
    ("dirty_pages", pa.uint32()),
    ("redirtied_pages", pa.uint32()),
    ("fresh_pages", pa.uint32()),
)
_ENOUGH_ROWS = 1 << 16


class GroupTable(Closing):
    """Writes the groups of a trace, interval by interval, as the statistics have counted them.

    `regions` are those of its last interval; `facts` become the table's metadata. The file is
    whole once it is closed.
    """

    def __init__(
        self, file: BinaryIO, kind: str, regions: tuple[Region, ...], facts: Mapping[str, str]
    ) -> None:
        self._schema = pa.schema(
            [pa.field(name, of, nullable=False) for name, of in _FIELDS],
            {"schema": SCHEMA, **{f"fact.{key}": fact for key, fact in facts.items()}},
        )
        if kind == "parquet":
            self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")
        else:
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            self._writer = pa.ipc.new_file(file, self._schema, options=options)
        self._names = pa.array([region.name for region in regions])
        self._numbers = {region.name: number for number, region in enumerate(regions)}
        self._parts: list[tuple[Any, ...]] = []
        self._n_rows = 0

    def add(self, interval: Interval, stats: GroupStats) -> None:
        """The interval that the statistics were just updated with."""
        for name in stats.active:
            part = _columns(interval, stats.groups(name), stats.group_pages)
            self._parts.append((np.int32(self._numbers[name]), *part))
            self._n_rows += len(part[-1])
        if self._n_rows >= _ENOUGH_ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._n_rows:
            return
        n_rows = [len(part[-1]) for part in self._parts]
        region, *columns = (
            np.concatenate([np.broadcast_to(one, n) for one, n in zip(parts, n_rows, strict=True)])
            for parts in zip(*self._parts, strict=True)
        )
        arrays = [pa.array(column) for column in columns]
        arrays.insert(3, pa.DictionaryArray.from_arrays(pa.array(region), self._names))
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        self._parts, self._n_rows = [], 0

    def close(self) -> None:
        """May be called twice."""
        self._flush()
        self._writer.close()


def _columns(interval: Interval, groups: Groups, group_pages: int) -> tuple[Any, ...]:
    """Without the region's name; one number for all where it is the same."""
    region = groups.region
    group = np.flatnonzero(groups.dirty)
    address = np.uint64(region.address) + (group * group_pages * region.page_bytes).astype(
        np.uint64
    )
    pages = np.minimum(group_pages, region.n_pages - group * group_pages).astype(np.uint32)
    return (
        np.int64(interval.index), np.int64(interval.start_ns), np.int64(interval.end_ns),
        group, address, pages, np.int64(region.page_bytes),
        groups.dirty[group], groups.redirtied[group], groups.fresh[group],
    )  # fmt: skip
