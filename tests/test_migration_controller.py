"""The controller against a QEMU that answers by a script."""

import asyncio
import math
import threading

import pytest
from fake_qmp import MIB, FakeQemu, active, completed
from steered import PASSES, PENDING, Answers, slowly, steer

from mempattern.errors import LostError, QMPError, UsageError
from mempattern.live.controller import MigrationController
from mempattern.live.decisions import Listener, Passed, Result
from mempattern.live.figures import Figures
from mempattern.live.record import from_meta, to_meta
from mempattern.live.session import _ANSWER_S
from mempattern.live.steering import highest_limit_s
from mempattern.migration.policies import NOTHING, Action, Policy
from mempattern.report.migrating import result_lines


def test_limits_never_exceed_what_the_ceiling_allows(tmp_path):
    policy = Answers(Action(0.5), Action(7.0), Action(stop=True), Action(0.2))
    fake = FakeQemu(*slowly(*PASSES), completed())
    result = steer(fake, policy, tmp_path)
    most_ms = int(highest_limit_s(1.0) * 1000 + 1e-6)
    assert result.completed
    assert fake.limits() == [500, most_ms, 200, 300]
    assert most_ms == pytest.approx(930, abs=1)
    assert [done.number for done in policy.seen] == [2, 3, 4, 5, 6]
    assert policy.task.ceiling_s == highest_limit_s(1.0)
    assert policy.task.bandwidth_Bps == 128 * MIB
    assert policy.task.n_pages == 64 * MIB // 4096


def test_an_emulated_guest_keeps_at_least_the_limit_that_qemu_had(tmp_path):
    fake = FakeQemu(*slowly(*PASSES), completed())
    fake.emulates = True
    steer(fake, Answers(Action(0.004), Action(0.5), Action(0.02)), tmp_path)
    assert fake.limits() == [500, 300]


def test_stop_is_the_ceiling_until_the_next_pass(tmp_path):
    """More was written, and QEMU went on: the limit is again what it was."""
    fake = FakeQemu(*slowly(*PASSES), completed())
    result = steer(fake, Answers(Action(0.4), Action(stop=True), NOTHING), tmp_path)
    assert fake.limits() == [400, int(highest_limit_s(1.0) * 1000 + 1e-6), 400, 300]
    assert [d.did.split(":")[0] for d in result.decisions[:2]] == [
        "downtime limit 400 ms", "stop and copy",
    ]  # fmt: skip
    assert result.decisions[1].pending_s == pytest.approx(PENDING / 100e6)
    assert result.decisions[1].limit_s == 0.4


@pytest.mark.parametrize("when", ["begin", "after", "poll"])
@pytest.mark.parametrize("what", [RuntimeError("no idea"), SystemExit(3), "not an action"])
def test_a_policy_that_fails(when, what, tmp_path):
    """Before the migration nothing is begun; later QEMU goes on by itself."""

    class Failing(Policy):
        poll_s = 0

        def _fail(self):
            if isinstance(what, BaseException):
                raise what
            return what

        def begin(self, task):
            return self._fail() if when == "begin" else Action(0.6)

        def after(self, done):
            return self._fail() if when == "after" else NOTHING

        def poll(self, now):
            return self._fail() if when == "poll" else NOTHING

    fake = FakeQemu(*slowly(*PASSES), completed())
    if when == "begin":
        with pytest.raises(UsageError, match=r"the policy failed before|must return an Action"):
            steer(fake, Failing(), tmp_path)
        assert "migrate" not in fake.names()
        return
    result = steer(fake, Failing(), tmp_path)
    assert result.completed
    assert "the policy failed" in result.failure
    assert fake.limits() == [600, 300]
    assert "migrate_cancel" not in fake.names()


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt()])
def test_a_policy_that_is_not_begun(error, tmp_path):
    class Failing(Policy):
        def begin(self, task):
            raise error

    with pytest.raises(UsageError, match="the policy failed before the start"):
        steer(FakeQemu(), Failing(), tmp_path)


@pytest.mark.parametrize("poll_s", ["1", None, -1, float("nan")])
def test_poll_s_that_is_no_time(poll_s, tmp_path):
    """Before the start nothing is begun; on the way the policy has failed."""

    class Polled(Policy):
        def begin(self, task):
            self.poll_s = "1"
            return Action(0.6)

    fake = FakeQemu(*slowly(*PASSES), completed())
    result = steer(fake, Polled(), tmp_path)
    assert "the policy failed: TypeError" in result.failure
    assert fake.limits() == [600, 300]

    policy = Policy()
    policy.poll_s = poll_s
    fake = FakeQemu()
    with pytest.raises(UsageError, match="poll_s must be a number"):
        steer(fake, policy, tmp_path)
    assert fake.log == []


def test_a_policy_that_cannot_say_why(tmp_path):
    class Odd(Answers):
        @property
        def why(self):
            if not self.seen:
                return 5
            raise RuntimeError("no words")

    fake = FakeQemu(*slowly(*PASSES), completed())
    result = steer(fake, Odd(Action(0.5), begin=Action(0.4)), tmp_path)
    assert [d.why for d in result.decisions] == [
        "5", "(the policy cannot say why: RuntimeError: no words)",
    ]  # fmt: skip
    assert result.failure is None


def test_a_policy_that_never_answers(tmp_path):
    """The migration is followed to its end all the same, and the loop can be closed."""

    class Silent(Policy):
        def after(self, done):
            threading.Event().wait()

    assert steer(FakeQemu(*PASSES, completed()), Silent(), tmp_path).completed


def until_limit(limit_ms):
    """The migration goes on until that limit is set anew."""
    return lambda fake: completed() if fake.limits()[-1:] == [limit_ms] else active(3, PENDING)


def test_a_policy_that_answers_too_late(tmp_path, monkeypatch):
    monkeypatch.setattr("mempattern.live.asking._ANSWER_S", 0.3)

    class Hangs(Policy):
        def after(self, done):
            if done.number == 3:
                threading.Event().wait()
            return Action(0.5)

    fake = FakeQemu(*slowly(*PASSES[:3]), until_limit(300))
    result = steer(fake, Hangs(), tmp_path)
    assert "the policy failed: TimeoutError: it has not answered within 0.3 s" in result.failure
    assert fake.limits() == [500, 300]


def test_a_policy_that_raises_what_cancels_tasks(tmp_path):
    class Cancels(Policy):
        def after(self, done):
            if done.number == 3:
                raise asyncio.CancelledError
            return Action(0.5)

    fake = FakeQemu(*slowly(*PASSES[:3]), until_limit(300))
    result = steer(fake, Cancels(), tmp_path)
    assert "the policy failed" in result.failure
    assert "CancelledError" in result.failure


def test_own_limit_above_the_ceiling(tmp_path):
    fake = FakeQemu(completed())
    result = steer(fake, Policy(), tmp_path, max_downtime_s=0.1)
    assert fake.limits() == [75, 300]
    assert "above what the ceiling allows" in result.decisions[0].why
    assert result.within_ceiling is False  # by what the script says; not by our doing


def test_own_limit_at_the_ceiling(tmp_path):
    """It leaves QEMU no headroom."""
    fake = FakeQemu(completed())
    steer(fake, Policy(), tmp_path, max_downtime_s=0.3)
    assert fake.limits() == [275, 300]


@pytest.mark.parametrize("ceiling_s", [3600.0, 1e300])
def test_a_ceiling_above_all_that_qemu_takes(ceiling_s, tmp_path):
    fake = FakeQemu(*slowly(*PASSES), completed())
    result = steer(fake, Answers(Action(stop=True)), tmp_path, max_downtime_s=ceiling_s)
    assert fake.limits()[0] == 2_000_000
    assert all(len(line) < 100 for line in result_lines(result))


@pytest.mark.parametrize("ceiling_s", [0.0013, 1e-300])
def test_a_ceiling_too_low_for_any_limit(ceiling_s, tmp_path):
    fake = FakeQemu(completed())
    with pytest.raises(UsageError, match="less than a millisecond"):
        steer(fake, Policy(), tmp_path, max_downtime_s=ceiling_s)
    assert fake.log == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"bandwidth_Bps": 0.9}, {"bandwidth_Bps": 0}, {"bandwidth_Bps": 1e30}, {"patience_s": 0},
        {"patience_s": math.nan}, {"observe_s": -1}, {"observe_s": math.nan},
        {"on_nonconvergence": "bogus"},
    ],
)  # fmt: skip
def test_numbers_that_make_no_sense(wrong):
    (name,) = wrong
    with pytest.raises(UsageError, match=name):
        MigrationController("qmp", "tcp:there:1", Policy(), **({"max_downtime_s": 1.0} | wrong))


def test_throttling(tmp_path):
    """At most a percent before anybody asks for more."""
    fake = FakeQemu(*slowly(*PASSES), completed())
    policy = Answers(Action(throttle=0.0), Action(throttle=0.4), Action(throttle=1.0))
    steer(fake, policy, tmp_path, on_nonconvergence="throttle")
    set_ = [a for name, a in fake.log if name == "migrate-set-parameters"]
    assert set_[0]["max-cpu-throttle"] == set_[0]["cpu-throttle-initial"] == 1
    assert [a["max-cpu-throttle"] for a in set_[:3]] == [1, 40, 97]


def test_without_leave_nothing_is_throttled(tmp_path):
    fake = FakeQemu(*slowly(*PASSES), completed())
    result = steer(fake, Answers(Action(throttle=0.4), Action(throttle=0.4)), tmp_path)
    assert [d.did for d in result.decisions] == [
        "no throttle of 40%: it takes --on-nonconvergence throttle"
    ]
    assert not fake.capabilities["auto-converge"]
    assert "migrate-set-parameters" not in fake.names()


@pytest.mark.parametrize(
    ("choice", "does"), [("continue", None), ("postcopy", "migrate-start-postcopy"),
                         ("cancel", "migrate_cancel")]
)  # fmt: skip
def test_after_its_patience(choice, does, tmp_path):
    late = [active(n, PENDING, at_s=9) for n in range(2, 5)]
    fake = FakeQemu(*PASSES[:1], *late, completed())
    result = steer(fake, Policy(), tmp_path, patience_s=5, on_nonconvergence=choice)
    ours = {"migrate-start-postcopy", "migrate_cancel"} & set(fake.names())
    assert ours == ({does} if does else set())
    assert result.decisions[-1].why == "it has not ended within 5 s"
    assert result.completed == (choice != "cancel")


def test_giving_up_and_deferring(tmp_path):
    fake = FakeQemu(*slowly(*PASSES), completed())
    result = steer(fake, Answers(Action(give_up=True)), tmp_path)
    assert result.figures.status == "cancelled"
    assert result.figures.number == 2  # of the last look before QEMU forgot it
    fake = FakeQemu(completed())
    result = steer(fake, Answers(begin=Action(give_up=True)), tmp_path)
    assert result.figures.status == "not started"
    assert "migrate" not in fake.names()


@pytest.mark.parametrize(
    ("fake", "error", "match"),
    [
        (FakeQemu(version=(7, 1, 9)), QMPError, "QEMU 7.1.9; .* from 7.2 on"),
        (FakeQemu(before=active(3, 1)), UsageError, "under way .active.: .*--attach"),
        (FakeQemu(status="postmigrate"), UsageError, "has moved already"),
        (FakeQemu(status="inmigrate"), UsageError, "is to come here"),
    ],
)
def test_refused(fake, error, match, tmp_path):
    with pytest.raises(error, match=match):
        steer(fake, Policy(), tmp_path)
    assert fake.log == []


def test_a_refusal_of_qemus_own(tmp_path):
    fake = FakeQemu()
    fake.refuse["migrate"] = "Migration is disabled when using feature X"
    with pytest.raises(QMPError, match="feature X"):  # not lost: it has not begun
        steer(fake, Policy(), tmp_path)


def test_no_qmp(tmp_path):
    async def run():
        async def chatter(reader, writer):
            writer.write(b"220 mail.example ESMTP\r\n")
            await reader.read()

        path = str(tmp_path / "smtp")
        server = await asyncio.start_unix_server(chatter, path)
        async with server:
            with pytest.raises(QMPError, match="smtp"):
                await MigrationController(path, "x", Policy(), max_downtime_s=1).run()

    asyncio.run(run())


def test_the_last_of_many_passes_fit_into_a_trace(monkeypatch):
    monkeypatch.setattr("mempattern.live.record._MOST_PARTS", 3)
    passes = tuple(
        Passed(n, Figures("active", n / 10, n, 10**9, 10**8), 0.3, 1000) for n in range(1000)
    )
    meta = to_meta(Result(Figures("completed"), 1.0, (), passes))
    assert len(meta) == 4
    assert max(map(len, meta.values())) < 65_000
    last = from_meta(meta)["passes"]
    assert [one["number"] for one in last] == list(range(1000 - len(last), 1000))
    assert 300 < len(last) < 1000
    assert from_meta({}) is None


def test_qemu_says_nothing_for_longer_than_the_ceiling(tmp_path, monkeypatch):
    """It may be silent for the whole pause, which QEMU allows to be 2000 s long."""
    assert _ANSWER_S > 2000
    monkeypatch.setattr("mempattern.live.controller._SILENCE_S", 0.1)
    fake = FakeQemu(*PASSES[:2], lambda _: None, completed())
    with pytest.raises(LostError, match=r"not said for 0\.3 s .* goes on by QEMU's own rules"):
        steer(fake, Policy(), tmp_path, max_downtime_s=0.2, by_guard=True)


def test_qemu_ends_when_the_guest_has_moved(tmp_path):
    """Its last figures are not there; the guest is."""
    fake = FakeQemu(*PASSES, completed(at_s=0), lambda fake: fake.hang_up())
    assert steer(fake, Policy(), tmp_path, by_guard=True).completed


def test_is_under_way(tmp_path):
    seen = []

    def look(step):
        return lambda _: (seen.append(controllers[0].is_under_way), step)[1]

    controllers = []
    fake = FakeQemu(*map(look, PASSES), completed())

    async def run():
        path = str(tmp_path / "qmp")
        async with fake.serving(path):
            controllers.append(
                MigrationController(path, "tcp:x:1", Policy(), max_downtime_s=1, traces=False)
            )
            assert not controllers[0].is_under_way
            await controllers[0].run()
            assert not controllers[0].is_under_way

    asyncio.run(run())
    assert seen == [True] * len(PASSES)


@pytest.mark.parametrize("error", [ZeroDivisionError(), SystemExit(1)])
def test_a_listener_that_raises_is_told_nothing_more(error, tmp_path, caplog):
    class Leaves(Listener):
        told = 0

        def looked(self, figures):
            self.told += 1
            raise error

    listener = Leaves()
    fake = FakeQemu(*slowly(*PASSES), completed())
    result = steer(fake, Answers(Action(0.5)), tmp_path, listener=listener)
    assert result.completed
    assert fake.limits() == [500, 300]
    assert listener.told == 1
    assert [r.levelname for r in caplog.records if r.name.startswith("mempattern")] == ["WARNING"]
