"""QEMU's migration as a source: exact, and whatever becomes of the reader, the guest runs on."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_qemu_tracing import START, ask, counters, guest_model, paused_guest, trace, wait_for

from mempattern.errors import ClosedError, QMPError, StreamEnded
from mempattern.qemu.ram import guest_ram_blocks
from mempattern.sources import MigrationStream

pytestmark = pytest.mark.usefixtures("qemu")

STRIDE = "pattern=stride stride=97 pages=4000 rate=1400"
STEADY = "pattern=uniform pages=4000 seed=5 rate=2900"
BUSY = "pattern=uniform pages=4000 seed=5 rate=8000"
IDLE = "pattern=idle pages=16"
N_PAGES = 4000
SLOW_BPS = 8e6  # 1949 pages a second
ENDED = ("cancelled", "failed")  # a guest that gets no processor is calm, and ends it


@pytest.fixture(autouse=True)
def kvm_where_asked(request):
    if (
        getattr(request.node, "callspec", None)
        and request.node.callspec.params.get("accel") == "kvm"
    ):
        request.getfixturevalue("kvm")


@pytest.fixture
def guest(tmp_path, request):
    """A running one: the process, its QMP socket."""
    accel, line = request.param
    with paused_guest(accel, line, tmp_path) as (process, serial, qmp):
        ask(process, qmp, "cont")
        wait_for(process, serial, "pattern=")
        (block,) = guest_ram_blocks(process.pid, qmp).blocks
        while line != IDLE and counters(process.pid, block, N_PAGES).sum() < 1000:
            time.sleep(0.01)  # the first steps come late, and from a calm guest nothing can be seen
        yield process, qmp


def of_guests(*lines, accels=("tcg",)):
    return pytest.mark.parametrize(
        "guest",
        [(accel, line) for line in lines for accel in accels],
        indirect=True,
        ids=lambda given: f"{given[0]}-{given[1].split()[0]}",
    )


def settings(process, qmp):
    return [ask(process, qmp, f"query-migrate-{what}") for what in ("parameters", "capabilities")]


def is_left_alone(process, qmp, before, seconds=60):
    """It runs, migrates no more, and its settings are as before; at the latest after a while."""
    deadline = time.monotonic() + seconds
    while True:
        state = (
            ask(process, qmp, "query-status")["status"],
            ask(process, qmp, "query-migrate").get("status") in ("active", "setup", "cancelling"),
            settings(process, qmp) == before,
        )
        if state == ("running", False, True) or time.monotonic() > deadline:
            return state == ("running", False, True) or state
        time.sleep(0.05)


def guest_steps(line, count):
    return list(itertools.islice(guest_model.pages(line, count), count))


def program_pages(interval):
    """Of the guest program's own; its image, its stack and the firmware lie elsewhere."""
    return {
        int(page) - START for page in interval.pages("pc.ram") if START <= page < START + N_PAGES
    }


# ---- what it says -------------------------------------------------------------------------------


def partial_passes(process, qmp, count):
    """The first so many in succession without a tenth of the pages or more."""
    seen = []
    with MigrationStream(qmp, process.pid, SLOW_BPS) as source:
        for interval in source.intervals(count=40):
            pages = program_pages(interval)
            seen = [*seen, pages] if len(pages) < 0.9 * N_PAGES else []
            if len(seen) == count:
                return seen
    raise AssertionError("QEMU got no time to send more than the guest writes")


@of_guests(STRIDE, accels=("tcg", "kvm"))
def test_each_pass_begins_with_the_step_after_the_last_one_of_the_pass_before(guest, request):
    """The guest writes every page once in 4000 steps: none is missing, none is in two passes.

    Apart from a page that is left at a pass's end, and from what QEMU does not find under TCG (see
    docs/streams.md). It writes less than is sent, so that passes do not have all pages.
    """
    number = {page: step for step, page in enumerate(guest_steps(STRIDE, N_PAGES))}
    most = 1 if "kvm" in request.node.name else 20
    seen = partial_passes(*guest, 4)
    runs = [one_run({number[page] for page in pages}, most) for pages in seen]
    for (_, last), (first, _) in itertools.pairwise(runs):
        assert abs((first - last - 1 + N_PAGES // 2) % N_PAGES - N_PAGES // 2) <= most


def one_run(steps, most):
    """First and last of the steps, which are one run around the end but for gaps of up to `most`,
    and so many to spare."""
    ordered = sorted(steps)
    gaps = zip(ordered, [*ordered[1:], ordered[0] + N_PAGES], strict=True)
    edges = [(after % N_PAGES, last) for last, after in gaps if after - last - 1 > most]
    runs = [
        (first, last) for (first, _), (_, last) in zip(edges, edges[1:] + edges[:1], strict=True)
    ]
    long = [run for run in runs if (run[1] - run[0]) % N_PAGES >= most]
    assert len(long) == 1
    return long[0]


def passes_and(look, process, qmp):
    """Six passes, and what `look` gives after each; moment k lies between the ends of the windows
    of passes k + 1 and k + 2."""
    seen, looks = [], []
    with MigrationStream(qmp, process.pid, SLOW_BPS) as source:
        for interval in source.intervals(count=6):
            seen.append(program_pages(interval))
            looks.append(look())
            assert source.passes == len(seen) + 1, "this machine is too busy for such short passes"
    assert len(seen) == 6
    return seen, looks


@of_guests(STEADY, accels=("tcg", "kvm"))
def test_each_pass_is_a_stretch_of_the_guests_own_steps(guest):
    """By the model of the guest, and by how many steps it has counted when each pass has come.

    What it writes to a page of the passes before may not be found again: see docs/streams.md.
    """
    process, qmp = guest
    (block,) = guest_ram_blocks(process.pid, qmp).blocks
    seen, counted = passes_and(
        lambda: int(counters(process.pid, block, N_PAGES).sum()), process, qmp
    )
    steps = guest_steps(STEADY, counted[-1] + 1)
    for k in range(3, 6):
        assert seen[k] <= set(steps[counted[k - 3] - 1 : counted[k - 1] + 1])
    for k in range(2, 5):
        found = seen[k - 2] | seen[k - 1] | seen[k] | seen[k + 1]
        assert set(steps[counted[k - 2] : counted[k - 1]]) <= found


@of_guests(STEADY)
@pytest.mark.usefixtures("uffd")
def test_agrees_with_the_tracer(guest):
    process, qmp = guest
    with trace(process, qmp) as tracer:
        seen, traced = passes_and(lambda: program_pages(tracer.collect()), process, qmp)
    for k in range(2, 6):
        assert seen[k] <= traced[k - 2] | traced[k - 1]
    for k in range(1, 4):
        assert traced[k] <= seen[k - 1] | seen[k] | seen[k + 1] | seen[k + 2]


@of_guests(BUSY)
def test_zero_pages_and_what_an_interval_says(guest):
    process, qmp = guest
    with MigrationStream(qmp, process.pid, 20e6) as source:
        names = [region.name for region in source.regions]
        assert names[0] == "pc.ram"
        assert "pc.bios" in names
        assert source.regions[0].n_pages == 128 * 256
        zero = source.zero_pages()["pc.ram"]
        nonzero = 128 * 256 - sum(int(word).bit_count() for word in zero)
        assert 0 < nonzero < 12_000
        interval, following = source.intervals(count=2)
        assert interval.provenance.source == "qemu-migration-stream"
        assert (interval.index, following.index) == (0, 1)
        assert following.start_ns == interval.end_ns
        time.sleep(1.5)  # passes that nobody took are joined
        joined = source.collect()
        assert joined.start_ns == following.end_ns
    with pytest.raises(ClosedError):
        source.collect()
    source.close()


def collect_all(source):
    while True:
        source.collect()


# ---- whatever becomes of it, the guest runs on --------------------------------------------------


@of_guests(BUSY, accels=("tcg", "kvm"))
def test_settings_are_put_back(guest):
    process, qmp = guest
    on = ["xbzrle", "auto-converge", "pause-before-switchover", "events"]
    ask(process, qmp, "migrate-set-capabilities",
        capabilities=[{"capability": name, "state": True} for name in on])  # fmt: skip
    ask(process, qmp, "migrate-set-parameters", **{"downtime-limit": 777, "max-bandwidth": 12345})
    before = settings(process, qmp)
    for _ in range(2):
        with MigrationStream(qmp, process.pid, 20e6) as source:
            source.collect()
            during = ask(process, qmp, "query-migrate-parameters")
            assert (during["downtime-limit"], during["max-bandwidth"]) == (1, 20_000_000)
        assert settings(process, qmp) == before
        assert ask(process, qmp, "query-status")["status"] == "running"
        assert ask(process, qmp, "query-migrate")["status"] in ENDED


@of_guests(IDLE, accels=("tcg", "kvm"))
def test_a_guest_that_is_calm_ends_it_and_runs_on(guest):
    process, qmp = guest
    before = settings(process, qmp)
    with MigrationStream(qmp, process.pid) as source:
        with pytest.raises(StreamEnded, match="lower bandwidth"):
            collect_all(source)
        assert source.zero_pages()
    assert is_left_alone(process, qmp, before, seconds=0) is True


@of_guests(BUSY)
def test_an_exception_in_the_middle(guest):
    process, qmp = guest
    before = settings(process, qmp)
    with pytest.raises(ZeroDivisionError), MigrationStream(qmp, process.pid, SLOW_BPS):
        raise ZeroDivisionError
    assert is_left_alone(process, qmp, before, seconds=0) is True


READER = """
import sys, time
from mempattern.sources import MigrationStream
path, pid, bandwidth = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
print("begins", flush=True)
while True:
    with MigrationStream(path, pid, bandwidth) as source:
        for interval in source.intervals(count=10):
            pass
"""


def kill_readers(process, qmp, n_times, victims):
    rng = random.Random(7)
    for _ in range(n_times):
        reader = subprocess.Popen(
            [sys.executable, "-c", READER, str(qmp), str(process.pid), "20e6"],
            stdout=subprocess.PIPE,
        )
        try:
            reader.stdout.readline()
            time.sleep(rng.uniform(0, 1.2))
        finally:
            children = Path(f"/proc/{reader.pid}/task/{reader.pid}/children").read_text()
            victims(reader, [int(pid) for pid in children.split()])
            reader.wait()
            reader.stdout.close()
        yield


@of_guests(BUSY, IDLE, accels=("tcg", "kvm"))
def test_the_reader_is_killed(guest):
    """At random moments: before QEMU migrates, in a pass, as the guest is stopped, as it ends."""
    process, qmp = guest
    before = settings(process, qmp)
    for _ in kill_readers(process, qmp, 4, lambda reader, _: reader.kill()):
        assert is_left_alone(process, qmp, before) is True


@of_guests(BUSY, IDLE)
def test_the_reader_and_its_keeper_are_killed(guest):
    """Then nobody can put the settings back; but the guest runs, and does not migrate. Who comes
    next does not take them for the guest's own."""
    process, qmp = guest
    parameters, capabilities = settings(process, qmp)

    def both(reader, keepers):
        reader.send_signal(signal.SIGSTOP)
        for pid in keepers:
            os.kill(pid, signal.SIGKILL)
        reader.kill()

    for _ in kill_readers(process, qmp, 3, both):
        deadline = time.monotonic() + 60
        while not (runs := ask(process, qmp, "query-status")["status"] == "running"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert runs
        if ask(process, qmp, "query-migrate-parameters")["downtime-limit"] == 1:
            with pytest.raises(QMPError, match="settings of a MigrationStream"):
                MigrationStream(qmp, process.pid)
        while ask(process, qmp, "query-migrate").get("status") not in (None, *ENDED):
            assert time.monotonic() < deadline
        ask(process, qmp, "migrate-set-capabilities", capabilities=capabilities)
        ask(process, qmp, "migrate-set-parameters",
            **{name: parameters[name] for name in ("downtime-limit", "max-bandwidth")})  # fmt: skip


FORKING_READER = """
import os, sys, time
from mempattern.sources import MigrationStream
source = MigrationStream(sys.argv[1], int(sys.argv[2]), 20e6)
if os.fork() == 0:
    source.close()
    print(os.getpid(), flush=True)
    time.sleep(60)
    os._exit(0)
while True:
    source.collect()
"""


@of_guests(BUSY)
def test_a_child_that_the_reader_forked_does_not_hold_it_up(guest):
    process, qmp = guest
    before = settings(process, qmp)
    with forking_reader(process, qmp) as (reader, child):
        reader.kill()
        reader.wait()
        assert is_left_alone(process, qmp, before, seconds=30) is True
        os.kill(child, 0)


@contextmanager
def forking_reader(process, qmp):
    """A reader, and a child of it that is there yet after it and has closed its own."""
    reader = subprocess.Popen(
        [sys.executable, "-c", FORKING_READER, str(qmp), str(process.pid)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        child = int(reader.stdout.readline())
        try:
            yield reader, child
        finally:
            os.kill(child, signal.SIGKILL)
    finally:
        reader.kill()
        reader.communicate()


@of_guests(BUSY)
def test_the_whole_service_is_told_to_end(guest):
    """As systemd does: SIGTERM for all its processes."""
    process, qmp = guest
    before = settings(process, qmp)

    def terminate(reader, keepers):
        for pid in [*keepers, reader.pid]:
            os.kill(pid, signal.SIGTERM)

    for _ in kill_readers(process, qmp, 3, terminate):
        assert is_left_alone(process, qmp, before) is True


@of_guests(BUSY)
def test_the_keeper_is_killed(guest):
    process, qmp = guest
    before = settings(process, qmp)
    with MigrationStream(qmp, process.pid, 20e6) as source:
        source.collect()
        source._outgoing._keeper.kill()
    assert is_left_alone(process, qmp, before, seconds=0) is True


@of_guests(BUSY)
def test_another_client_on_the_monitor_is_waited_for(guest):
    process, qmp = guest
    before = settings(process, qmp)
    source = MigrationStream(qmp, process.pid, 20e6)
    other = subprocess.Popen(
        [sys.executable, "-c",
         "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
         "s.recv(1); print(flush=True); time.sleep(2)", str(qmp)],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    other.stdout.readline()
    source.close()
    assert is_left_alone(process, qmp, before, seconds=0) is True
    other.communicate()


@of_guests(BUSY)
def test_qemu_is_killed(guest):
    process, qmp = guest
    with MigrationStream(qmp, process.pid, SLOW_BPS) as source:
        source.collect()
        process.kill()
        with pytest.raises(StreamEnded):
            collect_all(source)


# ---- refused ------------------------------------------------------------------------------------


@of_guests(BUSY)
def test_refused_with_the_guest_untouched(guest, tmp_path):
    process, qmp = guest
    before = settings(process, qmp)
    with pytest.raises(ValueError, match="bandwidth_Bps"):
        MigrationStream(qmp, process.pid, 10)
    with pytest.raises(QMPError, match="belongs to process"):
        MigrationStream(qmp, 1)
    with pytest.raises(QMPError, match="-qmp unix:PATH"):
        MigrationStream(tmp_path / "nothing", process.pid)
    ask(process, qmp, "stop")
    with pytest.raises(QMPError, match="the guest is paused"):
        MigrationStream(qmp, process.pid)
    ask(process, qmp, "cont")
    with (
        MigrationStream(qmp, process.pid, SLOW_BPS),
        pytest.raises(QMPError, match="migrates already"),
    ):
        MigrationStream(qmp, process.pid)
    assert is_left_alone(process, qmp, before, seconds=0) is True
