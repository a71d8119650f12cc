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
from typing import Any
from unittest import mock

import atheris

with atheris.instrument_imports(include=["mempattern"]):
    from mempattern.errors import MempatternError
    from mempattern.live.borrowed import Borrowed
    from mempattern.live.figures import Figures
    from mempattern.live.over_qmp import QMPMigrator, emulates
    from mempattern.live.preflight import check_state, check_version
    from mempattern.qemu import ram, stream
    from mempattern.sources.maps import Mapping

REAL = json.loads((Path(__file__).parent / "qmp_replies.json").read_text())
RAM_AT = int(REAL["gpa2hva 0x0"].split()[-1], 16)
RAM = Mapping(RAM_AT, RAM_AT + (64 << 20), "rw-p", 0, 0, "", 4096)
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**63, 2**70, 0.5, float("inf"), float("nan"), "", "x", "\0", "\ud800",
    "9" * 5000, [], [None], {}, {"x": 1}, [[]],
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
    if isinstance(value, str) and data.ConsumeIntInRange(0, 3):
        at = data.ConsumeIntInRange(0, len(value))
        end = at + data.ConsumeIntInRange(0, 20)
        return value[:at] + data.ConsumeUnicode(data.ConsumeIntInRange(0, 20)) + value[end:]
    return VALUES[data.ConsumeIntInRange(0, len(VALUES) - 1)]


class Session:
    """In place of both kinds of session."""

    def __init__(self, replies: dict[str, Any]) -> None:
        self.replies = replies

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None: ...

    def execute(self, command: str, **_: object) -> Any:
        return copy.deepcopy(self.replies.get(command, {}))

    def monitor(self, line: str) -> str:
        said = self.replies.get(line, "")
        return said if isinstance(said, str) else ""  # QMP.monitor sees to it


class AsyncSession(Session):
    async def execute(self, command: str, **arguments: object) -> Any:  # type: ignore[override]
        return super().execute(command, **arguments)

    def listen(self, _: object) -> object:
        return None


async def steer(session: Any) -> None:
    with suppress(MempatternError):
        await check_version(session)
    with suppress(MempatternError):
        await check_state(session, starts=True)
    with suppress(MempatternError):
        await emulates(session)
    with suppress(MempatternError):
        Figures.of(session.replies["query-migrate"])
    borrowed = None
    with suppress(MempatternError):
        borrowed = await Borrowed.of(session, None)
    if borrowed is None:
        return
    migrator = QMPMigrator(session, borrowed, {}, emulates=False)
    with suppress(MempatternError):
        await migrator.ram_bytes()
    with suppress(MempatternError):
        await migrator.look()
    with suppress(MempatternError):
        await migrator.figures()
    assert migrator.limit_ms >= 0
    assert migrator.was_limit_ms >= 0
    assert migrator.bandwidth_Bps >= 0


def one_input(given: bytes) -> None:
    data = atheris.FuzzedDataProvider(given)
    replies = copy.deepcopy(REAL)
    for _ in range(data.ConsumeIntInRange(1, 4)):
        replies = change(data, replies) or {}
    if not isinstance(replies, dict) or not REAL.keys() <= replies.keys():
        return
    session = Session(replies)
    with (
        mock.patch.object(ram, "QMP", return_value=session),
        mock.patch.object(ram, "read_mappings", return_value=[RAM]),
        suppress(MempatternError),
    ):
        ram.guest_ram_blocks(1, "fuzzed")
    with suppress(MempatternError):
        stream._refuse(session)  # type: ignore[arg-type]
    with suppress(MempatternError):
        stream._settings(session, 1)  # type: ignore[arg-type]
    with asyncio.Runner() as runner:
        runner.run(steer(AsyncSession(replies)))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
