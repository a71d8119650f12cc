"""How others steer a migration, and what a policy is: a subclass of `Policy`."""

from mempattern.migration.policies.base import NOTHING, Action, Pass, Policy, Progress, Task
from mempattern.migration.policies.cloud_hypervisor import CloudHypervisor
from mempattern.migration.policies.compiled import Compiled
from mempattern.migration.policies.deferral import HotPages
from mempattern.migration.policies.kubevirt import (
    KubeVirtLegacy,
    KubeVirtPostCopy,
    KubeVirtRamp,
    KubeVirtStall,
)
from mempattern.migration.policies.memory_pattern import MemoryPattern
from mempattern.migration.policies.nova import Nova
from mempattern.migration.policies.ovirt import OVirt
from mempattern.migration.policies.proxmox import Proxmox
from mempattern.migration.policies.qemu import AutoConverge, Relaxed, Stock
from mempattern.migration.policies.xen import XenClassic, XenToday

__all__ = [
    "Action",
    "AutoConverge",
    "CloudHypervisor",
    "Compiled",
    "HotPages",
    "KubeVirtLegacy",
    "KubeVirtPostCopy",
    "KubeVirtRamp",
    "KubeVirtStall",
    "MemoryPattern",
    "NOTHING",
    "Nova",
    "OVirt",
    "Pass",
    "Policy",
    "Progress",
    "Proxmox",
    "Relaxed",
    "Stock",
    "Task",
    "XenClassic",
    "XenToday",
]
