"""mempattern: know from a virtual machine's dirty pages whether and how it will live-migrate."""

from mempattern import bitmaps, errors, kernels, sources
from mempattern.bitmaps import Seen, group_counts
from mempattern.curve import DirtyCurve, Estimate
from mempattern.distinct import DistinctPages
from mempattern.errors import MempatternError
from mempattern.history import DirtyHistory
from mempattern.interval import Interval, Provenance
from mempattern.regions import Region
from mempattern.stats import Groups, GroupStats

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
    "bitmaps",
    "errors",
    "group_counts",
    "kernels",
    "sources",
]
