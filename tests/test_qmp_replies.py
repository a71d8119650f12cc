"""Answers that no QEMU gives: one error that says which, and no traceback.

fuzz/qmp_replies.py found the first; reading the code for it showed the others.
"""

import asyncio
import json
from pathlib import Path

import pytest

from mempattern.errors import QMPError
from mempattern.live.borrowed import Borrowed
from mempattern.live.figures import Figures
from mempattern.live.over_qmp import QMPMigrator, emulates
from mempattern.live.preflight import check_state, check_version
from mempattern.monitor import stream

REAL = json.loads((Path(__file__).parent.parent / "fuzz/qmp_replies.json").read_text())
PARAMETERS = REAL["query-migrate-parameters"]
NO_LIMIT = {name: value for name, value in PARAMETERS.items() if name != "downtime-limit"}


class Session:
    def __init__(self, command, said):
        self.replies = REAL | {command: said}

    async def execute(self, command, **_):
        return self.replies[command]

    def listen(self, _):
        return None


async def use_all(session):
    await check_version(session)
    await check_state(session, starts=True)
    await emulates(session)
    migrator = QMPMigrator(session, await Borrowed.of(session, None), {}, emulates=False)
    await migrator.ram_bytes()
    await migrator.look()
    await migrator.figures()
    return migrator


def test_what_a_real_qemu_answered():
    migrator = asyncio.run(use_all(Session("query-kvm", REAL["query-kvm"])))
    assert (migrator.limit_ms, migrator.bandwidth_Bps) == (300, 128 << 20)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("query-status", None),
        ("query-status", []),
        ("query-kvm", None),
        ("query-version", {"qemu": {"major": "7", "minor": 2, "micro": 0}}),
        ("query-version", {"qemu": {"major": None, "minor": 2, "micro": 0}}),
        ("query-version", []),
        ("query-memory-size-summary", []),
        ("query-memory-size-summary", {"base-memory": "64M"}),
        ("query-memory-size-summary", {"base-memory": float("nan")}),
        ("query-memory-size-summary", {"base-memory": 1, "plugged-memory": -1}),
        ("query-migrate", {"total-time": float("inf")}),
        ("query-migrate", {"ram": {"mbps": float("nan")}}),
        ("query-migrate", {"ram": {"remaining": float("inf")}}),
        ("query-migrate-parameters", None),
        ("query-migrate-parameters", NO_LIMIT),
        ("query-migrate-parameters", PARAMETERS | {"downtime-limit": "1"}),
        ("query-migrate-capabilities", {"capability": "events"}),
        ("query-migrate-capabilities", [None]),
        ("query-migrate-capabilities", [{"capability": [], "state": True}]),
        ("query-migrate-capabilities", [{"capability": "events"}]),
    ],
)
def test_what_makes_no_sense_is_an_error_that_names_it(command, said):
    with pytest.raises(QMPError, match=r"QEMU (answered|lists)"):
        asyncio.run(use_all(Session(command, said)))


class Asked:
    """The same for the session that does not last."""

    def __init__(self, command, said):
        self.replies = REAL | {command: said}

    def execute(self, command):
        return self.replies[command]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("query-migrate-capabilities", [{"state": True}]),
        ("query-migrate-capabilities", [5]),
        ("query-migrate-parameters", {"downtime-limit": 300}),
    ],
)
def test_settings_that_make_no_sense_are_not_changed(command, said):
    with pytest.raises(QMPError):
        stream._settings(Asked(command, said), 1)


def test_a_number_too_large_for_any_integer():
    with pytest.raises(QMPError, match="setup-time inf"):
        Figures.of({"setup-time": 1e400})


@pytest.mark.parametrize("size", [0, 0.5])
def test_pages_of_no_bytes(size):
    with pytest.raises(QMPError, match="pages of 0 bytes"):
        Figures.of({"ram": {"page-size": size}})
