"""What all tests share: hypothesis profiles, one run per kernel, and who may be skipped.

HYPOTHESIS_PROFILE=expensive    search for long; `ci` tries the same cases each time, so that a
                                change is judged by what it changes; `short` is for emulators
MEMPATTERN_NO_SKIPS=1           a skipped test fails if this machine has what it needs
"""

import errno
import fcntl
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from target import Target

sys.path.append(str(Path(__file__).parent.parent / "benches"))
import instructions

from mempattern import kernels
from mempattern.sources import doctor
from mempattern.sources import soft_dirty as soft_dirty_bits

_QUIET = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("short", max_examples=5, **_QUIET)
settings.register_profile("default", max_examples=40, **_QUIET)
settings.register_profile("ci", max_examples=40, derandomize=True, print_blob=True, **_QUIET)
settings.register_profile("expensive", max_examples=300, **_QUIET)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default")
)


@pytest.fixture(scope="module", params=kernels.available())
def kernel(request):
    """The test runs once on every kernel of this machine; this is its name."""
    kernels.use(request.param)
    yield request.param
    kernels.use(None)


def _kvm_problem():
    try:
        with open("/dev/kvm", "r+b", buffering=0) as device:
            fcntl.ioctl(device, 0xAE00)  # KVM_GET_API_VERSION
    except FileNotFoundError:
        return (
            "there is no /dev/kvm: modprobe kvm_intel or kvm_amd, with virtualisation enabled in "
            "the firmware, or nested virtualisation in the hypervisor"
        )
    except PermissionError:
        return "/dev/kvm does not open: sudo usermod -aG kvm $USER, and log in again"
    except OSError as error:
        if error.errno == errno.ENOTTY:
            return "/dev/kvm is not KVM's device: pass the device through to this container"
        return f"/dev/kvm does not open: {error.strerror}; see dmesg"
    return None


def _qemu_problem():
    if shutil.which("qemu-system-x86_64") is None:
        return "qemu-system-x86_64 is not in PATH: apt-get install qemu-system-x86"
    return None


@functools.cache
def _uffd_problem():
    check = next(check for check in doctor.probe() if check.name == "source uffd")
    return None if check.ok else f"{check.detail}: {check.remedy}"


def _soft_dirty_problem():
    if soft_dirty_bits.works():
        return None
    return "soft-dirty bits do not work here: take a kernel with CONFIG_MEM_SOFT_DIRTY"


def _experiment_problem():
    """Of benches/reproduce.py, beyond QEMU and KVM."""
    if os.geteuid():
        return "a network namespace with a slow link needs root: sudo make test"
    programs = {"ip": "iproute2", "tc": "iproute2", "setpriv": "util-linux", "nm": "binutils",
                "gcc": "gcc", "redis-server": "redis-server", "redis-cli": "redis-tools",
                "apt-get": "apt"}  # fmt: skip
    missing = sorted({programs[name] for name in programs if shutil.which(name) is None})
    return f"these are not installed: apt-get install {' '.join(missing)}" if missing else None


@functools.cache
def _libvirt_problem():
    missing = [name for name in ("libvirtd", "virsh", "unshare") if shutil.which(name) is None]
    if missing:
        return f"{missing[0]} is not in PATH: apt-get install libvirt-daemon-system libvirt-clients"
    if importlib.util.find_spec("libvirt") is None:
        return "no libvirt-python: apt-get install libvirt-dev pkg-config; pip install '.[libvirt]'"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return "libvirtd needs mounts of its own (unshare --mount): run this as root"
    return _qemu_problem()


def _chromium_problem():
    if importlib.util.find_spec("playwright") is None:
        return "no playwright: pip install playwright"
    if shutil.which("chromium") is None:
        return "chromium is not in PATH: apt-get install chromium fonts-dejavu-core"
    return None


_callgrind_problem = functools.cache(instructions.problem)


_PROBLEM = {
    "kvm": _kvm_problem,
    "libvirt": _libvirt_problem,
    "qemu": _qemu_problem,
    "uffd": _uffd_problem,
    "soft_dirty": _soft_dirty_problem,
    "experiment": _experiment_problem,
    "callgrind": _callgrind_problem,
    "chromium": _chromium_problem,
}


@pytest.fixture(scope="session")
def kvm():
    """Skips where /dev/kvm cannot be opened read-write."""
    if problem := _kvm_problem():
        pytest.skip(problem)


@pytest.fixture(scope="session")
def qemu():
    """Skips where QEMU is not installed."""
    if problem := _qemu_problem():
        pytest.skip(problem)


@pytest.fixture(scope="session")
def sqlite():
    """Skips where the sqlite3 command is not installed."""
    if shutil.which("sqlite3") is None:
        pytest.skip("sqlite3 is not in PATH: apt-get install sqlite3")


@pytest.fixture(scope="session")
def libvirt():
    """Skips where no libvirtd of our own can be started."""
    if problem := _libvirt_problem():
        pytest.skip(problem)


@pytest.fixture(scope="session")
def uffd():
    """Skips where the kernel cannot follow another process's writes."""
    if problem := _uffd_problem():
        pytest.skip(problem)


@pytest.fixture
def target():
    """A process to trace."""
    with Target() as process:
        yield process


@pytest.fixture
def huge_pages():
    """64 MiB of free huge pages in the machine's pool, for as long as the test runs."""
    pool = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
    wanted = 32
    try:
        before = int(pool.read_text())
        Path("/proc/sys/vm/compact_memory").write_text("1")
        pool.write_text(str(before + wanted))
    except OSError as error:
        pytest.skip(f"2 MiB pages cannot be had: {error}")
    try:
        if int(pool.read_text()) < before + wanted:
            pytest.skip(f"there are no {wanted} free 2 MiB pages")
        yield
    finally:
        pool.write_text(str(before))


@pytest.fixture(scope="session")
def soft_dirty():
    """Skips where the kernel has no soft-dirty bits."""
    if problem := _soft_dirty_problem():
        pytest.skip(problem)


@pytest.fixture(scope="session")
def experiment():
    """Skips where the experiment on real QEMUs lacks something."""
    if problem := _experiment_problem():
        pytest.skip(problem)


@pytest.fixture(scope="session")
def callgrind():
    """Skips where instructions cannot be counted, or not as those that are kept were."""
    if problem := _callgrind_problem():
        pytest.skip(problem)


@pytest.fixture(scope="module")
def chromium():
    """A headless one; skips where there is none. Its event loop must not stay for other modules."""
    if problem := _chromium_problem():
        pytest.skip(problem)
    sync_api = importlib.import_module("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Who asks for the fixture gets the marker, for `-m kvm` and for the rule below. A test that
    runs a state machine is for `-m hypothesis` too, whose own plugin does not see it."""
    for item in items:
        code = getattr(getattr(item, "function", None), "__code__", None)
        if code and "run_state_machine_as_test" in code.co_names:
            item.add_marker("hypothesis")
        for need in _PROBLEM.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(need)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    needs = [need for need in _PROBLEM if item.get_closest_marker(need)]
    excused = not needs or any(_PROBLEM[need]() for need in needs)
    if report.skipped and not excused and os.environ.get("MEMPATTERN_NO_SKIPS"):
        report.outcome = "failed"
        reason = report.longrepr[2]
        report.longrepr = f"this machine has {' and '.join(needs)}, and yet: {reason}"
    return report
