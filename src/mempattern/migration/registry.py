"""All policies by the names that commands and results give them: one an import and a line."""

from collections.abc import Callable

from mempattern.migration.best import Best
from mempattern.migration.policies import (
    AutoConverge,
    CloudHypervisor,
    HotPages,
    KubeVirtLegacy,
    KubeVirtPostCopy,
    KubeVirtRamp,
    KubeVirtStall,
    MemoryPattern,
    Nova,
    OVirt,
    Policy,
    Proxmox,
    Relaxed,
    Stock,
    XenClassic,
    XenToday,
)

POLICIES: dict[str, Callable[[], Policy] | None] = {
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
    "best": Best,
    "oracle": None,
}
"""None stands for the oracle, which is no policy: it knows what will come."""
