"""What was traced, as the reports and the trace file name it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mempattern._terminal import printable


@dataclass(frozen=True, slots=True)
class Target:
    """A process, what of its memory was watched, and what attaching to it cost it."""

    name: str | None = None
    pid: int | None = None
    traced: str | None = None
    """In words: what was traced and how that was found."""
    attach_s: float | None = None
    """Seconds for which attaching stopped the process."""
    is_guest: bool = False
    """Whether all the RAM of a guest is watched."""

    def to_meta(self) -> dict[str, str]:
        """For the trace file's table of facts."""
        facts = {
            "target": self.name,
            "pid": self.pid,
            "traced": self.traced,
            "attach_s": self.attach_s,
            "guest": 1 if self.is_guest else None,
        }
        return {key: str(fact) for key, fact in facts.items() if fact is not None}

    @classmethod
    def from_meta(cls, meta: Mapping[str, str]) -> Target:
        """The inverse. What makes no sense in the file is left out."""
        pid = meta.get("pid", "")
        try:
            attach_s = float(meta["attach_s"])
        except (KeyError, ValueError):
            attach_s = math.nan
        return cls(
            _of(meta, "target"),
            int(pid) if pid.isdecimal() and len(pid) < 12 else None,
            _of(meta, "traced"),
            attach_s if 0 <= attach_s < math.inf else None,
            meta.get("guest") == "1",
        )

    def __str__(self) -> str:
        if self.pid is None:
            return self.name or "a process"
        return f"pid {self.pid}" + (f" ({self.name})" if self.name else "")


UNKNOWN = Target()


def _of(meta: Mapping[str, str], name: str) -> str | None:
    text = meta.get(name)
    return None if text is None else printable(text)
