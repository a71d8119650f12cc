"""How others, and we, steer a migration. A new policy is a subclass of `Policy` and a line here."""

from collections.abc import Callable

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

POLICIES: dict[str, Callable[[], Policy]] = {
    "stock": Stock,
    "relaxed": Relaxed,
    "auto-converge": AutoConverge,
    "xen-classic": XenClassic,
    "xen-today": XenToday,
    "nova": Nova,
    "ovirt": OVirt,
    "proxmox": Proxmox,
    "cloud-hypervisor": CloudHypervisor,
    "kubevirt-legacy": KubeVirtLegacy,
    "kubevirt-postcopy": KubeVirtPostCopy,
    "kubevirt-stall": KubeVirtStall,
    "kubevirt-ramp": KubeVirtRamp,
    "hot-pages": HotPages,
    "mp": MemoryPattern,
}
"""By the names that commands and results give them."""

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
    "POLICIES",
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
