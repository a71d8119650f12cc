"""What has to be said to QEMU, or to libvirt, for a migration to go as advised."""

from __future__ import annotations

from typing import Any

from mempattern.migration.advice import Recommendation

Command = dict[str, Any]


def qmp_commands(recommendation: Recommendation) -> tuple[Command, ...]:
    """For the source's monitor, in order, without `migrate` itself (qapi/migration.json).

    "max-bandwidth" is 128 MiB/s unless it is set. Post-copy's capability belongs on both sides,
    and "migrate-start-postcopy" comes once "dirty-sync-count" is 2.
    """
    if recommendation.downtime_limit_s is None:
        return ()
    parameters = {
        "max-bandwidth": max(round(recommendation.bandwidth_Bps), 1),
        "downtime-limit": _milliseconds(recommendation),
    }
    commands = [{"execute": "migrate-set-parameters", "arguments": parameters}]
    if recommendation.action == "throttle":
        commands.append(_enable("auto-converge"))
    if recommendation.action == "postcopy":
        commands += [_enable("postcopy-ram"), {"execute": "migrate-start-postcopy"}]
    return tuple(commands)


def virsh_commands(recommendation: Recommendation) -> tuple[str, ...]:
    """The same for libvirt, which leaves the bandwidth unlimited by itself."""
    if recommendation.downtime_limit_s is None:
        return ()
    how = {
        "throttle": " --auto-converge",
        "postcopy": " --postcopy --postcopy-after-precopy",
    }.get(recommendation.action, "")
    return (
        f"virsh migrate --live{how} DOMAIN DESTINATION",
        f"virsh migrate-setmaxdowntime DOMAIN {_milliseconds(recommendation)}",
    )


def _milliseconds(recommendation: Recommendation) -> int:
    assert recommendation.downtime_limit_s is not None
    return max(round(recommendation.downtime_limit_s * 1e3), 1)


def _enable(capability: str) -> Command:
    state = {"capability": capability, "state": True}
    return {"execute": "migrate-set-capabilities", "arguments": {"capabilities": [state]}}
