"""A network of its own, whose loopback is a link of a given speed. Needs root, `ip` and `tc`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

BUFFER_S = 0.01
NAMESPACE = f"mempattern-{os.getpid()}"


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


@contextmanager
def link(bytes_per_s: int) -> Iterator[list[str]]:
    """A network of its own with a loopback of that speed; gives what runs a command in it."""
    inside = ["ip", "netns", "exec", NAMESPACE]
    run("ip", "netns", "add", NAMESPACE)
    try:
        run(*inside, "ip", "link", "set", "lo", "up")
        # What waits in the socket counts as sent, so it is short; but long enough that a sender
        # who waits for a processor does not leave the link idle.
        waiting = max(int(bytes_per_s * BUFFER_S), 128 << 10)
        run(*inside, "tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate",
            f"{bytes_per_s * 8}bit", "burst", f"{waiting}b", "latency", "200ms")  # fmt: skip
        run(*inside, "sysctl", "-qw", f"net.ipv4.tcp_wmem=4096 {waiting} {waiting}")
        run(*inside, "sysctl", "-qw", "net.ipv4.tcp_rmem=4096 1048576 4194304")
        yield inside
    finally:
        run("ip", "netns", "del", NAMESPACE)
