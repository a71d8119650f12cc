"""Processes that cannot be traced: each is told why, and is left as it was."""

import contextlib
import errno
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from target import Target
from traced import is_watched

from mempattern import sources
from mempattern.errors import MempatternError, ProcessEnded, ProcessError, UsageError
from mempattern.sources import ProcessWrites, doctor, process
from mempattern.sources.process import status_of as process_status

pytestmark = pytest.mark.usefixtures("uffd")


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
