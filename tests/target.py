"""A process to trace: it does to its memory exactly what it is told, line by line.

As a program it reads one JSON object a line and answers each; as a module it has the tests' side.
"""

import ctypes
import itertools
import json
import mmap
import os
import subprocess
import sys

PAGE = 4096
KINDS = ("private", "thp", "shared", "memfd", "hugetlb", "private-file", "shared-file")
_MAP_HUGETLB = 0x40000


class Target:
    """The tests' side. A context manager that leaves no process behind."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pid = self.process.pid

    def do(self, what, **arguments):
        """Have one thing done, and its answer."""
        self.process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer
        return answer.get("value")

    def map(self, n_pages, kind="private", name="m", path=None):
        """Map memory, and its address."""
        return self.do("map", n_pages=n_pages, kind=kind, name=name, path=path)

    def write(self, pages, name="m"):
        self.do("write", pages=[int(page) for page in pages], name=name)

    def end(self):
        self.process.stdin.close()
        return self.process.wait(20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


# ---- the process's side -----------------------------------------------------------------------

_maps: dict[str, mmap.mmap] = {}
_counter = itertools.cycle(range(1, 251))


def _make(n_pages, kind, path):
    size = n_pages * PAGE
    flags = {"private": mmap.MAP_PRIVATE, "thp": mmap.MAP_PRIVATE, "shared": mmap.MAP_SHARED,
             "hugetlb": mmap.MAP_PRIVATE | _MAP_HUGETLB}  # fmt: skip
    if kind in flags:
        memory = mmap.mmap(-1, size, flags[kind] | mmap.MAP_ANONYMOUS)
        if kind == "thp":
            memory.madvise(mmap.MADV_HUGEPAGE)
        elif kind == "private":
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        return memory
    fd = os.memfd_create("target") if kind == "memfd" else os.open(path, os.O_RDWR)
    if kind != "private-file":
        os.ftruncate(fd, size)
    flag = mmap.MAP_PRIVATE if kind == "private-file" else mmap.MAP_SHARED
    memory = mmap.mmap(fd, size, flag)
    os.close(fd)
    return memory


def _address(memory):
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _write(memory, pages):
    value = next(_counter)
    for page in pages:
        memory[page * PAGE + 5] = value


def _read(command):
    memory = _maps[command["name"]]
    return sum(memory[page * PAGE] for page in command["pages"])


def _read_into(command):
    """The kernel writes, by read(2); or the disk of a file that is read by O_DIRECT."""
    path = command.get("path")
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT) if path else os.open("/dev/zero", os.O_RDONLY)
    n_bytes = PAGE if path else 8
    with memoryview(_maps[command["name"]]) as view:
        for page in command["pages"]:
            os.readv(fd, [view[page * PAGE : page * PAGE + n_bytes]])
            os.lseek(fd, 0, os.SEEK_SET)
    os.close(fd)


def _map(command):
    memory = _make(command["n_pages"], command["kind"], command["path"])
    _maps[command["name"]] = memory
    return _address(memory)


def _resize(command):
    memory = _maps[command["name"]]
    memory.resize(command["n_pages"] * PAGE)
    return _address(memory)


def _discard(command):
    first, n = command["first"] * PAGE, command["n"] * PAGE
    _maps[command["name"]].madvise(mmap.MADV_DONTNEED, first, n)


def _protect(command):
    """As mprotect(2) does, some of it."""
    memory = _maps[command["name"]]
    address = _address(memory) + command["first"] * PAGE
    libc = ctypes.CDLL(None, use_errno=True)
    n_bytes = ctypes.c_size_t(command["n"] * PAGE)
    assert libc.mprotect(ctypes.c_void_p(address), n_bytes, command["protection"]) == 0


def _remap(command):
    """Gone, and something new at the same place."""
    memory = _maps[command["name"]]
    address, fixed = _address(memory), 0x10
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    got = libc.mmap(
        ctypes.c_void_p(address), ctypes.c_size_t(len(memory)), 3,
        mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | fixed, -1, ctypes.c_long(0),
    )  # fmt: skip
    assert got == address


def _fork(command):
    """A child that writes everywhere, and ends."""
    memory = _maps[command["name"]]
    child = os.fork()
    if child == 0:
        _write(memory, range(len(memory) // PAGE))
        os._exit(0)
    os.waitpid(child, 0)


_DEEDS = {
    "map": _map,
    "write": lambda command: _write(_maps[command["name"]], command["pages"]),
    "read": _read,
    "read-into": _read_into,
    "discard": _discard,
    "protect": _protect,
    "resize": _resize,
    "unmap": lambda command: _maps.pop(command["name"]).close(),
    "remap": _remap,
    "fork": _fork,
    "exec": lambda _: os.execv(sys.executable, [sys.executable, "-c", "input()"]),
}


def _main():
    for line in sys.stdin:
        try:
            command = {"name": "m", **json.loads(line)}
            answer = {"value": _DEEDS[command["do"]](command)}
        except Exception as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _main()
