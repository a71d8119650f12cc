"""Replays as a Parquet file: a row for each trace, bandwidth, ceiling and policy."""

# pyarrow has no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
from __future__ import annotations

from typing import BinaryIO

from mempattern.errors import MissingPackageError
from mempattern.report.replay import REPLAY, Replays, rows

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:
    raise MissingPackageError(
        "a Parquet file needs the package pyarrow: pip install 'mempattern[arrow]'"
    ) from None

_CHANGE = pa.struct([("from_s", pa.float64()), ("bandwidth_Bps", pa.float64())])
SCHEMA = pa.schema(
    [
        pa.field("trace", pa.string(), nullable=False),
        pa.field("ram_bytes", pa.int64(), nullable=False),
        pa.field("bandwidth_Bps", pa.float64(), nullable=False),
        pa.field("bandwidth_changes", pa.list_(_CHANGE), nullable=False),
        pa.field("max_downtime_s", pa.float64(), nullable=False),
        pa.field("policy", pa.string(), nullable=False),
        pa.field("moved", pa.bool_(), nullable=False),
        pa.field("within_max_downtime", pa.bool_(), nullable=False),
        pa.field("end", pa.string(), nullable=False),
        ("error", pa.string()),
        ("total_s", pa.float64()),
        ("sent_bytes", pa.float64()),
        ("downtime_s", pa.float64()),
        pa.field("passes", pa.int64(), nullable=False),
        ("throttled_s", pa.float64()),
        ("throttled_share", pa.float64()),
        ("postcopy_pages", pa.float64()),
        ("extrapolated_s", pa.float64()),
        ("regret_time", pa.float64()),
        ("regret_bytes", pa.float64()),
        pa.field("dominated_by", pa.list_(pa.string()), nullable=False),
    ],
    {"schema": REPLAY},
)
"""The keys of the JSON object's rows."""


def write_parquet(replays: Replays, file: BinaryIO) -> None:
    """The rows, as `SCHEMA` has them."""
    pq.write_table(pa.Table.from_pylist(list(rows(replays)), SCHEMA), file)
