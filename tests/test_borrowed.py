"""QEMU's settings are put back: after a loss, beside others who set them, by a guard."""

import asyncio
import gc
import os
import signal
import time
from contextlib import suppress

import pytest
from fake_qmp import PARAMETERS, FakeQemu, active, completed
from steered import PASSES, PENDING, Answers, settled, slowly, steer, until

from mempattern.errors import LostError, MonitorError, UsageError
from mempattern.live.controller import MigrationController
from mempattern.live.guarding import Guard
from mempattern.live.over_qmp import QMPSocket
from mempattern.migration.policies import NOTHING, Action


def test_qmp_is_lost_and_the_guard_puts_back_what_was_changed(tmp_path):
    fake = FakeQemu(*slowly(*PASSES[:3]), lambda fake: fake.hang_up(), active(3, PENDING))

    async def run():
        path = str(tmp_path / "qmp")
        async with fake.serving(path):
            controller = MigrationController(
                path, "tcp:there:1", Answers(Action(0.8)), max_downtime_s=1, traces=False
            )
            with pytest.raises(LostError, match=r"hung up .* goes on by QEMU's own rules"):
                await asyncio.wait_for(controller.run(), 20)
            assert fake.started
            assert controller.is_under_way
            await settled(fake)

    asyncio.run(run())
    assert fake.limits() == [800, 300]


def test_one_steers_at_a_time(tmp_path):
    """By whichever of its sockets: also its guard has to be done with the parameters first."""
    fake = FakeQemu()
    sockets = [QMPSocket(tmp_path / name) for name in ("one", "other")]

    async def run():
        async with fake.serving(sockets[0].path), fake.serving(sockets[1].path):
            async with sockets[0].open() as migrator:
                await migrator.prepare(
                    on_nonconvergence="continue", auto_converges=False, bandwidth_Bps=None
                )
                await migrator.set_limit(500)
                await refused(sockets[1])
                fake.refuse["migrate-set-parameters"] = "not now"
                fake.refuse["migrate-set-capabilities"] = "during a migration"
            await refused(sockets[1])
            del fake.refuse["migrate-set-parameters"]
            await until(lambda: fake.parameters == PARAMETERS)
            await opened(sockets[1])
            assert fake.capabilities["events"]
            fake.refuse.clear()
            await until(lambda: not fake.capabilities["events"])

    async def refused(socket):
        with pytest.raises(UsageError, match="another mempattern"):
            async with socket.open():
                pass

    async def opened(socket):
        for _ in range(100):
            with suppress(UsageError):
                async with socket.open():
                    return
            await asyncio.sleep(0.05)
        raise AssertionError

    asyncio.run(run())


def test_another_qemu_at_the_same_path_is_left_alone(tmp_path):
    """The guard, which may sleep for seconds between two attempts, knows whose settings it has."""
    fake = FakeQemu()
    socket = QMPSocket(tmp_path / "qmp")

    async def run():
        async with fake.serving(socket.path):
            async with socket.open() as migrator:
                migrator._session.pid = os.getppid()
                await migrator.set_limit(500)
                await migrator.prepare(
                    on_nonconvergence="postcopy", auto_converges=False, bandwidth_Bps=None
                )
            guard = migrator._borrowed._guard._process
            assert await asyncio.to_thread(guard.wait, 20) == 0

    asyncio.run(run())
    assert fake.limits() == [500]
    assert fake.capabilities["events"]


@pytest.mark.parametrize("how", ["guard is killed", "refused"])
def test_limits_that_could_not_be_set(how, tmp_path):
    """However many: what is in force is known to be from us, and put back."""
    fake = FakeQemu()

    async def run():
        async with (
            fake.serving(str(tmp_path / "qmp")),
            QMPSocket(tmp_path / "qmp").open() as migrator,
        ):
            await migrator.set_limit(800)
            if how == "refused":
                fake.refuse["migrate-set-parameters"] = "not now"
            else:
                guard = migrator._borrowed._guard._process
                guard.kill()
                guard.wait()
            for limit_ms in (700, 600, 500):
                with pytest.raises(MonitorError):
                    await migrator.set_limit(limit_ms)
            fake.refuse.clear()
            with suppress(MonitorError):  # that there is no guard
                await migrator.put_back(is_over=True)

    asyncio.run(run())
    assert fake.limits() == [800, 300]


def others(limit_ms, step):
    """Somebody else sets that limit before QEMU answers."""

    def answer(fake):
        fake.parameters["downtime-limit"] = limit_ms
        return step

    return answer


def test_what_somebody_else_has_set_meanwhile_stays(tmp_path):
    fake = FakeQemu(*slowly(*PASSES[:3]), others(77, PASSES[3]), completed())
    steer(fake, Answers(Action(0.8)), tmp_path, left_ms=77)
    assert fake.limits() == [800]


def test_what_somebody_else_has_set_is_put_back(tmp_path):
    """Also if the policy goes on; it is told the limit that is in force."""
    policy = Answers(Action(0.8), NOTHING, Action(0.6), Action(0.5))
    fake = FakeQemu(
        *slowly(*PASSES[:3]), others(77, PASSES[3]), *slowly(*PASSES[4:]), completed()
    )  # fmt: skip
    result = steer(fake, policy, tmp_path, left_ms=77)
    assert fake.limits() == [800, 600, 500, 77]
    assert [done.limit_s for done in policy.seen] == [0.3, 0.8, 0.077, 0.6, 0.5]
    assert [d.did for d in result.decisions] == [
        "downtime limit 800 ms",
        "downtime limit 600 ms (somebody else has set 77 ms, which is put back at the end)",
        "downtime limit 500 ms",
    ]


def test_what_somebody_else_has_set_is_what_the_policy_wants(tmp_path):
    fake = FakeQemu(*PASSES[:1], others(800, PASSES[1]), *slowly(*PASSES[2:]), completed())
    result = steer(fake, Answers(Action(0.8)), tmp_path, left_ms=800)
    assert fake.limits() == []
    assert result.decisions == ()


def test_undoing_leaves_what_somebody_else_has_set(tmp_path):
    """Be it after a failure or after a stop that QEMU did not follow."""
    steps = *slowly(*PASSES[:3]), others(77, PASSES[3]), *slowly(*PASSES[4:]), completed()
    fake = FakeQemu(*steps)
    result = steer(fake, Answers(Action(0.8), NOTHING, "nonsense"), tmp_path, left_ms=77)
    assert "the policy failed" in result.failure
    assert fake.limits() == [800]
    fake = FakeQemu(*steps)
    steer(fake, Answers(Action(0.4), Action(stop=True)), tmp_path, left_ms=77)
    assert fake.limits() == [400, 930]


@pytest.mark.parametrize("how", ["refused", "silent"])
def test_let_go_while_qemu_does_not_answer(how, tmp_path, monkeypatch):
    """It is let go soon, and what was changed is the guard's."""
    monkeypatch.setattr("mempattern.live.controller._PUT_BACK_S", 0.3)
    unraised, hangs = [], asyncio.Event()

    def hang(fake):
        hangs.set()
        if how == "refused":
            fake.refuse["query-migrate-parameters"] = "not now"
        else:
            fake.is_silent = True

    fake = FakeQemu(*slowly(*PASSES[:3]), hang)

    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda _, said: unraised.append(said))
        path = str(tmp_path / "qmp")
        async with fake.serving(path):
            controller = MigrationController(
                path, "tcp:there:1", Answers(Action(0.8)), max_downtime_s=1, traces=False
            )
            running = asyncio.create_task(controller.run())
            await hangs.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(running, 5)
            assert controller.is_under_way
            assert fake.parameters["downtime-limit"] == 800
            fake.refuse, fake.script = {}, [completed()]
            await settled(fake)

    asyncio.run(run())
    gc.collect()
    assert not unraised


def test_a_guard_that_is_stopped(monkeypatch):
    """Nobody waits for it: not for room in its pipe, and not for its end."""
    monkeypatch.setattr("mempattern.live.guarding._END_S", 0.2)
    guard = Guard()
    guard.tell({"parameters": {}})
    process = guard._process
    process.send_signal(signal.SIGSTOP)
    try:
        with suppress(MonitorError):
            for _ in range(100):
                guard.tell({"parameters": {"x" * 2000: [1, [2]]}})
        with pytest.raises(MonitorError, match="stopped"):
            guard.tell({"parameters": {"x" * 2000: [1, [2]]}})
        guard.let_go()
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_guard_minds_no_signal_that_a_whole_service_gets():
    """From its first moment on, when its program is not even loaded."""
    guard = Guard()
    guard.tell({"parameters": {}})
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        guard._process.send_signal(number)
    guard.tell({})
    guard.let_go()
    assert guard._process.wait(20) == 0


def test_a_forked_child_does_not_keep_the_guard_waiting():
    """As a policy's worker may be, which lives on when its parent is killed."""
    guard = Guard()
    guard.tell({"parameters": {}})
    guard.tell({})
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    try:
        guard.let_go()
        assert guard._process.wait(20) == 0
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
