"""KubeVirt's policies with clocks a tenth as long.

They are made for guests of gigabytes: theirs would wait longer between two steps than ours take to
migrate, and the comparison would be of waiting times.
"""

from __future__ import annotations

from mempattern.migration.policies import KubeVirtRamp, KubeVirtStall


class Ramp(KubeVirtRamp):
    def __init__(self) -> None:
        super().__init__(cooldown_s=1.0)


class Stall(KubeVirtStall):
    def __init__(self) -> None:
        super().__init__(stall_s=4.0, switchover_s=6.0)
