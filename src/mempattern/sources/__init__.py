"""Sources of dirty pages. Each yields one `Interval` per collection."""

from mempattern.sources.base import Source
from mempattern.sources.kvm import KVMDirtyLog, KVMDirtyRing, Memslot
from mempattern.sources.replay import Replay

__all__ = ["KVMDirtyLog", "KVMDirtyRing", "Memslot", "Replay", "Source"]
