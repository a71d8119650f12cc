"""What a QMP server may answer: used, or refused with one of our errors, and never a traceback.

Answers of a real QEMU 7.2 (qmp_replies.json), of which the fuzzer's bytes replace, drop and rewrite
parts.
"""

import asyncio
import copy
import json
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import atheris

with atheris.instrument_imports(include=["mempattern"]):
    from mempattern.errors import MempatternError
    from mempattern.live.borrowed import Borrowed
    from mempattern.live.figures import Figures
    from mempattern.live.migrator import OnNonconvergence
    from mempattern.live.over_qmp import QMPMigrator, emulates
    from mempattern.live.preflight import check_version
    from mempattern.monitor import stream
    from mempattern.qemu import ram
    from mempattern.sources.maps import Mapping

TEXT = (Path(__file__).parent / "qmp_replies.json").read_text()
REAL = json.loads(TEXT)
COMMANDS = list(REAL)
NO_GUARD: Any = SimpleNamespace(tell=lambda _: None, let_go=lambda: None)
CHOICES = get_args(OnNonconvergence)
RAM_AT = int(REAL["gpa2hva 0x0"].split()[-1], 16)
RAM = Mapping(RAM_AT, RAM_AT + (64 << 20), "rw-p", 0, 0, "", 4096)
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**63, 2**70, 0.5, float("inf"), float("nan"), "", "x", "\0", "\ud800",
    "9" * 5000, [], [None], {}, {"x": 1}, [[]],
    "active", "inmigrate",
)  # fmt: skip


def change(data: atheris.FuzzedDataProvider, value: Any) -> Any:
    """The value with something in it changed."""
    if isinstance(value, (dict, list)) and value and data.ConsumeIntInRange(0, 9):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = keys[data.ConsumeIntInRange(0, len(keys) - 1)]
        if data.ConsumeIntInRange(0, 9) == 0:
            del value[key]
        else:
            value[key] = change(data, value[key])
        return value
    how = data.ConsumeIntInRange(0, 4) if isinstance(value, str) else 0
    if how:
        at = data.ConsumeIntInRange(0, len(value))
        end = at + data.ConsumeIntInRange(0, 20)
        lines = value.splitlines(keepends=True) or [""]
        put = (
            data.ConsumeUnicode(data.ConsumeIntInRange(0, 20)),
            lines[data.ConsumeIntInRange(0, len(lines) - 1)],
            f"{data.ConsumeIntInRange(0, 255):x}",
        )[how % 3]
        if how == 4:  # between two lines, as one of them
            at = end = value.rfind("\n", 0, at) + 1
        return value[:at] + put + value[end:]
    return copy.deepcopy(VALUES[data.ConsumeIntInRange(0, len(VALUES) - 1)])


class Session:
    """In place of both kinds of session."""

    path, pid = "fuzzed", 0

    def __init__(self, replies: dict[str, Any]) -> None:
        self.replies = replies

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None: ...

    def execute(self, command: str, **_: object) -> Any:
        return self.replies.get(command, {})

    def monitor(self, line: str) -> str:
        said = self.replies.get(line, "")
        return said if isinstance(said, str) else ""  # QMP.monitor sees to it


class AsyncSession(Session):
    async def execute(self, command: str, **arguments: object) -> Any:  # type: ignore[override]
        return super().execute(command, **arguments)

    def listen(self, _: object) -> object:
        return None


async def steer(session: Any, more: list[tuple[str, Any]], how: int) -> None:
    with suppress(MempatternError):
        await check_version(session)
    with suppress(MempatternError):
        await emulates(session)
    with suppress(MempatternError):
        Figures.of(session.replies["query-migrate"])
    borrowed = None
    with suppress(MempatternError):
        borrowed = await Borrowed.of(session, None)
    if borrowed is None:
        return
    borrowed._guard = NO_GUARD
    migrator = QMPMigrator(session, borrowed, {}, emulates=False)
    with suppress(MempatternError):
        await migrator.ram_bytes()
    starts, automatic, choice = bool(how & 1), bool(how & 2), CHOICES[how >> 2 & 3]
    with suppress(MempatternError):
        await migrator.check(starts=starts, traces=True, on_nonconvergence=choice)
    with suppress(MempatternError):
        await migrator.prepare(
            on_nonconvergence=choice, auto_converges=automatic, bandwidth_Bps=how or None
        )
    with suppress(MempatternError):
        await migrator.set_limit(how)
    session.replies |= more  # what somebody else does to it
    with suppress(MempatternError):
        await migrator.figures()
    with suppress(MempatternError):
        await migrator.throttle(how)
    with suppress(MempatternError):
        await migrator.put_back(is_over=starts)
    assert migrator.limit_ms >= 0
    assert migrator.was_limit_ms >= 0
    assert migrator.bandwidth_Bps >= 0


def changed(data: atheris.FuzzedDataProvider, replies: dict[str, Any]) -> list[tuple[str, Any]]:
    """Some of the answers, with something in them changed."""
    some = [
        COMMANDS[data.ConsumeIntInRange(0, len(COMMANDS) - 1)]
        for _ in range(data.ConsumeIntInRange(0, 4))
    ]
    return [(command, change(data, replies[command])) for command in some]


def one_input(given: bytes) -> None:
    data = atheris.FuzzedDataProvider(given)
    replies = json.loads(TEXT) | dict(changed(data, json.loads(TEXT)))
    session = Session(replies)
    ram.QMP = lambda *_: session  # type: ignore[assignment, misc]
    with suppress(MempatternError):
        ram.guest_ram_blocks(1, "fuzzed")
    with suppress(MempatternError):
        stream._refuse(session)  # type: ignore[arg-type]
    with suppress(MempatternError):
        stream._settings(session, 1)  # type: ignore[arg-type]
    more = changed(data, json.loads(TEXT))
    runner.run(steer(AsyncSession(replies), more, data.ConsumeIntInRange(0, 255)))


if __name__ == "__main__":
    ram.read_mappings = lambda pid: [RAM]
    atheris.Setup(sys.argv, one_input)
    with asyncio.Runner() as runner:
        atheris.Fuzz()
