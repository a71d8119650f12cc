"""mempattern: know from a virtual machine's dirty pages whether and how it will live-migrate."""

from mempattern import errors, kernels, sources
from mempattern.curve import DirtyCurve, Estimate
from mempattern.distinct import DistinctPages
from mempattern.errors import MempatternError
from mempattern.history import DirtyHistory
from mempattern.interval import Interval, Provenance
from mempattern.regions import Region
from mempattern.stats import Groups, GroupStats, Seen, group_counts

__version__ = "0.1.0"

__all__ = [
    "DirtyCurve",
    "DirtyHistory",
    "DistinctPages",
    "Estimate",
    "GroupStats",
    "Groups",
    "Interval",
    "MempatternError",
    "Provenance",
    "Region",
    "Seen",
    "__version__",
    "errors",
    "group_counts",
    "kernels",
    "sources",
]
