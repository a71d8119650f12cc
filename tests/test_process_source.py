"""What another process writes is reported exactly, whatever kind of memory it is."""

import contextlib
import errno
import itertools
import mmap
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from target import KINDS, PAGE, Target

from mempattern import GroupStats, sources
from mempattern.errors import (
    BusyError,
    ClosedError,
    MempatternError,
    ProcessEnded,
    ProcessError,
    UsageError,
)
from mempattern.sources import ProcessWrites, doctor, open_process, process
from mempattern.sources.layout import address_range, everything, named
from mempattern.sources.process import status_of as process_status

pytestmark = pytest.mark.usefixtures("uffd")

HUGE_PAGES = 512


@pytest.fixture
def target():
    with Target() as process:
        yield process


def only(interval):
    """The dirty pages of an interval over one region."""
    (region,) = interval.regions
    return interval.pages(region.name).tolist()


def over(target, address, n_pages, **options):
    layout = address_range(address, address + n_pages * PAGE)
    return ProcessWrites(target.pid, layout, **options)


def file_of(tmp_path, n_pages):
    path = tmp_path / "file"
    path.write_bytes(b"x" * (n_pages * PAGE))
    return str(path)


# ---- exactly what was written -----------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "hugetlb"])
def test_exactly_the_pages_written(target, tmp_path, kind):
    n_pages = 3000
    address = target.map(n_pages, kind, path=file_of(tmp_path, n_pages))
    target.write(range(0, n_pages, 2))
    choose = random.Random(kind)
    with over(target, address, n_pages) as source:
        for n_written in (0, 1, 7, 1200, n_pages, 3, 0):
            pages = sorted(choose.sample(range(n_pages), n_written))
            target.write(pages)
            interval = source.collect()
            seen = only(interval)
            if kind == "shared-file":  # a large folio of the page cache is mapped as a whole
                assert set(pages) <= set(seen)
                assert {page // HUGE_PAGES for page in seen} == {p // HUGE_PAGES for p in pages}
            else:
                assert seen == pages
            assert interval.lost_pages == 0
        assert only(source.collect()) == []


def test_more_scattered_pages_than_a_batch_takes(target):
    """Every second page of 8192 is 4096 ranges, four times what one scan returns."""
    address = target.map(8192)
    target.write(range(8192))
    with over(target, address, 8192) as source:
        for first, step in ((0, 2), (1, 2), (5, 64), (3, 17)):
            target.write(range(first, 8192, step))
            assert only(source.collect()) == list(range(first, 8192, step))


@settings(max_examples=30)
@given(rounds=st.lists(st.sets(st.integers(0, 1100)), min_size=1, max_size=6))
def test_random_sets(shared_target, rounds):
    target, address = shared_target
    with over(target, address, 1101) as source:
        for pages in rounds:
            target.write(pages)
            assert only(source.collect()) == sorted(pages)


@pytest.fixture(scope="module")
def shared_target():
    with Target() as process:
        yield process, process.map(1101)


def test_reads_are_no_writes(target):
    address = target.map(600)
    target.write(range(100))
    with over(target, address, 600) as source:
        target.do("read", pages=list(range(600)))
        assert only(source.collect()) == []
        target.write([50, 300])
        assert only(source.collect()) == [50, 300]


def test_reads_of_a_file_are_no_writes(target, tmp_path):
    with_file = file_of(tmp_path, 600)
    address = target.map(600, "private-file", path=with_file)
    with over(target, address, 600) as source:
        target.do("read", pages=list(range(600)))
        assert only(source.collect()) == []
        target.write([7])
        assert only(source.collect()) == [7]


def test_untouched_neighbours_are_not_reported(target):
    """One write makes the page table of 2 MiB; the 511 empty entries beside it are no writes."""
    address = target.map(2048)
    with over(target, address, 2048) as source:
        target.write([1000])
        assert only(source.collect()) == [1000]
        target.write([1001])
        assert only(source.collect()) == [1001]
        assert only(source.collect()) == []


def test_the_kernel_writes_for_the_process(target):
    address = target.map(64)
    target.write(range(64))
    with over(target, address, 64) as source:
        target.do("read-into", pages=[3, 4, 60])
        assert only(source.collect()) == [3, 4, 60]


def test_a_forked_child_changes_nothing(target):
    address = target.map(256)
    target.write(range(256))
    with over(target, address, 256) as source:
        target.do("fork")
        assert only(source.collect()) == []
        target.write([9])
        assert only(source.collect()) == [9]


def test_discarded_pages(target):
    address = target.map(256)
    target.write(range(256))
    with over(target, address, 256) as source:
        target.do("discard", first=16, n=32)
        assert only(source.collect()) == []
        target.write([20])
        assert only(source.collect()) == [20]
        target.write([20, 40])
        assert only(source.collect()) == [20, 40]


def test_mapped_anew_at_the_same_place(target):
    """The list of mappings looks the same; what is written to the new one counts."""
    address = target.map(256)
    target.write(range(256))
    with over(target, address, 256) as source:
        target.do("remap")
        target.write([5, 6, 200])
        assert only(source.collect()) == [5, 6, 200]
        target.write([6])
        assert only(source.collect()) == [6]


def test_mremap_takes_the_pages_along(target):
    address = target.map(64)
    target.write(range(64))
    with ProcessWrites(target.pid) as source:
        source.collect()
        moved = target.do("resize", n_pages=4096)
        target.write([1, 4000])
        written = addresses(source.collect())
        assert {moved + 1 * PAGE, moved + 4000 * PAGE} <= written
        if moved != address:  # all that was moved is new where it is now
            assert {moved + page * PAGE for page in range(64)} <= written
        target.write([2])
        written = addresses(source.collect())
        assert moved + 2 * PAGE in written
        assert moved + 3 * PAGE not in written


def addresses(interval):
    return {
        region.address + int(page) * region.page_bytes
        for region in interval.regions
        for page in interval.pages(region.name)
    }


def test_mappings_come_and_go(target):
    with ProcessWrites(target.pid) as source:
        stats = GroupStats(source.regions)
        for turn in range(4):
            name = f"n{turn}"
            address = target.map(300, name=name)
            pages = [1, 2, 299 - turn]
            target.write(pages, name=name)
            interval = source.collect()
            stats.follow(interval.regions)
            assert stats.update(interval).dirty_pages >= 3
            written = addresses(interval)
            inside = {a for a in written if address <= a < address + 300 * PAGE}
            assert inside == {address + page * PAGE for page in pages}
            if turn % 2:
                target.do("unmap", name=name)
        names = [region.name for region in source.regions]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("protection", [0, mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_EXEC])
def test_written_and_then_made_read_only(target, protection):
    address = target.map(256)
    target.write(range(256))
    with ProcessWrites(target.pid) as source:
        source.collect()
        target.write([3, 40, 90])
        target.do("protect", first=0, n=64, protection=protection)
        assert within(source.collect(), address, 256) == [3, 40, 90]
        target.write([100])
        assert within(source.collect(), address, 256) == [100]
        target.do("protect", first=0, n=64, protection=mmap.PROT_READ | mmap.PROT_WRITE)
        target.write([5])
        assert within(source.collect(), address, 256) == [5]


def within(interval, address, n_pages):
    """The dirty pages of a mapping, as numbers of its own."""
    pages = sorted((written - address) // PAGE for written in addresses(interval))
    return [page for page in pages if 0 <= page < n_pages]


def test_thp_is_followed_by_small_pages_and_counted(target):
    n_pages = 4 * HUGE_PAGES
    address = target.map(n_pages, "thp")
    target.write(range(n_pages))
    with ProcessWrites(target.pid, address_range(address, address + n_pages * PAGE)) as source:
        if source.huge_bytes == 0:
            pytest.skip("this kernel gave no transparent huge page")
        target.write([0, 700, 701])
        assert only(source.collect()) == [0, 700, 701]


def test_one_write_makes_a_huge_page_and_counts_as_one(target):
    n_pages = 4 * HUGE_PAGES
    address = target.map(n_pages, "thp")
    with over(target, address, n_pages) as source:
        target.write([700, 701, 1300])
        assert huge_kib(target.pid, address) > 0
        assert only(source.collect()) == [700, 701, 1300]
        target.write([699, 700])
        assert only(source.collect()) == [699, 700]


def test_thp_may_be_refused(target):
    n_pages = 4 * HUGE_PAGES
    address = target.map(n_pages, "thp")
    target.write(range(n_pages))
    with pytest.raises(ProcessError, match=r"huge pages.*--no-split-thp"):
        over(target, address, n_pages, split_thp=False)
    assert huge_kib(target.pid, address) >= 2048
    assert not is_watched(target.pid)


def test_huge_pages_that_come_later_are_left_whole(target):
    small = target.map(HUGE_PAGES)
    with ProcessWrites(target.pid, split_thp=False) as source:
        address = target.map(4 * HUGE_PAGES, "thp", name="huge")
        target.write(range(4 * HUGE_PAGES), name="huge")
        target.write([3])
        interval = source.collect()
        assert small + 3 * PAGE in addresses(interval)
        assert interval.lost_pages >= HUGE_PAGES
        assert huge_kib(target.pid, address) >= 2048


def huge_kib(pid, address):
    """In transparent huge pages, of the mapping that has the address."""
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        head = line.split(" ", 1)[0]
        if "-" in head and ":" not in head:
            low, high = (int(part, 16) for part in head.split("-"))
            inside = low <= address < high or address <= low < address + (8 << 20)
        elif inside and line.startswith("AnonHugePages:") and int(line.split()[1]):
            return int(line.split()[1])
    return 0


@pytest.mark.usefixtures("huge_pages")
def test_hugetlb_pages_are_the_unit(target):
    address = target.map(4 * HUGE_PAGES, "hugetlb")
    target.write(range(4 * HUGE_PAGES))
    with ProcessWrites(target.pid) as source:
        (region,) = [r for r in source.regions if r.page_bytes == 2 << 20]
        source.collect()
        target.write([HUGE_PAGES + 3, 3 * HUGE_PAGES])
        interval = source.collect()
        first = (address - region.address) // (2 << 20)
        assert interval.pages(region.name).tolist() == [first + 1, first + 3]


def test_named_mappings_and_all(target):
    address = target.map(64, "memfd")
    target.write(range(64))
    with ProcessWrites(target.pid, named("memfd:target")) as source:
        target.write([0, 63])
        interval = source.collect()
        assert addresses(interval) == {address, address + 63 * PAGE}
    with ProcessWrites(target.pid, everything()) as source:
        target.write([1])
        assert address + PAGE in addresses(source.collect())


def test_intervals_are_seamless(target):
    target.map(64)
    with ProcessWrites(target.pid) as source:
        intervals = list(source.intervals(period_s=0.02, count=5))
    for before, after in itertools.pairwise(intervals):
        assert after.start_ns == before.end_ns
        assert after.index == before.index + 1
    assert all(interval.collect_ns > 0 for interval in intervals)


def test_reading_the_mappings_is_part_of_the_cost(target, monkeypatch):
    with ProcessWrites(target.pid) as source:
        follow = source.follow_mappings
        read_ns = []

        def follow_and_look():
            read_ns.append(time.monotonic_ns())
            return follow()

        monkeypatch.setattr(source, "follow_mappings", follow_and_look)
        interval = source.collect()
    assert interval.end_ns - interval.collect_ns < read_ns[0] < interval.end_ns


# ---- ends -------------------------------------------------------------------------------------


def is_watched(pid):
    smaps = Path(f"/proc/{pid}/smaps").read_text()
    return any(line.startswith("VmFlags:") and " uw" in line for line in smaps.splitlines())


def test_closing_takes_the_protection_away(target):
    target.map(64)
    before = Path(f"/proc/{target.pid}/maps").read_text()
    source = ProcessWrites(target.pid)
    assert is_watched(target.pid)
    source.close()
    source.close()
    assert not is_watched(target.pid)
    assert Path(f"/proc/{target.pid}/maps").read_text() == before
    with pytest.raises(ClosedError):
        source.collect()
    assert target.end() == 0


def test_the_target_ends(target):
    target.map(64)
    with ProcessWrites(target.pid) as source:
        source.collect()
        assert target.end() == 0
        with pytest.raises(ProcessEnded, match="ended"):
            source.collect()
        with pytest.raises(EOFError):
            source.collect()


@pytest.mark.parametrize("seconds", [0, 0.1])
def test_the_target_ends_and_its_parent_does_not_look(target, seconds):
    with ProcessWrites(target.pid) as source:
        target.process.kill()
        time.sleep(seconds)
        with pytest.raises(ProcessEnded, match="ended"):
            collect_for(source, 20)


def test_the_target_executes_another_program(target):
    with ProcessWrites(target.pid) as source:
        target.process.stdin.write('{"do": "exec"}\n')
        target.process.stdin.flush()
        with pytest.raises(ProcessEnded, match="executes another program"):
            collect_for(source, 20)


def collect_for(source, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        source.collect()
        time.sleep(0.01)


def test_a_killed_tracer_leaves_nothing(target):
    target.map(64)
    program = (
        "import sys, time\n"
        "from mempattern.sources import ProcessWrites\n"
        "source = ProcessWrites(int(sys.argv[1])); print('attached', flush=True)\n"
        "while True: source.collect()\n"
    )
    for _ in range(3):
        tracer = subprocess.Popen(
            [sys.executable, "-c", program, str(target.pid)], stdout=subprocess.PIPE
        )
        assert tracer.stdout.readline() == b"attached\n"
        target.write(range(64))
        tracer.send_signal(signal.SIGKILL)
        tracer.wait()
        tracer.stdout.close()
        assert not is_watched(target.pid)
    assert target.end() == 0


def test_two_threads_of_one_source(target):
    target.map(4096)
    target.write(range(4096))
    outcomes = []

    def collect():
        for _ in range(50):
            try:
                source.collect()
                outcomes.append("ok")
            except (BusyError, ClosedError):
                outcomes.append("refused")

    source = ProcessWrites(target.pid)
    threads = [threading.Thread(target=collect) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    source.close()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 150


# ---- what cannot be traced --------------------------------------------------------------------


def refused(pid, match, number=None):
    with pytest.raises(ProcessError, match=match) as caught:
        ProcessWrites(pid)
    assert number is None or caught.value.errno == number


def test_no_such_process():
    refused((1 << 22) - 1, "there is no process of that number", errno.ENOENT)


def test_a_zombie():
    child = os.fork()
    if child == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        refused(child, "zombie")
    finally:
        os.waitpid(child, 0)


def test_the_first_thread_has_ended():
    program = (
        "import ctypes, threading\n"
        "threading.Thread(target=lambda: (print('runs', flush=True), input())).start()\n"
        "ctypes.CDLL(None).syscall(60, 0)\n"  # exit(2): of this thread only
    )
    threads = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert threads.stdout.readline() == b"runs\n"
        while "zombie" not in Path(f"/proc/{threads.pid}/status").read_text():
            time.sleep(0.01)
        refused(threads.pid, "its first thread has ended while others run on")
    finally:
        threads.kill()
        threads.communicate()


def test_a_process_that_cannot_be_stopped(target):
    error = process.explained(target.pid, errno.ETIMEDOUT, "PTRACE_INTERRUPT")
    assert "(state D), or the process is frozen (cgroup freezer, docker pause)" in str(error)


def test_no_descriptor_is_left_in_the_target(target):
    target.map(1)  # it has started, and opens nothing more
    n_open = len(os.listdir(f"/proc/{target.pid}/fd"))
    resource.prlimit(target.pid, resource.RLIMIT_NOFILE, (n_open, n_open))
    refused(target.pid, rf"RLIMIT_NOFILE.*prlimit --pid {target.pid} --nofile", errno.EMFILE)


def test_a_kernel_thread():
    refused(2, "kernel thread")


@pytest.mark.parametrize("pid", [0, -1, 1.5, "1", None, True, 1 << 40])
def test_what_is_no_pid(pid):
    with pytest.raises(UsageError, match="process id"):
        ProcessWrites(pid)


def test_itself():
    with pytest.raises(UsageError, match="itself"):
        ProcessWrites(os.getpid())


def test_a_range_that_is_not_mapped(target):
    with pytest.raises(ProcessError, match="no such memory mapped"):
        ProcessWrites(target.pid, address_range(1 << 40, (1 << 40) + PAGE))
    with pytest.raises(ProcessError, match="no such memory mapped"):
        ProcessWrites(target.pid, named("no-such-name"))


@pytest.mark.parametrize(("low", "high"), [(0, 0), (4096, 0), (1, 4097), (-4096, 0), (0, 1 << 65)])
def test_ranges_that_are_none(low, high):
    with pytest.raises(UsageError, match="a range is"):
        address_range(low, high)


def test_a_second_trace(target):
    target.map(64)
    with ProcessWrites(target.pid) as first:
        with pytest.raises(ProcessError, match="another userfaultfd") as caught:
            ProcessWrites(target.pid)
        assert caught.value.errno == errno.EBUSY
        target.write([1])
        assert first.collect().lost_pages == 0


def test_another_users_process():
    """As nobody, a process of root's."""
    if os.getuid():
        pytest.skip("only root can become nobody")
    with Target() as target:
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                os.setgid(65534)
                os.setuid(65534)
                try:
                    ProcessWrites(target.pid)
                except ProcessError as error:
                    code = 0 if "CAP_SYS_PTRACE" in str(error) else 2
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_under_a_debugger(target):
    """strace or gdb would do; a thread of a process can have one tracer."""
    program = (
        "import ctypes, os, sys, time\n"
        "libc = ctypes.CDLL(None)\n"
        "assert libc.ptrace(0x4206, int(sys.argv[1]), 0, 0) == 0\n"
        "print('seized', flush=True); input()\n"
    )
    debugger = subprocess.Popen(
        [sys.executable, "-c", program, str(target.pid)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert debugger.stdout.readline() == b"seized\n"
        refused(target.pid, f"process {debugger.pid} traces it", errno.EPERM)
    finally:
        debugger.kill()
        debugger.communicate()
    with ProcessWrites(target.pid):
        pass


FILTERED = """
import ctypes, select, struct, sys
libc = ctypes.CDLL(None)
load, same, allow, kill = (0x20, 0, 0, 0), (0x15, 0, 1), (6, 0, 0, 0x7fff0000), (6, 0, 0, 1 << 31)
program = [load, (*same, int(sys.argv[1])), kill, allow]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in program))
filter = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, filter) == 0
poll = select.poll(); poll.register(0)
print("filtered", flush=True); poll.poll(60_000); input(); print("lives")
"""
USERFAULTFD, CLOSE, POLL, REBOOT, RESTART = 323, 3, 7, 169, 219


@pytest.mark.parametrize("killed_for", [USERFAULTFD, CLOSE, REBOOT, RESTART])
def test_under_a_seccomp_filter(killed_for):
    """It is traced if it may do what is placed in it, and never killed, be it for how the kernel
    goes on with an interrupted poll(2)."""
    process = subprocess.Popen(
        [sys.executable, "-c", FILTERED, str(killed_for)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == b"filtered\n"
        while not Path(f"/proc/{process.pid}/syscall").read_text().startswith(f"{POLL} "):
            time.sleep(0.01)
        may_read = not os.geteuid() and process_status(os.getpid())["Seccomp"] == "0"
        if killed_for in (USERFAULTFD, CLOSE) or not may_read:
            refused(process.pid, "seccomp filter", errno.EACCES)
        else:
            with ProcessWrites(process.pid):
                pass
        said, _ = process.communicate(b"\n", timeout=20)
        assert said == b"lives\n" or killed_for == CLOSE  # which Python calls at its end
    finally:
        process.kill()
        process.communicate()


def test_the_best_source_is_chosen(target):
    with open_process(target.pid) as source:
        assert isinstance(source, ProcessWrites)
    with pytest.raises(UsageError, match="source is"):
        open_process(target.pid, "best")


# ---- doctor -----------------------------------------------------------------------------------


def test_doctor_tries_and_leaves_no_trace(target):
    checks = {check.name: check for check in doctor.probe(target.pid)}
    assert checks["source uffd"].ok
    assert checks["process"].ok
    assert not is_watched(target.pid)
    nobody = {check.name: check for check in doctor.probe((1 << 22) - 1)}
    assert nobody["process"].ok is False
    assert nobody["source uffd"].ok is False
    assert all(check.name for check in doctor.probe())


def test_every_error_is_ours():
    assert issubclass(ProcessEnded, MempatternError)
    assert issubclass(ProcessEnded, EOFError)
    assert set(sources.__all__) >= {"ProcessWrites", "SoftDirty", "open_process"}
