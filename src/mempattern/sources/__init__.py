"""Sources of dirty pages. Each yields one `Interval` per collection."""

from mempattern.sources.auto import open_process
from mempattern.sources.base import Source
from mempattern.sources.kvm import KVMDirtyLog, KVMDirtyRing, Memslot
from mempattern.sources.migration_stream import MigrationStream
from mempattern.sources.process import ProcessWrites
from mempattern.sources.replay import Replay
from mempattern.sources.soft_dirty import SoftDirty

__all__ = [
    "KVMDirtyLog",
    "KVMDirtyRing",
    "Memslot",
    "MigrationStream",
    "ProcessWrites",
    "Replay",
    "SoftDirty",
    "Source",
    "open_process",
]
