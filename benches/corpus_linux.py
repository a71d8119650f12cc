"""A Linux guest in an initramfs: Debian's kernel, busybox, and the programs that it runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

CACHE = Path(__file__).parent.parent / "build/corpus"
KERNEL = "linux-image-cloud-amd64"
"""Names the package that has the kernel. It is not installed: this machine has a kernel."""

_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
exec </dev/null >/dev/ttyS0 2>&1
ifconfig lo up
syslogd
klogd
crond -c /tmp
ready() { echo corpus: ready; }
"""


def unpacked(package: str) -> tuple[Path, str]:
    """Where a package's files are, fetched but not installed, and its version."""
    folder = CACHE / package
    if not folder.exists():
        partial = CACHE / f"{package}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _run("apt-get", "download", "-q", package, cwd=partial)
        (deb,) = partial.glob("*.deb")
        _run("dpkg-deb", "-x", str(deb), str(partial))
        version = _run("dpkg-deb", "-f", str(deb), "Version")
        (partial / "version").write_text(version.strip())
        deb.unlink()
        partial.rename(folder)
    return folder, (folder / "version").read_text()


def kernel() -> tuple[Path, dict[str, str]]:
    """A bzImage, and its package with the version."""
    depends = _run("apt-cache", "depends", KERNEL)
    package = re.search(r"Depends: (linux-image-\S+)", depends)
    if package is None:
        raise RuntimeError(f"apt-cache tells no dependency of {KERNEL} on a kernel")
    folder, version = unpacked(package[1])
    return next(folder.glob("boot/vmlinuz-*")), {package[1]: version}


def initramfs(
    path: Path, script: str, programs: Iterable[str], files: Mapping[str, bytes]
) -> dict[str, str]:
    """Write one whose init runs the script. Gives the version of busybox.

    `programs` are this machine's, and go in with their libraries.
    """
    busybox, version = unpacked("busybox-static")
    contents = {
        "init": (_INIT + script).encode(),
        "bin/busybox": next(busybox.glob("**/bin/busybox")).read_bytes(),
    }
    for program in programs:
        found = shutil.which(program)
        if found is None:
            raise RuntimeError(f"there is no {program} here")
        contents[f"bin/{Path(found).name}"] = Path(found).read_bytes()
        for library in re.findall(r"(?:=> |\t)(/\S+) \(0x", _run("ldd", found)):
            contents[library.lstrip("/")] = Path(library).read_bytes()
    contents |= files
    path.write_bytes(_gzip(b"".join(_cpio(contents))))
    return {"busybox-static": version}


def _cpio(contents: Mapping[str, bytes]) -> Iterator[bytes]:
    """The "newc" format.

    Source: Linux Documentation/driver-api/early-userspace/buffer-format.rst
    """
    folders = {str(parent) for name in contents for parent in Path(name).parents} - {"."}
    entries = [(name, 0o40755, b"") for name in sorted(folders)]
    entries += [(name, 0o100755, data) for name, data in contents.items()]
    for i, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        fields = (i, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        yield head + bytes(-len(head) % 4)
        yield data + bytes(-len(data) % 4)


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    return packer.compress(data) + packer.flush()


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        advice = "; is `apt-get update` due?" if command[0].startswith("apt") else ""
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()[-300:]}{advice}")
    return done.stdout
