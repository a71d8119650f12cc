"""What holds of every policy, and what the document shows of them."""

import re
from pathlib import Path

import numpy as np
import pytest
from migrations import BANDWIDTH, BARE, LIMIT_PAGES, LIMIT_S, PAGES
from paged_memory import PagedMemory

from mempattern.migration.precopy import precopy
from mempattern.migration.registry import POLICIES

DOCUMENT = Path(__file__).parent.parent / "docs/policies.md"


@pytest.mark.parametrize("name", [name for name, make in POLICIES.items() if make is not None])
@pytest.mark.parametrize("share", [0.0, 0.5, 2.0, 6.0])
def test_any_policy_steers_any_guest(name, share):
    """To an end within its patience, and the same way again; an idle guest is moved by all."""
    writes = np.arange(PAGES) < share * LIMIT_PAGES

    def migrate():
        memory = PagedMemory(PAGES, lambda start_s, end_s: writes)
        return precopy(
            memory, BANDWIDTH, LIMIT_S, policy=POLICIES[name](), ceiling_s=1.0, host=BARE,
            patience_s=60,
        )  # fmt: skip

    course = migrate()
    assert course == migrate()
    assert course.total_s < 63
    if not writes.any():
        assert course.converged
        assert course.sent_bytes == PAGES * 4104


def test_each_is_in_the_table():
    names = re.findall(r"^\| `(.+?)` \|", DOCUMENT.read_text(), re.MULTILINE)
    assert len(set(names)) == len(names)
    assert set(POLICIES) <= set(names)


def test_the_examples_print_what_they_promise(capsys, monkeypatch):
    monkeypatch.chdir(DOCUMENT.parent.parent)
    space = {}
    promised = []
    for code in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL):
        exec(compile(code, str(DOCUMENT), "exec"), space)
        promised += re.findall(r"^print\(.*\)\n# (.+)$", code, re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == promised != []
