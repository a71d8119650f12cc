"""The outcomes of `evidence.py`, by migration."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mempattern.migration.compare import is_within
from mempattern.migration.registry import POLICIES
from mempattern.migration.simulate import Outcome

STOCK_LIMIT_S = 0.3
SETS = {
    "design": "the traces our policy was made with",
    "held": "traces recorded in the same way from another seed",
    "programs": "the corpus: the guest program, and real programs",
}


@dataclass(frozen=True)
class Migration:
    """One trace over one link, under every policy."""

    set: str
    trace: str
    bandwidth_Bps: float
    ceiling_s: float
    outcomes: dict[str, Outcome]

    @property
    def oracle(self) -> Outcome:
        return self.outcomes["oracle"]

    @property
    def stock_completes(self) -> bool:
        return self.outcomes["stock"].success

    def moves(self, policy: str) -> bool:
        return is_within(self.outcomes[policy], self.ceiling_s)

    def is_early(self, policy: str) -> bool:
        """It stopped for longer than stock allows a guest that stock would have moved."""
        one = self.outcomes[policy]
        if policy == "stock":
            return False
        return self.stock_completes and one.success and not is_within(one, STOCK_LIMIT_S)


def load(path: str | Path) -> list[Migration]:
    table = json.loads(Path(path).read_text())
    names = [field.name for field in fields(Outcome)]
    found: dict[tuple[str, str, float, float], Migration] = {}
    for number in range(len(table["policy"])):
        link = table["bandwidth_Bps"][number], table["ceiling_s"][number]
        key = (table["set"][number], table["trace"][number], *link)
        values = {name: _number(table[name][number]) for name in names}
        migration = found.setdefault(key, Migration(*key, {}))
        migration.outcomes[values["policy"]] = Outcome(**values)
    return list(found.values())


def _number(value: Any) -> Any:
    return math.nan if value is None else value


def under_ceilings(migrations: list[Migration]) -> list[Migration]:
    return [m for m in migrations if set(m.outcomes) == set(POLICIES)]


def by_set(migrations: list[Migration]) -> Iterator[tuple[str, list[Migration]]]:
    for name in SETS:
        some = [m for m in migrations if m.set == name]
        if some:
            yield name, some
