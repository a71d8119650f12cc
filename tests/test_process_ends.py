"""How the trace of another process ends: by us, by it, or by a kill."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from traced import is_watched

from mempattern.errors import BusyError, ClosedError, ProcessEnded
from mempattern.sources import ProcessWrites

pytestmark = pytest.mark.usefixtures("uffd")


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
