"""Two libvirtds on one machine, with a slow link between them, for tests of real migrations.

Each has directories of its own in place of the system's, in a mount namespace: it neither sees nor
touches what else runs here. All that they start is ended by its process id.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from guest_steps import Steps
from qemu_pair import Link
from waiting import until

from mempattern.errors import MissingPackageError
from mempattern.live.libvirtd import library
from mempattern.microvm import guest_path
from mempattern.qemu.ram import guest_ram_blocks

with suppress(MissingPackageError):  # who needs it is skipped
    libvirt = library()

UUID = "33333333-3333-4333-8333-333333333333"
_PATTERN_START = 16 << 20
_DIRECTORIES = {
    "etc": "/etc/libvirt",
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}
_LIBVIRTD = """\
host_uuid = "{uuid}"
auth_unix_rw = "none"
auth_unix_ro = "none"
"""
_QEMU = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
remember_owner = 0
"""
_DOMAIN = """\
<domain type='{kind}'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel>
    <cmdline>{line}</cmdline>
  </os>
  <devices>
    <emulator>{qemu}</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <serial type='file'><source path='/run/libvirt/serial'/></serial>
  </devices>
</domain>
"""


class Libvirtd:
    """A libvirtd of its own; it may be killed and started anew, as its guests live on."""

    def __init__(self, directory: Path, number: int) -> None:
        self.directory = directory
        for name in _DIRECTORIES:
            (directory / name).mkdir(parents=True)
        uuid = f"{number}{UUID[1:]}"
        (directory / "etc" / "libvirtd.conf").write_text(_LIBVIRTD.format(uuid=uuid))
        (directory / "etc" / "qemu.conf").write_text(_QEMU)
        self.uri = f"qemu+unix:///system?socket={directory}/run/libvirt-sock"
        self._process: subprocess.Popen | None = None

    def start(self):
        binds = [
            f"mkdir -p {there} && mount --bind {self.directory / name} {there}"
            for name, there in _DIRECTORIES.items()
        ]
        pid_file = self.directory / "pid"
        script = " && ".join([*binds, f"exec libvirtd -p {pid_file}"])
        with (self.directory / "libvirtd.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def wait(self):
        """Until it answers."""
        deadline = time.monotonic() + 30
        while True:
            with suppress(libvirt.libvirtError):
                libvirt.open(self.uri).close()
                return
            assert self._process.poll() is None, (self.directory / "libvirtd.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def kill(self):
        self._process.kill()
        self._process.wait()

    def stop(self):
        """With its guests, first."""
        if self._process is None:
            return
        for file in (self.directory / "run" / "qemu").glob("*.pid"):
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(file.read_text()), signal.SIGKILL)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    @contextmanager
    def open(self):
        connection = libvirt.open(self.uri)
        try:
            yield connection
        finally:
            connection.close()

    def pid_of(self, name):
        return int((self.directory / "run" / "qemu" / f"{name}.pid").read_text())

    def state(self, name):
        """Of the domain, as `virDomainState`; None if there is none."""
        with self.open() as connection, suppress(libvirt.libvirtError):
            return connection.lookupByName(name).state()[0]
        return None

    def runs(self, name):
        return self.state(name) == libvirt.VIR_DOMAIN_RUNNING


@dataclass
class LibvirtPair:
    source: Libvirtd
    target: Libvirtd
    link: Link
    name: str
    pattern: dict

    def virsh_migrate(self, *more):
        """As a user does it; the process of `virsh`."""
        return subprocess.Popen(
            ["virsh", "-c", self.source.uri, "migrate", "--live", self.name, self.target.uri,
             "--migrateuri", "unix:///run/libvirt/channel", *more],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    @contextmanager
    def domain(self):
        """At the source."""
        with self.source.open() as connection:
            yield connection.lookupByName(self.name)

    def passes(self):
        """Of the migration under way; 0 without one."""
        with self.domain() as domain:
            said = domain.jobStats()
        is_under_way = said["type"] == libvirt.VIR_DOMAIN_JOB_UNBOUNDED
        return said.get("memory_iteration", 0) if is_under_way else 0

    def limit_ms(self):
        with self.domain() as domain:
            return domain.migrateGetMaxDowntime()

    def arrived_whole(self):
        """At the target every page holds the number of times it was written so far, which its
        pattern alone tells. Not to be asked under TCG (see `qemu_pair.Pair.moved_whole`)."""
        with self.target.open() as connection:
            connection.lookupByName(self.name).suspend()
        pid = self.target.pid_of(self.name)
        (block,) = guest_ram_blocks(pid).blocks
        n_pages = self.pattern["pages"]
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(block.host_start + _PATTERN_START)
            words = np.frombuffer(memory.read(n_pages * 4096), np.uint32)
        counts = words.reshape(n_pages, -1)[:, 0].astype(np.int64)
        steps = Steps(self.pattern["pattern"], n_pages, self.pattern["seed"])
        expected, left = np.zeros(n_pages, np.int64), int(counts.sum())
        while left:
            part = steps.take(min(left, 1 << 22))
            expected += np.bincount(part, minlength=n_pages)
            left -= part.size
        return counts.sum() > 0 and np.array_equal(counts, expected)


@contextmanager
def libvirt_pair(kind, bytes_per_s, *, persistent=False, name="guest", **pattern):
    """The guest runs at the source. Paths are short, as sockets need them."""
    directory = Path(tempfile.mkdtemp(prefix="mp-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        source, target = Libvirtd(directory / "a", 1), Libvirtd(directory / "b", 2)
        for one in (source, target):
            stack.callback(one.stop)
            one.start()
        for one in (source, target):
            one.wait()
        channel = "run/channel"
        link = Link(source.directory / channel, target.directory / channel, bytes_per_s)
        stack.callback(link.cut)
        xml = _DOMAIN.format(
            kind=kind, name=name, uuid=UUID, kernel=guest_path(),
            line=" ".join(f"{key}={value}" for key, value in pattern.items()),
            qemu=shutil.which("qemu-system-x86_64"),
        )  # fmt: skip
        with source.open() as connection:
            if persistent:
                connection.defineXML(xml).create()
            else:
                connection.createXML(xml)
        serial = source.directory / "run" / "serial"
        until(lambda: serial.exists() and "pattern=" in serial.read_text())
        yield LibvirtPair(source, target, link, name, pattern)
