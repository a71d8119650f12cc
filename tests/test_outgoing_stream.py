"""What of QEMU's settings is changed for a migration to here, and put back; QEMU is a script."""

import os
import socket
import threading

import pytest
from fake_qmp import FakeQemu, active

from mempattern.errors import QMPError
from mempattern.monitor.stream import OutgoingStream, put_back

LATER = {"mode": "cpr-reboot", "zero-page-detection": "none", "tls-creds": "tls0",
         "avail-switchover-bandwidth": 5_000_000_000}  # fmt: skip
PLAIN = {"mode": "normal", "zero-page-detection": "legacy", "tls-creds": "",
         "avail-switchover-bandwidth": 0}  # fmt: skip


@pytest.fixture
def qmp(tmp_path):
    return tmp_path / "qmp"


def with_capabilities(fake):
    fake.capabilities |= {"return-path": False, "xbzrle": True, "multifd": True}
    return fake


def outgoing(qmp, into=None):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return OutgoingStream(qmp, os.getpid(), into or theirs, 10_000_000)


@pytest.mark.parametrize("later", [{}, LATER, PLAIN])
def test_what_would_change_the_stream_is_plain_for_now(qmp, later):
    fake = with_capabilities(FakeQemu())
    fake.parameters |= later
    before = dict(fake.parameters), dict(fake.capabilities)
    with fake.in_thread(qmp):
        stream = outgoing(qmp)
        plain = PLAIN if later else {}
        assert fake.parameters == before[0] | plain | {
            "downtime-limit": 1, "max-bandwidth": 10_000_000,
        }  # fmt: skip
        assert [name for name, is_on in fake.capabilities.items() if is_on] == ["return-path"]
        stream.end()
        assert (fake.parameters, fake.capabilities) == before
    changed = [name for name, _ in fake.log if name.startswith("migrate")]
    limit, capabilities = "migrate-set-parameters", "migrate-set-capabilities"
    assert changed == [limit, capabilities, "migrate", capabilities, limit]


def test_borrowed_settings_are_not_taken_for_qemus_own(qmp):
    fake = with_capabilities(FakeQemu())
    with fake.in_thread(qmp):
        first = outgoing(qmp)  # its migration is over at once
        with pytest.raises(QMPError, match="a MigrationStream that is not closed"):
            outgoing(qmp)
        first.end()
        outgoing(qmp).end()
    assert fake.parameters["downtime-limit"] == 300
    assert fake.capabilities["xbzrle"]


@pytest.mark.parametrize("status", ["setup", "colo", "postcopy-paused", "one of later"])
def test_any_other_migration_is_left_alone(qmp, status):
    fake = with_capabilities(FakeQemu(before={"status": status}))
    with fake.in_thread(qmp), pytest.raises(QMPError, match="migrates already"):
        outgoing(qmp)
    assert fake.log == []


class FollowedByAnother(FakeQemu):
    """Somebody begins another migration as soon as ours is cancelled; QEMU refuses capabilities."""

    def _do(self, name, arguments):
        said = super()._do(name, arguments)
        if name == "migrate_cancel":
            self.refuse["migrate-set-capabilities"] = "There's a migration process in progress"
            self.script = [{"status": "cancelled"}, active(1, 1000), FollowedByAnother._ends]
        return said

    def _ends(self):
        self.refuse = {}
        return {"status": "completed"}


def test_only_the_own_migration_is_cancelled(qmp):
    fake = with_capabilities(FollowedByAnother(active(1, 1000)))
    with fake.in_thread(qmp):
        stream = outgoing(qmp)
        assert stream.cancel()
        stream.end()
    assert fake.names().count("migrate_cancel") == 1
    assert fake.parameters["downtime-limit"] == 300


class Hesitant(FakeQemu):
    """It migrates, but does not say so."""

    def _do(self, name, arguments):
        said = super()._do(name, arguments)
        return None if name == "migrate" else said


def test_a_migration_that_began_unsaid_is_ended(qmp):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    def until_shut(_):
        try:
            return {"status": "active" if ours.recv(1) else "failed"}
        except BlockingIOError:
            return {"status": "active"}

    fake = with_capabilities(Hesitant(until_shut))
    before = dict(fake.parameters), dict(fake.capabilities)
    with ours, theirs, fake.in_thread(qmp), pytest.raises(QMPError, match="does not answer"):
        outgoing(qmp, theirs)
    assert fake.started
    assert (fake.parameters, fake.capabilities) == before


def test_qemu_that_is_gone_is_nothing_to_put_back(qmp):
    assert put_back(os.fspath(qmp), 2**22 + 1, {}) == ""


def test_what_nobody_hears_of_is_tried_for_longer(qmp, monkeypatch):
    """The reader was killed, and QEMU does not listen: another client, or all of it is stopped."""
    monkeypatch.setattr("mempattern.monitor.stream._GIVE_UP_S", 0.2)
    monkeypatch.setattr("mempattern.monitor.stream._LOOK_UNHEARD_S", 0.05)
    fake = with_capabilities(FakeQemu())
    fake.refuse["migrate-set-capabilities"] = "not now"
    before = {"capabilities": {"xbzrle": False}, "parameters": {"downtime-limit": 77}}
    with fake.in_thread(qmp):
        assert "not now" in put_back(os.fspath(qmp), os.getpid(), before)
        listens = threading.Timer(1, fake.refuse.clear)
        listens.start()
        assert put_back(os.fspath(qmp), os.getpid(), before, is_heard=lambda: False) == ""
        listens.join()
    assert not fake.capabilities["xbzrle"]
    assert fake.limits() == [77]
