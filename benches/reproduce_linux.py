"""The guests that run Linux, under TCG: a database and a compiler, which check their own data."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blackout import Blackout
from corpus_guests import preprocessed
from corpus_linux import initramfs, kernel
from reproduce_guests import KEPT, Checked, Guest, Machine

_BEAT = Path(__file__).with_name("beat.c")
_RUNS = 1 << 62
"""More than any file's size."""

# The second serial port is the pulse, the third takes the question whether all data are whole.
_COMMON = """
beat >/dev/ttyS1 &
dd if=/dev/urandom of=/tmp/still bs=64k count=64 2>/dev/null
sha256sum /tmp/still >/tmp/still.sum
whole() { sha256sum -c -s /tmp/still.sum && [ "$(mine)" = whole ]; }
answer() {
    whole && echo "check: whole." || echo "check: broken, $(mine)."
    while :; do sleep 60; done
}
( read question </dev/ttyS2; touch /tmp/asked ) &
"""
REDIS = (
    """
LOAD='local n = redis.call("incr", "n")
for i = 1, 40 do
    local key = (n * 40 + i) * 7919 % 9000
    redis.call("set", key, key .. ":" .. n .. ":" .. string.rep(string.char(97 + n % 26), 1500))
end'
CHECK='for key = 0, 8999 do
    local value = redis.call("get", key)
    local n = value and tonumber(string.match(value, "^" .. key .. ":(%d+):"))
    if value and (not n or value ~=
        key .. ":" .. n .. ":" .. string.rep(string.char(97 + n % 26), 1500)) then
        return "key " .. key
    end
end
return "whole"'
redis-server --save "" --port 0 --unixsocket /tmp/redis >/dev/null &
until redis-cli -s /tmp/redis ping >/dev/null 2>&1; do sleep 0.2; done
mine() { redis-cli -s /tmp/redis eval "$CHECK" 0; }
"""
    + _COMMON
    + """
redis-cli -s /tmp/redis -r 300 eval "$LOAD" 0 >/dev/null
ready
while [ ! -e /tmp/asked ]; do redis-cli -s /tmp/redis -r 50 eval "$LOAD" 0 >/dev/null; done
answer
"""
)
COMPILER = (
    """
cd /sources
compile() { cc1 -fpreprocessed -quiet -O2 $1 -o $2; }
for file in *.i; do compile $file /tmp/$file.first; done
mine() { [ -e /tmp/differs ] && cat /tmp/differs || echo whole; }
"""
    + _COMMON
    + """
ready
while [ ! -e /tmp/asked ]; do
    for file in *.i; do
        compile $file /tmp/now && cmp -s /tmp/now /tmp/$file.first || echo $file >/tmp/differs
        [ -e /tmp/asked ] && break
    done
done
answer
"""
)
IDLE = (
    "mine() { echo whole; }"
    + _COMMON
    + """
ready
while [ ! -e /tmp/asked ]; do sleep 0.2; done
answer
"""
)
_END = ".\n"
_SOURCES = 4
"""The shortest, so that one is compiled within seconds under TCG."""


@dataclass(frozen=True)
class LinuxGuest(Guest):
    script: str = ""
    programs: tuple[str, ...] = ()
    compiles: bool = False

    def options(self, folder: Path, name: str) -> list[str]:
        image, _ = kernel()
        return [
            "-cpu", "max", "-serial", f"file:{folder / name}.serial",
            "-serial", f"file:{folder / name}.pulse",
            "-serial", f"unix:{folder / name}.question,server=on,wait=off",
            "-kernel", str(image), "-initrd", str(self._initrd()),
            "-append", "console=ttyS0 quiet panic=-1",
        ]  # fmt: skip

    def boot(self, folder: Path) -> list[str]:
        return []

    def content(self) -> bytes:
        return self.script.encode()

    def wait_until_busy(self, here: Machine) -> None:
        here.wait_until_said("corpus: ready")

    @contextmanager
    def watch(self, here: Machine, there: Machine) -> Iterator[Blackout]:
        near, far = (one.folder / f"{one.name}.pulse" for one in (here, there))

        def arrived() -> int:
            return _RUNS if _size(far) else 0

        with Blackout(lambda: _size(near), arrived) as blackout:
            yield blackout

    def check(self, now: Machine, source: Machine) -> Checked:
        with socket.socket(socket.AF_UNIX) as question:
            question.connect(str(now.folder / f"{now.name}.question"))
            question.sendall(b"whole?\n")
            now.wait_until_said("check: ")
            now.wait_until_said(_END)
        said = now.serial.read_text(errors="replace").rpartition("check: ")[2].partition(_END)[0]
        return Checked(said == "whole", f"the guest's own check of its data: {said}")

    def _initrd(self) -> Path:
        """QEMU wants it also where it is not booted from."""
        path = KEPT / f"{self.name}-{zlib.crc32(self.content()):08x}.initrd"
        if not path.exists():
            KEPT.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=KEPT))
            files: Mapping[str, bytes] = {"bin/beat": _compiled(folder)}
            programs = self.programs
            if self.compiles:
                sources = sorted(preprocessed(folder).items(), key=lambda one: len(one[1]))
                files = {**files, **dict(sources[:_SOURCES])}
                cc1 = subprocess.check_output(["gcc", "-print-prog-name=cc1"], text=True).strip()
                programs = (cc1,)
            initramfs(folder / "initrd", self.script, programs, files)
            (folder / "initrd").rename(path)
            shutil.rmtree(folder)
        return path


def _compiled(folder: Path) -> bytes:
    program = folder / "beat"
    subprocess.run(["gcc", "-O2", "-static", str(_BEAT), "-o", str(program)], check=True)
    return program.read_bytes()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # gone at the end
        return 0


LINUX_GUESTS = (
    LinuxGuest("redis", "Linux: redis-server, all of whose 9000 values are rewritten all the time",
               True, 15_000_000, 40.0, 192, ("tcg",), REDIS,
               ("redis-server", "redis-cli")),
    LinuxGuest("compiler", "Linux: gcc's cc1 compiles four of our C files again and again",
               True, 12_000_000, 40.0, 256, ("tcg",), COMPILER, (), True),
    LinuxGuest("linux-idle", "Linux: nothing but its own daemons", False, 30_000_000, 40.0, 160,
               ("tcg",), IDLE),
)  # fmt: skip
