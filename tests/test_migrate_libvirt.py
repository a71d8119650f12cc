"""Real migrations between two libvirtds, begun with virsh and steered by the domain's name."""

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest
from libvirt_pair import libvirt_pair
from waiting import until

from mempattern.errors import LibvirtError, LostError, MissingPackageError, ProcessError, UsageError
from mempattern.live.controller import MigrationController
from mempattern.live.guarding import Guard
from mempattern.live.over_libvirt import Domain, DomainMigrator, job_figures
from mempattern.live.steering import Steering
from mempattern.migration.policies import NOTHING, Action, Policy
from mempattern.migration.registry import POLICIES
from mempattern.qemu.ram import qemu_of_uuid

KIND = "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) else "qemu"
INTENSIVE = {"pattern": "uniform", "pages": 2500, "seed": 6}
BYTES_PER_S = 8e6  # one pass of it takes 1.3 s
CEILING_S = 1.8
LIMIT_MS = 250  # not libvirt's default, so that one can tell

needs_libvirt = pytest.mark.usefixtures("libvirt", "uffd")


@pytest.fixture
def pair(request):
    with libvirt_pair(KIND, BYTES_PER_S, **INTENSIVE, **getattr(request, "param", {})) as pair:
        with pair.domain() as domain:
            domain.migrateSetMaxDowntime(LIMIT_MS)
        yield pair


def controller(pair, policy, **more):
    policy = POLICIES[policy]() if isinstance(policy, str) else policy
    more = {"max_downtime_s": CEILING_S, "bandwidth_Bps": BYTES_PER_S} | more
    return MigrationController(Domain(pair.name, pair.source.uri), None, policy, **more)


def steer(pair, policy, **more):
    return asyncio.run(controller(pair, policy, **more).run())


@pytest.mark.parametrize(
    ("pair", "policy", "traces"),
    [({"persistent": False}, "mp", True), ({"persistent": True}, "relaxed", False)],
    indirect=["pair"],
)
@needs_libvirt
def test_an_intensive_guest_arrives_within_the_ceiling(pair, policy, traces):
    virsh = pair.virsh_migrate()
    until(lambda: pair.passes() >= 4, 30)  # stock does not end
    result = steer(pair, policy, traces=traces)
    assert result.completed, result
    assert result.failure is None
    assert result.within_ceiling, result.figures
    assert result.figures.downtime_s > LIMIT_MS / 1000
    assert any(decision.new_limit_s > 1 for decision in result.decisions)
    assert virsh.wait(10) == 0
    assert pair.target.runs(pair.name)
    assert not pair.source.runs(pair.name)
    assert KIND == "qemu" or pair.arrived_whole()
    log = (pair.source.directory / "log" / "qemu" / f"{pair.name}.log").read_text()
    assert "custom-monitor" not in log  # the taint of qemu-monitor-command


@needs_libvirt
def test_where_the_ceiling_is_too_low_it_is_cancelled(pair):
    """A limit that is not enough is put back; so is one that was above the ceiling."""
    virsh = pair.virsh_migrate()
    until(pair.passes)
    arriving = Domain(pair.name, pair.target.uri)
    there = MigrationController(arriving, None, Policy(), max_downtime_s=1)
    with pytest.raises(LibvirtError, match="only on the source host"):
        asyncio.run(there.run())
    result = steer(pair, "relaxed", max_downtime_s=0.2, patience_s=4, on_nonconvergence="cancel")
    assert result.figures.status == "cancelled"
    assert result.within_ceiling is None
    assert result.decisions[0].new_limit_s < 0.2 < result.decisions[0].limit_s
    assert result.decisions[-1].did == "cancel"
    assert virsh.wait(10) != 0
    assert pair.source.runs(pair.name)
    assert pair.limit_ms() == LIMIT_MS


@needs_libvirt
def test_postcopy_if_it_was_begun_so(pair):
    virsh = pair.virsh_migrate()
    until(pair.passes)
    late = {"max_downtime_s": 0.3, "on_nonconvergence": "postcopy"}
    watched = controller(pair, CancelsAt(9), patience_s=pair.passes() + 2, **late)
    result = asyncio.run(watched.run())
    assert result.figures.status == "cancelled"
    assert any("nothing: libvirt" in decision.did for decision in result.decisions)
    assert virsh.wait(10) != 0
    virsh = pair.virsh_migrate("--postcopy")
    until(pair.passes)
    result = steer(pair, "mp", patience_s=4, **late)
    assert result.completed, result
    assert result.decisions[-1].did == "post-copy"
    assert virsh.wait(10) == 0
    assert pair.target.runs(pair.name)
    assert KIND == "qemu" or pair.arrived_whole()


class CancelsAt(Policy):
    poll_s = 0.2

    def __init__(self, at_s):
        self._at_s = at_s

    def poll(self, now):
        return Action(give_up=True) if now.at_s > self._at_s else NOTHING


# ---- whatever happens to the controller ------------------------------------------------------


def command(pair, *more):
    return [
        sys.executable, "-m", "mempattern.cli.main", "migrate", "--domain", pair.name,
        "--connect", pair.source.uri, "--attach", "--max-downtime", "1s", "--json", *more,
    ]  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@needs_libvirt
def test_killed(pair, number):
    """The limit is put back although the migration goes on, and does so by itself."""
    virsh = pair.virsh_migrate()
    until(pair.passes)
    ours = subprocess.Popen(
        command(pair, "--policy", "relaxed"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    said = json.loads(ours.stdout.readline())
    assert 1 - said["new_limit_s"] >= 0.07 + DomainMigrator.handover_s * 0.9
    assert pair.limit_ms() == said["new_limit_s"] * 1000
    ours.send_signal(number)
    _, err = ours.communicate(timeout=20)
    assert ours.returncode == (-9 if number == signal.SIGKILL else 130)
    assert number == signal.SIGKILL or f"virsh domjobabort {pair.name}" in err
    until(lambda: pair.limit_ms() == LIMIT_MS)
    assert pair.passes()
    assert pair.source.runs(pair.name)
    virsh.kill()  # which cancels it
    virsh.communicate()
    until(lambda: not pair.passes())
    assert pair.source.runs(pair.name)


@needs_libvirt
def test_libvirtd_is_killed_and_comes_back(pair):
    virsh = pair.virsh_migrate()
    until(pair.passes)

    killing = controller(pair, Then(pair.source.kill), traces=False)
    with pytest.raises(LostError, match="libvirt at"):
        asyncio.run(killing.run())
    assert virsh.wait(20) != 0
    pair.source.start()
    pair.source.wait()
    assert killing._migrator._guard._process.wait(30) == 0
    assert pair.limit_ms() == LIMIT_MS
    assert pair.source.runs(pair.name)
    assert not pair.passes()  # libvirtd cancels it when it comes back


@needs_libvirt
def test_the_link_is_cut(pair):
    virsh = pair.virsh_migrate()
    until(pair.passes)
    result = steer(pair, Then(pair.link.cut))
    assert result.figures.status == "failed"
    assert virsh.wait(10) != 0
    assert pair.source.runs(pair.name)
    assert pair.limit_ms() == LIMIT_MS
    with pytest.raises(UsageError, match="no migration of the domain is under way"):
        steer(pair, "mp")


@needs_libvirt
def test_the_guest_is_ended(pair):
    virsh = pair.virsh_migrate()
    until(pair.passes)

    def destroy():
        with pair.domain() as domain:
            domain.destroy()

    with pytest.raises(LostError, match="was stopped while it migrated"):
        steer(pair, Then(destroy))
    assert virsh.wait(10) != 0


class Then(Policy):
    """Sets a limit, and then something happens."""

    def __init__(self, happens):
        self._happens = happens

    def begin(self, task):
        return Action(downtime_limit_s=0.6)

    def after(self, done):
        self._happens()
        return NOTHING


# ---- bad input -------------------------------------------------------------------------------


@needs_libvirt
def test_what_is_refused_leaves_the_guest_as_it_was(pair):
    uri = pair.source.uri
    with pair.source.open() as connection, pair.domain() as domain:
        xml = domain.XMLDesc().replace(pair.name, "off").replace(domain.UUIDString(), "4" * 32)
        connection.defineXML(xml)

    def refused(error, match, name=pair.name, uri=uri, **more):
        more = {"max_downtime_s": 1} | more
        with pytest.raises(error, match=match):
            asyncio.run(MigrationController(Domain(name, uri), None, Policy(), **more).run())

    refused(LibvirtError, rf"no domain with matching name 'no'; running are {pair.name}$", "no")
    refused(UsageError, "the domain off is shut off", "off")
    refused(UsageError, "virsh migrate --live")
    refused(UsageError, "auto-converge", on_nonconvergence="throttle")
    refused(LibvirtError, "Is libvirtd", uri=uri.replace("libvirt-sock", "nobody"))
    refused(LibvirtError, "libvirt at nonsense", uri="nonsense://")
    refused(UsageError, "runs no QEMU but TEST", "test", "test:///default")
    done = subprocess.run(
        command(pair)[:-1], capture_output=True, text=True, check=False, timeout=20
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "no migration of the domain is under way" in done.stderr
    assert pair.source.runs(pair.name)
    assert pair.limit_ms() == LIMIT_MS


def test_a_domain_is_attached_to_only():
    with pytest.raises(UsageError, match="virsh migrate --live"):
        MigrationController(Domain("guest"), "tcp:there:1", Policy(), max_downtime_s=1)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "libvirt", None)
    attached = MigrationController(Domain("guest"), None, Policy(), max_downtime_s=1)
    with pytest.raises(MissingPackageError, match=r"pip install 'mempattern\[libvirt\]'"):
        asyncio.run(attached.run())


def test_no_pages_of_another_host(monkeypatch):
    class Remote:
        uri = "qemu+ssh://there/system"

        def close(self):
            pass

    monkeypatch.setattr(Domain, "_find", lambda self: (Remote(), None))
    with pytest.raises(UsageError, match=r"another host.*--no-trace"):
        Domain("guest").ram()


def test_no_qemu_with_that_uuid():
    with pytest.raises(ProcessError, match="no QEMU with -uuid"):
        qemu_of_uuid("00000000-1111-2222-3333-444444444444")


FAKE_LIBVIRT = """
import pathlib
VIR_CONNECT_LIST_DOMAINS_ACTIVE = 1
said = pathlib.Path(__file__).parent / "said"
class libvirtError(Exception): pass
class Fake:
    def listAllDomains(self, flags): return [self]
    def UUIDString(self): return "mine"
    def migrateGetMaxDowntime(self, flags): return answers.pop(0)
    def migrateSetMaxDowntime(self, limit_ms, flags): said.write_text(f"{limit_ms}")
    def close(self): pass
def open(uri):
    if answers[0] == "gone":
        raise libvirtError(answers.pop(0))
    return Fake()
answers = """


@pytest.mark.parametrize(
    ("answers", "domain", "put_back"),
    [([900], "mine", "300"), ([800], "mine", "300"), (["gone", None, 900], "mine", "300"),
     ([77], "mine", None), ([900], "left", None)],
)  # fmt: skip
def test_the_guard_puts_back_what_is_ours(answers, domain, put_back, tmp_path):
    """Now or later, and never what somebody else has set since."""
    (tmp_path / "libvirt.py").write_text(f"{FAKE_LIBVIRT}{answers!r}")
    guard = Guard()
    wanted = {"uri": "x:///", "domain": domain, "library": str(tmp_path)}
    guard.tell(wanted | {"limit": [300, [700, 800]]})
    guard.tell(wanted | {"limit": [300, [800, 900]]})
    guard.let_go()
    assert guard._process.wait(20) == 0
    said = tmp_path / "said"
    assert (said.read_text() if said.exists() else None) == put_back


class FakeConnection:
    """A libvirt with one domain, "mine", that is its own."""

    uri = "x:///"
    limit_ms = 300
    refuses = False

    def ask(self, function, *arguments, of=None):
        if function == "migrateSetMaxDowntime":
            if self.refuses:
                raise LibvirtError("not now")
            self.limit_ms = arguments[0]
        return [self] if function == "listAllDomains" else self.limit_ms

    def watch(self, domain, events, loop):
        pass

    def close(self):
        pass

    def UUIDString(self):
        return "mine"


@pytest.fixture
def migrator(monkeypatch):
    """Of a domain whose limit is 300 ms."""
    monkeypatch.setattr("mempattern.live.over_libvirt.binding_folder", str)
    libvirt = FakeConnection()
    migrator = DomainMigrator(libvirt, libvirt, None)
    migrator.was_limit_ms = libvirt.limit_ms
    return migrator


def test_a_limit_that_somebody_else_has_set_is_put_back(migrator):
    """Also if we set another one after it."""
    libvirt = migrator._connection

    async def run():
        steering = Steering(migrator, 1.0)
        await steering.do(Action(0.8))
        libvirt.limit_ms = 77
        assert "somebody else has set 77 ms" in (await steering.do(Action(0.5)))[0]
        assert (libvirt.limit_ms, migrator.limit_ms) == (500, 500)
        await migrator.put_back(is_over=True)
        migrator.let_go()

    asyncio.run(run())
    assert libvirt.limit_ms == 77


def test_limits_that_could_not_be_set(migrator):
    """However many: what is in force is known to be from us, and put back."""
    libvirt = migrator._connection

    async def run():
        steering = Steering(migrator, 1.0)
        await steering.do(Action(0.8))
        libvirt.refuses = True
        for limit_s in (0.7, 0.6, 0.5):
            with pytest.raises(LibvirtError):
                await steering.do(Action(limit_s))
        libvirt.refuses = False
        await migrator.put_back(is_over=True)
        migrator.let_go()

    asyncio.run(run())
    assert libvirt.limit_ms == 300


def test_one_steers_at_a_time(monkeypatch):
    libvirt = FakeConnection()
    monkeypatch.setattr(Domain, "_find", lambda self: (libvirt, libvirt))
    monkeypatch.setattr("mempattern.live.over_libvirt.qemu_of_uuid", lambda uuid: os.getpid())

    async def run():
        async with Domain("mine").open():
            with pytest.raises(UsageError, match="another mempattern"):
                async with Domain("mine").open():
                    pass
            libvirt.uri = "qemu+ssh://there/system"  # its process is not seen
            async with Domain("mine").open():
                pass
            libvirt.uri = "x:///"
        async with Domain("mine").open():
            pass

    asyncio.run(run())


def test_figures():
    """By hand, from what a libvirt 9.0 said; then an older one, and nonsense."""
    said = {
        "type": 2, "operation": 5, "time_elapsed": 3673, "downtime": 1217, "setup_time": 2,
        "memory_processed": 27761799, "memory_remaining": 1847296, "memory_bps": 8413380,
        "memory_dirty_rate": 1859, "memory_iteration": 3, "memory_page_size": 4096,
        "auto_converge_throttle": 20,
    }  # fmt: skip
    now = job_figures(said, "active")
    assert (now.at_s, now.number, now.bandwidth_Bps, now.throttle) == (3.673, 3, 8413380, 0.2)
    assert (now.sent_bytes, now.remaining_bytes) == (27761799, 1847296)
    assert (now.expected_downtime_s, now.downtime_s, now.setup_s) == (1.217, None, 0.002)
    over = job_figures(said, "completed")
    assert (over.expected_downtime_s, over.downtime_s) == (None, 1.217)
    assert job_figures({"type": 2}, "active").page_bytes == 4096
    with pytest.raises(LibvirtError, match="no sense"):
        job_figures({"memory_iteration": "many"}, "active")
