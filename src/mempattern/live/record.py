"""A migration's figures among the facts of its trace: as JSON, cut to what a fact may hold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from mempattern._json import is_object
from mempattern.live.decisions import Decision, Passed, Result

_META = "migration"
_MOST_BYTES = 60_000
_MOST_PARTS = 100
"""Of each list; what does not fit into them is left out, the oldest first."""


def result_object(result: Result) -> dict[str, Any]:
    """How it ended, for JSON: seconds, bytes, and QEMU's own words."""
    return {
        **asdict(result.figures),
        "total_s": result.figures.at_s,
        "ceiling_s": result.ceiling_s,
        "within_ceiling": result.within_ceiling,
        "n_passes": len(result.passes),
        "n_decisions": len(result.decisions),
        "failure": result.failure,
    }


def decision_object(decision: Decision) -> dict[str, Any]:
    """Its fields and its `pending_s`, for JSON."""
    return {**asdict(decision), "pending_s": decision.pending_s}


def pass_object(done: Passed) -> dict[str, Any]:
    """`ns` is CLOCK_MONOTONIC, as of the trace's intervals."""
    kept = {
        key: value
        for key, value in asdict(done.figures).items()
        if key not in ("downtime_s", "setup_s", "error")
    }
    return {"ns": done.ns, **kept, "limit_s": done.limit_s, "dirty_pages": done.dirty_pages}


def to_meta(result: Result) -> dict[str, str]:
    """Facts for a trace file."""
    return {
        _META: json.dumps(result_object(result)),
        **_cut("passes", map(pass_object, result.passes)),
        **_cut("decisions", map(decision_object, result.decisions)),
    }


def from_meta(meta: Mapping[str, str]) -> dict[str, object] | None:
    """The result's object with its lists of `passes` and `decisions`; None for other traces.

    Raises `ValueError` for facts that make no sense.
    """
    if _META not in meta:
        return None
    migration = json.loads(meta[_META])
    if not is_object(migration):
        raise ValueError(f"the migration is {migration!r:.50}")
    for name in ("passes", "decisions"):
        parts = sorted(key for key in meta if key.startswith(f"{_META}.{name}."))
        migration[name] = [one for key in parts for one in json.loads(meta[key])]
    return migration


def _cut(name: str, objects: Iterable[dict[str, Any]]) -> dict[str, str]:
    parts = list(_parts(objects))[-_MOST_PARTS:]
    return {f"{_META}.{name}.{number:03}": part for number, part in enumerate(parts)}


def _parts(objects: Iterable[dict[str, Any]]) -> Iterator[str]:
    part: list[str] = []
    n_bytes = 0
    for one in objects:
        text = json.dumps(one)
        if part and n_bytes + len(text) > _MOST_BYTES:
            yield f"[{', '.join(part)}]"
            part, n_bytes = [], 0
        part.append(text)
        n_bytes += len(text) + 2
    if part:
        yield f"[{', '.join(part)}]"
