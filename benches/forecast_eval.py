"""Every model's forecast of every recorded migration, beside what QEMU did.

python benches/forecast_eval.py RESULTS.json [SET...]

With sets named, the results of the others stay as they are.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import forecast_models as models
from migration_data import SETS, Run, runs, unpacked

from mempattern import DistinctPages


def evaluate(run: Run) -> dict[str, Any]:
    distinct = DistinctPages(run.before[-1].regions)
    for interval in run.before:
        distinct.follow(interval.regions)
        distinct.update(interval)
    curve = distinct.curve()
    said = models.ours(run).outlook(run.limit_s)
    predicted = {
        "mempattern": models.middles(said),
        "mempattern, one course from the trace's start": models.middles(
            models.plain_replay(run).outlook(run.limit_s)
        ),
        "mempattern, D(t) only": models.middles(
            models.ours_from_curve(run, curve).outlook(run.limit_s)
        ),
        "Huawei-style D(t)": models.huawei(run, curve),
        "geometric series": models.geometric(run, curve),
        "QEMU expected-downtime": models.qemus_own(run),
    }
    actual: dict[str, float] = {"converges": run.completed}
    if run.completed:
        actual |= {
            "total_s": run.total_s, "sent_bytes": run.sent_bytes, "downtime_s": run.downtime_s,
            "passes": run.result["ram"]["dirty-sync-count"],
        }  # fmt: skip
    return {
        "case": asdict(run.case),
        "actual": actual,
        "ranges": models.ranges(said),
        "predicted": {name: asdict(one) for name, one in predicted.items()},
    }


def main() -> None:
    out, *names = sys.argv[1:]
    results = json.loads(Path(out).read_text()) if names else {}
    for name in names or (*SETS, "untraced"):
        results[name] = [evaluate(run) for run in runs(unpacked(name))]
    Path(out).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
