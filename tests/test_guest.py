"""The guest writes exactly the pages that its Python model says, in the micro VM and in QEMU."""

import faulthandler
import os
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from guest_in_qemu import dump_memory, qemu_guest, wait_for
from guest_program import guest_model

from mempattern import Region
from mempattern.errors import GuestError, KVMError, RegionError, UsageError
from mempattern.microvm import PATTERNS, MicroVM, Workload

RAM = (Region("a", 700), Region("b", 333))
N_PAGES = 1033


def workload(pattern, seed=1, n_pages=N_PAGES):
    if pattern == "phased":
        return Workload(
            pattern, n_pages, seed=seed, phases=("hotset", "idle"), phase_steps=37, hot_pages=50
        )
    if pattern == "grow":  # to all pages within the steps of the tests
        return Workload(pattern, n_pages, seed=seed, stride=400, hot_pages=50)
    return Workload(pattern, n_pages, seed=seed, stride=12 if pattern == "stride" else None)


def counters(vm):
    return np.concatenate([vm.page_writes(region.name) for region in vm.regions])


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize("seed", [0, 1, 12345])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_page_write_is_the_models(pattern, seed):
    check_every_page_write(workload(pattern, seed))


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize(
    "work",
    [
        Workload("grow", N_PAGES),
        Workload("grow", 1),
        Workload("grow", 7, hot_pages=7, stride=1),
        Workload("grow", N_PAGES, hot_pages=1, stride=1 << 20),
        Workload("phased", N_PAGES, phases=("grow", "zipf"), phase_steps=37),
        Workload("phased", 50, phases=("sweep", "grow"), phase_steps=7, hot_pages=5, stride=4),
    ],
    ids=lambda work: work.command_line(),
)
def test_a_working_set_grows_as_the_models(work):
    check_every_page_write(work)


def check_every_page_write(work):
    model = guest_model.pages(work.command_line(), 10**9)
    expected = np.zeros(N_PAGES, np.int64)
    with MicroVM(RAM, work) as vm:
        total = 0
        for n_steps in (1, 2, 100, 2500):
            vm.step(n_steps)
            total += n_steps
            for page, writes in Counter(islice(model, n_steps)).items():
                if page is not None:
                    expected[page] += writes
            assert np.array_equal(counters(vm), expected)
            assert vm.steps() == total


@pytest.mark.usefixtures("kvm")
def test_patterns_have_the_shape_of_their_names():
    shares = {}
    for pattern in ("hotset", "uniform", "zipf"):
        with MicroVM(RAM, workload(pattern, seed=9)) as vm:
            vm.step(20_000)
            busiest = np.sort(counters(vm))[::-1]
            shares[pattern] = busiest[: N_PAGES // 8].sum() / 20_000
    # 7/8 and 1/8 of 1/8; a flat eighth with its noise; log(130)/log(1034) of a 1/k law
    assert shares["hotset"] == pytest.approx(7 / 8 + 1 / 64, abs=0.02)
    assert 1 / 8 < shares["uniform"] < 0.2
    assert shares["zipf"] == pytest.approx(np.log(130) / np.log(1034), abs=0.02)


@pytest.mark.usefixtures("kvm")
def test_rate_is_kept():
    rate = 2000
    with MicroVM(RAM, Workload("uniform", N_PAGES, rate=rate)) as vm:
        vm.step(10)  # boot
        before, start = vm.steps(), time.monotonic()
        vm.resume()
        time.sleep(1.0)
        vm.pause()
        took = time.monotonic() - start
        # A busy machine may hold the guest up, but it never runs ahead, nor far behind.
        assert (vm.steps() - before) / took <= rate * 1.02
        assert (vm.steps() - before) / took >= rate * 0.5


@pytest.mark.usefixtures("kvm")
def test_free_runs_and_exact_steps_mix():
    apart = (Workload("uniform", 700), Workload("sweep", 333, first_page=700))
    with MicroVM(RAM, apart) as vm:  # two vCPUs on one page could lose a count
        for _ in range(20):
            vm.resume()
            vm.kick()
            vm.pause()
            before = [vm.steps(0), vm.steps(1)]
            vm.step(123)
            assert [vm.steps(0), vm.steps(1)] == [before[0] + 123, before[1] + 123]
        assert int(counters(vm).sum()) == vm.steps(0) + vm.steps(1)


@pytest.mark.usefixtures("kvm")
def test_a_reboot_changes_the_workload_and_nothing_else():
    with MicroVM(RAM, workload("sweep")) as vm, vm.dirty_source() as source:
        vm.step(10)
        before = counters(vm).copy()
        vm.reboot(Workload("stride", N_PAGES, stride=100))
        vm.step(3)
        assert np.flatnonzero(counters(vm) - before).tolist() == [0, 100, 200]
        interval = source.collect()  # memory and log are as they were
        assert interval.pages("a").tolist() == [*range(10), 100, 200]
        assert vm.steps() == 13
        vm.resume()
        vm.reboot(Workload("idle", n_pages=0))
        with pytest.raises(GuestError, match="unusable value: pages=0"):
            vm.step(1)
        with pytest.raises(UsageError, match="has 1 vCPUs"):
            vm.reboot([workload("sweep")] * 2)


@pytest.mark.usefixtures("kvm")
def test_what_cannot_run_is_refused():
    with pytest.raises(UsageError, match="1 to 8 workloads"):
        MicroVM(RAM, ())
    with pytest.raises(UsageError, match="1 to 8 workloads"):
        MicroVM(RAM, [Workload()] * 9)
    with pytest.raises(UsageError, match="3 GiB"):
        MicroVM([Region("huge", 10**6)], Workload())
    with pytest.raises(UsageError, match="logging"):
        MicroVM(RAM, Workload(), logging="none")
    with pytest.raises(UsageError, match="power of two"):
        MicroVM(RAM, Workload(), logging="ring", ring_entries=1000)
    with pytest.raises(RegionError, match="pages of 4096 bytes, not of 65536"):
        MicroVM([Region("a", 700, 65536)], Workload())
    for pattern in ("uniform seed=9", "", 3, "\ud800", "UNIFORM", "nonsense", ["idle"]):
        with pytest.raises(UsageError, match="a pattern is one of"):
            Workload(pattern)
    for phases in (("idle",), 5, "ab", (1, 2), ("idle", "phased"), ("idle", "x"), {"idle": 1}):
        with pytest.raises(UsageError, match="phases are two patterns of"):
            Workload("phased", phases=phases)
    for field in ("n_pages", "first_page", "seed", "rate"):
        with pytest.raises(UsageError, match=f"{field} must be a whole number"):
            Workload(**{field: -1})
    for workloads in (None, 5, "idle", [None]):
        with pytest.raises(UsageError, match="workloads are"):
            MicroVM(RAM, workloads)
    with MicroVM(RAM, workload("idle")) as vm:
        for n_steps in (0, -1, 1 << 31, None, 1.0):
            with pytest.raises(UsageError, match="n_steps"):
                vm.step(n_steps)
        for timeout_s in (0, -1, float("nan"), None, "x"):
            with pytest.raises(UsageError, match="timeout_s"):
                vm.step(1, timeout_s=timeout_s)
        with pytest.raises(UsageError, match="no vCPU -1"):
            vm.steps(-1)


@pytest.mark.usefixtures("kvm")
def test_a_step_that_another_thread_ends_says_so():
    with MicroVM(RAM, workload("uniform")) as vm:
        said = []

        def step():
            try:
                vm.step(1 << 30)
            except GuestError as error:
                said.append(str(error))

        thread = threading.Thread(target=step)
        thread.start()
        deadline = time.monotonic() + 20
        while vm.steps() == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        vm.pause()
        thread.join(20)
        assert not thread.is_alive()
        assert "another thread" in said[0]


@pytest.mark.usefixtures("kvm")
def test_a_guest_that_died_in_a_free_run_is_told_of():
    with MicroVM(RAM, Workload("sweep", N_PAGES + 10)) as vm:
        vm.check()
        vm.resume()
        said = ""
        for _ in range(600):
            try:
                vm.check()
            except GuestError as error:
                said = str(error)
                break
            time.sleep(0.05)
        assert "vCPU 0 died" in said


@pytest.mark.usefixtures("kvm")
def test_a_step_out_of_time_says_so():
    with MicroVM(RAM, workload("uniform")) as vm:
        with pytest.raises(GuestError, match="not done in time"):
            vm.step(1 << 30, timeout_s=0.3)
        before = vm.steps()
        vm.step(100)
        assert vm.steps() == before + 100


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize("doing", ["running", "parked"])
def test_a_forked_child_is_refused_and_does_not_hang(doing):
    """Its copy of the VM has locks and waiters, but none of the threads they belong to."""
    with MicroVM(RAM, workload("uniform"), logging="ring", ring_entries=1024) as vm:
        source = vm.dirty_source()
        vm.step(5)  # the vCPU's thread waits, parked
        if doing == "running":
            vm.resume()
        child = os.fork()
        if child == 0:
            faulthandler.dump_traceback_later(20)  # says where, should it hang
            refused = 0
            try:
                for use in (vm.kick, vm.resume, vm.steps, lambda: vm.step(1), source.drain):
                    with suppress(GuestError, KVMError):
                        use()
                        continue
                    refused += 1
                del source
                vm.close()
            finally:  # never back into pytest, whatever was raised
                os._exit(refused)
        assert end_of(child) == 5
        vm.pause()
        source.collect()


def end_of(child):
    """The exit code of a forked child, which is killed if it hangs."""
    for _ in range(600):  # not by the clock: a machine that was suspended has jumped it
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    where = []
    try:
        for name in ("wchan", "stack"):
            with suppress(OSError):  # root only
                where.append(Path(f"/proc/{child}/{name}").read_text())
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    pytest.fail(f"the child hangs, in the kernel at {where}")


@pytest.mark.usefixtures("kvm")
def test_views_of_guest_memory_outlive_the_vm():
    vm = MicroVM(RAM, workload("sweep"))
    vm.step(5)
    view = vm.page_writes("a")
    vm.close()
    vm.close()
    assert view[:6].tolist() == [1, 1, 1, 1, 1, 0]


# ---- in QEMU ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("qemu")
@pytest.mark.parametrize("pattern", ["zipf", "phased"])
@pytest.mark.parametrize("accel", ["tcg", "kvm"])
def test_the_same_guest_runs_in_qemu(accel, pattern, tmp_path, request):
    if accel == "kvm":
        request.getfixturevalue("kvm")
    n_steps = 5000
    line = workload(pattern, seed=7).command_line() + f" steps={n_steps} rate=20000"
    with qemu_guest(accel, line, tmp_path) as (process, serial, monitor):
        text = wait_for(process, serial, f"done steps={n_steps}\n")
        assert f"mempattern-guest pattern={pattern} pages={N_PAGES}" in text
        dump = tmp_path / "memory"
        dump_memory(monitor, 0x1000000, N_PAGES * 4096, dump)
        assert os.stat(dump).st_size == N_PAGES * 4096
    written = np.fromfile(dump, "<u4").reshape(N_PAGES, 1024)[:, 0]
    expected = np.zeros(N_PAGES, np.int64)
    for page in guest_model.pages(line, n_steps):
        if page is not None:
            expected[page] += 1
    assert np.array_equal(written, expected)
