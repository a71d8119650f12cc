"""`mempattern predict`: whether and how the VM of a trace will migrate, before it is tried."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mempattern.cli.arguments import quantity
from mempattern.cli.exits import UsageFault
from mempattern.errors import UsageError
from mempattern.interval import Bitmap
from mempattern.migration.advice import advise
from mempattern.migration.memory import CHUNK_PAGES
from mempattern.migration.recording import Recording
from mempattern.migration.zeros import zeros_of
from mempattern.quantities import parse_bandwidth, parse_duration, parse_pages
from mempattern.report.advice import Predicted, forecast_object, lines
from mempattern.report.jsonlines import print_json
from mempattern.report.target import Target
from mempattern.report.units import format_bytes
from mempattern.trace import TraceReader

_CHUNKS = {"kvm": CHUNK_PAGES, "tcg": 0}
_MOST_MEMORY = 0.5
"""Of the machine's."""
_MOST = 16
"""Bandwidths and limits: a table is for reading."""


def add_to(commands: Any) -> None:
    predict = commands.add_parser(
        "predict",
        help="say whether, when and at what cost a VM will migrate",
        description=__doc__,
    )
    add = predict.add_argument
    add("file", type=Path, metavar="FILE.mpt", help="what mempattern-trace -o wrote")
    add("--bandwidth", type=_several(parse_bandwidth), required=True, metavar="B[,B...]",
        help="of the link, as in 10Gbit or 1.25GB/s; one alone is compared with half and twice "
        "as much")  # fmt: skip
    add("--max-downtime", type=quantity(parse_duration), required=True, metavar="D",
        help="for which the guest may stand still, as in 300ms")  # fmt: skip
    add("--downtime-limit", type=_several(parse_duration), metavar="D[,D...]",
        help="QEMU's setting, the table's columns (default 300ms, the maximum, one between)",
    )  # fmt: skip
    add("--max-time", type=quantity(parse_duration), metavar="D",
        help="after which a migration would be given up (default: ten times what sending all "
        "memory once takes, at least 60s)")  # fmt: skip
    add("--zero-pages", metavar="N|SIZE",
        help="how many pages, or how much memory, hold only zeros")  # fmt: skip
    add("--accel", choices=tuple(_CHUNKS), default="kvm",
        help="what runs the guest (default kvm): when QEMU clears the log of writes")  # fmt: skip
    add("--json", action="store_true", help="one object on stdout")
    predict.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    try:
        predicted = _predict(options)
    except UsageError as error:
        raise UsageFault(str(error)) from None
    if options.json:
        print_json(forecast_object(predicted))
    else:
        print("\n".join(lines(predicted)))
    return 0


def _predict(options: argparse.Namespace) -> Predicted:
    with TraceReader(options.file) as trace:
        _check_size(trace)
        recording, meta, dropped = Recording(trace), trace.meta, trace.dropped
        is_guest = Target.from_meta(meta).is_guest or trace.provenance.source.startswith("kvm-")
    zero: int | Sequence[Bitmap]
    if options.zero_pages is not None:
        zero, note = _checked(parse_pages(options.zero_pages, recording.page_bytes), recording)
    else:
        zeros, note = zeros_of(recording, meta)
        zero = zeros or 0
    bandwidths: list[float] = options.bandwidth
    advice = advise(
        recording,
        bandwidths if len(bandwidths) > 1 else [bandwidths[0] * by for by in (0.5, 1, 2)],
        options.max_downtime,
        options.downtime_limit,
        zero=zero,
        chunk_pages=_CHUNKS[options.accel],
        patience_s=options.max_time,
    )
    notes = [note] if note else []
    if not is_guest:
        notes.append("the trace is not of all the RAM of a guest; this is as if it were")
    if dropped:
        notes.append(f"{dropped} intervals are not in the trace, whose disk did not keep up")
    return Predicted(recording, advice, tuple(bandwidths), tuple(notes))


def _check_size(trace: TraceReader) -> None:
    """All its bitmaps are held at once."""
    n_words = sum(region.n_words for region in trace[len(trace) - 1].regions) if len(trace) else 0
    needed = len(trace) * n_words * 8
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > _MOST_MEMORY * there:
        raise UsageError(
            f"the trace takes {format_bytes(needed)} of memory, more than half of this machine's "
            f"{format_bytes(there)}: record for a shorter time or in longer intervals"
        )


def _checked(zero_pages: int, recording: Recording) -> tuple[int, str | None]:
    """Pages that were written hold something."""
    unwritten = recording.n_pages - recording.touched_pages
    if zero_pages > recording.n_pages:
        raise UsageError(
            f"--zero-pages {zero_pages} are more than the {recording.n_pages} pages of the trace"
        )
    if zero_pages <= unwritten:
        return zero_pages, None
    return unwritten, f"{unwritten} pages were never written, and no others are taken to be zero"


def _several(parse: Callable[[str], float]) -> Callable[[str], list[float]]:
    """Separated by commas."""

    def parsed(text: str) -> list[float]:
        parts = text.split(",")
        if len(parts) > _MOST:
            raise argparse.ArgumentTypeError(f"has {len(parts)} values; give {_MOST} at most")
        return sorted({quantity(parse)(part) for part in parts})

    return parsed
