"""All policies by the names that commands and results give them. A new one is a line here."""

from collections.abc import Callable

from mempattern.migration.policies.base import Policy
from mempattern.migration.policies.best import Best
from mempattern.migration.policies.qemu import AutoConverge, Relaxed, Stock

POLICIES: dict[str, Callable[[], Policy] | None] = {
    "stock": Stock,
    "relaxed": Relaxed,
    "auto-converge": AutoConverge,
    "best": Best,
    "oracle": None,
}
"""None stands for the oracle, which is no policy: it knows what will come."""
