"""QEMU with the guest program, for tests: started, waited for, looked into, and always ended."""

import socket
import subprocess
import time
from contextlib import contextmanager

from mempattern.microvm import guest_path


@contextmanager
def qemu_guest(accel, command_line, tmp_path, *options, memory=("-m", "64"), pass_fds=()):
    """Gives the process, the guest's serial output and a monitor to type at."""
    serial, monitor = tmp_path / "serial", tmp_path / "monitor"
    process = subprocess.Popen(
        ["qemu-system-x86_64", "-accel", accel, *memory, "-display", "none", "-nodefaults",
         "-no-reboot", "-serial", f"file:{serial}",
         "-monitor", f"unix:{monitor},server=on,wait=off",
         "-kernel", str(guest_path()), "-append", command_line, *options],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        pass_fds=pass_fds,
    )  # fmt: skip
    try:
        yield process, serial, monitor
    finally:
        process.kill()
        process.communicate()


def wait_for(process, serial, word):
    """The guest's serial output once the word is in it."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        text = serial.read_text() if serial.exists() else ""
        if word in text:
            return text
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.05)
    raise AssertionError(f"QEMU's guest said only {text!r}")


def dump_memory(monitor, address, n_bytes, path):
    """`pmemsave` through QEMU's monitor: the guest's memory, as QEMU has it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(monitor))
        _until_prompt(connection)
        connection.sendall(f'pmemsave {address} {n_bytes} "{path}"\n'.encode())
        _until_prompt(connection)


def _until_prompt(connection):
    said = b""
    while not said.endswith(b"(qemu) "):
        said += connection.recv(4096)
