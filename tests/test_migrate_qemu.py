"""Real migrations between two QEMUs over a slow link, steered: the guest arrives whole, is never
left paused, and QEMU's settings are what they were."""

import asyncio

import pytest
from qemu_pair import qemu_pair

from mempattern.errors import QMPError, TraceError, UsageError
from mempattern.live.controller import MigrationController
from mempattern.live.decisions import Listener
from mempattern.live.record import from_meta
from mempattern.live.steering import sleep_s
from mempattern.migration.policies import NOTHING, Policy
from mempattern.migration.registry import POLICIES
from mempattern.trace import TraceReader

pytestmark = pytest.mark.usefixtures("qemu", "uffd")

INTENSIVE = {
    "tcg": "pattern=uniform pages=9000 seed=6 rate=20000",
    "kvm": "pattern=uniform pages=2500 seed=6",  # a guest may be slow there
}
CALM = "pattern=hotset pages=6000 hot=300 seed=2 rate=2000"
CEILING_S = 1.5
BYTES_PER_S = {"tcg": 35e6, "kvm": 8e6}


def controller(pair, policy, **more):
    more = {"max_downtime_s": CEILING_S, "bandwidth_Bps": pair.link.bytes_per_s * 1.05} | more
    return MigrationController(pair.qmp, pair.link.uri, POLICIES[policy](), **more)


def migrate(pair, policy, **more):
    before = pair.settings()
    result = asyncio.run(controller(pair, policy, **more).run())
    assert pair.settings() == before
    return result


@pytest.mark.parametrize(
    ("accel", "policy", "observe_s"),
    [("tcg", "mp", 0), ("tcg", "best", 2), ("tcg", "relaxed", 0),
     ("kvm", "mp", 0), ("kvm", "best", 2)],
)  # fmt: skip
def test_an_intensive_guest_arrives_within_the_ceiling(accel, policy, observe_s, tmp_path, request):
    if accel == "kvm":
        request.getfixturevalue("kvm")
    with qemu_pair(accel, INTENSIVE[accel], tmp_path, BYTES_PER_S[accel]) as pair:
        file = tmp_path / "migration.mpt"
        result = migrate(pair, policy, observe_s=observe_s, output=file)
        assert result.completed, result
        assert result.failure is None
        assert result.within_ceiling, result.figures
        assert any(decision.new_limit_s > 0.3 for decision in result.decisions)
        assert accel == "tcg" or pair.moved_whole()
        check_trace(file, result)


def check_trace(file, result):
    """QEMU's figures are beside the bitmaps, on the same clock."""
    with TraceReader(file) as trace:
        told = from_meta(trace.meta)
        intervals = list(trace)
    assert told["status"] == "completed"
    assert told["downtime_s"] == result.figures.downtime_s
    assert [one["number"] for one in told["passes"]] == [
        one.figures.number for one in result.passes
    ]
    assert [one["did"] for one in told["decisions"]] == [one.did for one in result.decisions]
    if not told["passes"]:  # it ended so soon that no pass was seen
        return
    first = told["passes"][0]
    begun_ns = first["ns"] - first["at_s"] * 1e9 - 0.2e9
    written = [i for i in intervals if i.end_ns > begun_ns]
    pages = set().union(*(i.pages("pc.ram").tolist() for i in written))
    assert first["dirty_pages"] <= len(pages)  # and none of the observation's
    for one in told["passes"]:
        assert intervals[0].start_ns < one["ns"] <= intervals[-1].end_ns


def test_stock_does_not_end_and_is_cancelled(tmp_path):
    with qemu_pair("tcg", INTENSIVE["tcg"], tmp_path, BYTES_PER_S["tcg"]) as pair:
        result = migrate(pair, "stock", patience_s=4, on_nonconvergence="cancel")
        assert result.figures.status == "cancelled"
        assert result.within_ceiling is None
        assert result.decisions[-1].did == "cancel"
        assert len(result.passes) >= 2
        assert pair.is_running()


@pytest.mark.parametrize("policy", ["stock", "mp", "best"])
def test_a_calm_guest_is_not_stopped_early(policy, tmp_path):
    with qemu_pair("tcg", CALM, tmp_path, BYTES_PER_S["tcg"]) as pair:
        result = migrate(pair, policy)
        assert result.completed
        assert result.figures.downtime_s <= 0.3
        assert all(decision.new_limit_s <= 0.3 for decision in result.decisions)


# ---- bad input, and what goes wrong on the way ---------------------------------------------------


def refused(pair, policy="mp", error=UsageError, match="", **more):
    before = pair.settings()
    with pytest.raises(error, match=match):
        asyncio.run(controller(pair, policy, **more).run())
    assert pair.settings() == before
    assert pair.is_running()


def test_what_is_refused_leaves_the_guest_as_it_was(tmp_path):
    """One pair for them all: nothing that is refused changes anything."""
    with qemu_pair("tcg", CALM, tmp_path, BYTES_PER_S["tcg"]) as pair:
        attached = MigrationController(pair.qmp, None, POLICIES["mp"](), max_downtime_s=1)
        with pytest.raises(UsageError, match="no migration is under way"):
            asyncio.run(attached.run())
        with pytest.raises(UsageError, match="replays only"):
            controller(pair, "hot-pages")
        refused(pair, error=TraceError, match="exists", output=tmp_path / "serial")
        nowhere = tmp_path / "nowhere" / "x.mpt"
        refused(pair, error=TraceError, match="cannot be written", output=nowhere)
        for name, what in (
            ("background-snapshot", "protects"),
            ("pause-before-switchover", "wait"),
        ):
            capability(pair, name, True)
            refused(pair, match=what)
            capability(pair, name, False)
        pair.ask("migrate-set-parameters", **{"max-bandwidth": 0})
        refused(pair, match="max-bandwidth", bandwidth_Bps=None)
        with pytest.raises(QMPError, match="No such file"):
            asyncio.run(MigrationController(tmp_path / "no", "x", Policy(), max_downtime_s=1).run())
        there = MigrationController(pair.target_qmp, "unix:x", POLICIES["mp"](), max_downtime_s=1)
        with pytest.raises(UsageError, match="is to come here"):
            asyncio.run(there.run())


def capability(pair, name, state):
    pair.ask("migrate-set-capabilities", capabilities=[{"capability": name, "state": state}])


def test_a_destination_that_is_not_there_or_dies(tmp_path):
    with qemu_pair("tcg", INTENSIVE["tcg"], tmp_path, BYTES_PER_S["tcg"]) as pair:
        nobody = MigrationController(
            pair.qmp, f"unix:{tmp_path}/nobody", POLICIES["mp"](), max_downtime_s=1
        )
        before = pair.settings()
        result = asyncio.run(nobody.run())
        assert result.figures.status == "failed"
        assert "nobody" in result.figures.error or "connect" in result.figures.error

        class Killing(Policy):
            def after(self, done):
                pair.target.kill()
                return NOTHING

        dying = MigrationController(
            pair.qmp, pair.link.uri, Killing(), max_downtime_s=1.5, bandwidth_Bps=35e6
        )
        result = asyncio.run(dying.run())
        assert result.figures.status == "failed"
        assert pair.settings() == before
        assert pair.is_running()


def test_attached_to_one_under_way(tmp_path):
    """Neither are capabilities changed nor is it started again; a finished one is refused."""
    with qemu_pair("tcg", INTENSIVE["tcg"], tmp_path, BYTES_PER_S["tcg"]) as pair:
        hold_back(pair)
        pair.ask("migrate", uri=pair.link.uri)
        while pair.ask("query-migrate")["status"] != "active":
            pass
        with pytest.raises(UsageError, match=r"under way.*--attach"):
            asyncio.run(controller(pair, "mp").run())
        too_late = MigrationController(
            pair.qmp, None, Policy(), max_downtime_s=1, on_nonconvergence="postcopy"
        )
        with pytest.raises(UsageError, match="without the capability postcopy-ram"):
            asyncio.run(too_late.run())
        attached = MigrationController(
            pair.qmp, None, POLICIES["mp"](), max_downtime_s=CEILING_S, observe_s=0
        )
        pair.ask("migrate-set-parameters", **{"max-bandwidth": 36_000_000})
        before = pair.settings()
        result = asyncio.run(attached.run())
        assert result.completed
        assert result.within_ceiling
        assert pair.settings() == before
        with pytest.raises(UsageError, match="has moved already"):
            asyncio.run(controller(pair, "mp").run())


def hold_back(pair):
    """No migration ends by itself, however little of a core the guest is given to write with."""
    pair.ask("migrate-set-parameters", **{"max-bandwidth": 1_000_000, "downtime-limit": 1})


def test_postcopy_where_nothing_else_ends_it(tmp_path):
    """The source is traced all the while: its userfaultfd and the target's do not meet."""
    with qemu_pair("tcg", INTENSIVE["tcg"], tmp_path, BYTES_PER_S["tcg"]) as pair:
        pair.ask_target(
            "migrate-set-capabilities",
            capabilities=[{"capability": "postcopy-ram", "state": True}],
        )
        result = migrate(pair, "mp", max_downtime_s=0.1, patience_s=2, on_nonconvergence="postcopy")
        assert result.completed, result
        assert result.decisions[-1].did == "post-copy"


def test_throttling_where_the_ceiling_is_too_low(tmp_path):
    with qemu_pair("tcg", INTENSIVE["tcg"], tmp_path, BYTES_PER_S["tcg"]) as pair:
        slow = controller(pair, "stock", max_downtime_s=0.5, patience_s=2,
                          on_nonconvergence="throttle")  # fmt: skip
        slow._listener = CancelsOnceThrottled(slow)
        before = pair.settings()
        result = asyncio.run(slow.run())
        most = max(done.figures.throttle for done in result.passes)
        assert most == 0.95  # a vCPU that sleeps for longer is stopped too late
        assert result.passes[-1].limit_s + sleep_s(most) < 0.5
        assert result.completed or pair.is_running()
        assert pair.settings() == before


class CancelsOnceThrottled(Listener):
    """How fast the guest then is depends on the machine."""

    def __init__(self, controller):
        self._controller = controller

    def passed(self, done, iteration):
        if done.figures.throttle > 0.5:
            self._controller.cancel()
