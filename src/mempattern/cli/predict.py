"""`mempattern predict`: whether and how the VM of a trace will migrate, before it is tried."""

from __future__ import annotations

import argparse
from pathlib import Path

from mempattern.cli.arguments import Parser, quantity
from mempattern.cli.exits import UsageFault
from mempattern.cli.migration import CHUNKS, add_how, several
from mempattern.errors import UsageError
from mempattern.migration.advice import advise
from mempattern.migration.traces import read_migrant
from mempattern.quantities import parse_bandwidth, parse_duration
from mempattern.report.advice import Predicted, forecast_object, lines
from mempattern.report.jsonlines import print_json

_DESCRIPTION = "Whether and how the VM of a trace will migrate, before it is tried."

_EXAMPLES = (
    ("mempattern predict guest.mpt --bandwidth 1Gbit --max-downtime 1s",
     "over one link, compared with half and twice as much"),
    ("mempattern predict guest.mpt --bandwidth 1Gbit,2Gbit --max-downtime 1s --accel tcg",
     "two links, of a guest that QEMU emulates"),
)  # fmt: skip


def fill(predict: Parser) -> None:
    predict.describe(
        _DESCRIPTION, _EXAMPLES,
        {0: "done, whatever is recommended", 1: "",
         2: "wrong usage, or a trace that cannot migrate (no interval, pages of several sizes)",
         4: "", 130: "", 143: ""},
    )  # fmt: skip
    add = predict.add_argument
    add("file", type=Path, metavar="FILE.mpt", help="what mempattern-trace -o wrote")
    add("--bandwidth", type=several(parse_bandwidth), required=True, metavar="B[,B...]",
        help="of the link, as in 10Gbit or 1.25GB/s; one alone is compared with half and twice "
        "as much")  # fmt: skip
    add("--max-downtime", type=quantity(parse_duration), required=True, metavar="D",
        help="the ceiling: for how long the guest may stand still, as in 300ms")  # fmt: skip
    add("--downtime-limit", type=several(parse_duration), metavar="D[,D...]",
        help="QEMU's setting, the table's columns (default 300ms, the ceiling, one between)",
    )  # fmt: skip
    add_how(predict)
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
    migrant = read_migrant(options.file, options.zero_pages)
    bandwidths: list[float] = options.bandwidth
    advice = advise(
        migrant.recording,
        bandwidths if len(bandwidths) > 1 else [bandwidths[0] * by for by in (0.5, 1, 2)],
        options.max_downtime,
        options.downtime_limit,
        zero=migrant.zero or 0,
        chunk_pages=CHUNKS[options.accel],
        patience_s=options.max_time,
    )
    return Predicted(migrant.recording, advice, tuple(bandwidths), migrant.notes)
