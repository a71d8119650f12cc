"""What `--json` prints: as its schema and the documents say, and as kept in golden/.

MEMPATTERN_GOLDEN=write    keep anew what is printed now; read the diff before you commit it
"""

import json
import os
import re
from importlib import resources
from pathlib import Path

import pytest
from fake_qmp import FakeQemu, completed
from jsonschema import Draft202012Validator
from scripted import Scripted, use
from test_doctor import checks
from test_migrate_command import LATE

from mempattern.cli import demo, doctor, trace
from mempattern.cli.main import main

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"
GUEST, SAMPLE = str(ROOT / "docs/guest.mpt"), str(ROOT / "src/mempattern/sample/demo.mpt")
SCHEMAS = {
    schema["title"]: schema
    for path in (resources.files("mempattern") / "schemas").iterdir()
    for schema in [json.loads(path.read_text())]
}
LINK = ["--bandwidth", "100Mbit,1Gbit", "--max-downtime", "1s"]

OF_THE_MACHINE = ("kernel", "stats_bytes", "pid", "ns", "advice", "trace")
"""Values that differ from one to another, and paths."""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(demo, "_LONGEST_PAUSE_S", 0.0)


def closed(schema):
    """The schema, of which nothing but what it names may be there: for us, who wrote it."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema and schema.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found


def masked(value, *, is_live, key=""):
    """Without what differs from run to run: of a live one all that is measured, else the digits
    that other versions of NumPy would round otherwise.
    """
    if isinstance(value, dict):
        return {name: masked(one, is_live=is_live, key=name) for name, one in value.items()}
    if isinstance(value, list):
        return [masked(one, is_live=is_live, key=key) for one in value]
    if key in OF_THE_MACHINE or (is_live and (isinstance(value, float) or key == "sentence")):
        return type(value).__name__
    return float(f"{value:.4g}") if isinstance(value, float) else value


RECORDED = {
    "demo": ["demo", "--replay", SAMPLE, "--json"],
    "report": ["report", GUEST, "--json"],
    "predict": ["predict", GUEST, "--json", *LINK],
    "replay": ["replay", GUEST, "--json", "--policy", "stock,best", *LINK],
    "doctor": ["doctor", "7", "--json"],
}


def run(name, monkeypatch, tmp_path):
    """The command of that name, in process; all of them end well."""
    monkeypatch.setattr(doctor, "probe", lambda pid: checks(True, False))
    if name in RECORDED:
        return main(RECORDED[name])
    if name == "trace":
        use(Scripted(5), monkeypatch)
        return trace.main(["--json", "--interval", "0.01", str(os.getpid())])
    path = str(tmp_path / "qmp")
    with FakeQemu(*LATE, completed(4.5, 380)).in_thread(path):
        return main(["migrate", "--qmp", path, "--to", "tcp:there:1", "--max-downtime", "1s",
                     "--no-trace", "--policy", "relaxed", "--json"])  # fmt: skip


@pytest.mark.parametrize("name", [*RECORDED, "trace", "migrate"])
def test_what_is_printed_is_as_its_schema_and_as_kept(name, monkeypatch, tmp_path, capsys):
    assert run(name, monkeypatch, tmp_path) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for line in lines:
        Draft202012Validator(closed(SCHEMAS[line["schema"]])).validate(line)
    kept = lines if len(lines) < 10 else [*lines[:2], lines[-1]]
    is_live = name in ("trace", "migrate")
    said = "".join(json.dumps(masked(line, is_live=is_live)) + "\n" for line in kept)
    golden = GOLDEN / f"{name}.jsonl"
    if os.environ.get("MEMPATTERN_GOLDEN") == "write":
        golden.write_text(said)
    assert said == golden.read_text()


def test_every_schema_is_one_and_is_printed_by_a_command():
    """Its file is named as what it describes, and some golden file has it."""
    kept = "".join(path.read_text() for path in GOLDEN.glob("*.jsonl"))
    for name, schema in SCHEMAS.items():
        Draft202012Validator.check_schema(schema)
        file = name.removeprefix("mempattern.").replace("/", "-") + ".json"
        assert (resources.files("mempattern") / "schemas" / file).is_file()
        assert f'"schema": "{name}"' in kept
        assert f'"{name}"' in (ROOT / "docs/json.md").read_text()


def keys(schema):
    if isinstance(schema, list):
        return set().union(*map(keys, schema))
    if not isinstance(schema, dict):
        return set()
    named = set(schema.get("properties", ()))
    return named.union(*map(keys, schema.values()))


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_key_is_documented(name):
    pages = ("json", "trace-command", "predict", "replay", "migrate")
    text = "".join((ROOT / f"docs/{page}.md").read_text() for page in pages)
    explained = set(re.findall(r"`(\w+)`", text))
    of_qmp = {"execute", "arguments"}
    assert not keys(SCHEMAS[name]) - explained - of_qmp


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"dirty_pages": -1}, "dirty_pages"),
        ({"duration_s": None}, "duration_s"),
        ({"regions": [{"name": "heap"}]}, "regions"),
        ({"schema": "mempattern.interval/2"}, "schema"),
    ],
)
def test_a_schema_refuses_what_is_wrong(change, where):
    line = json.loads((GOLDEN / "report.jsonl").read_text().splitlines()[0])
    schema = Draft202012Validator(SCHEMAS["mempattern.interval/1"])
    assert not list(schema.iter_errors(line | {"of a later version": 1}))
    errors = list(schema.iter_errors(line | change))
    assert errors
    assert all(error.absolute_path[0] == where for error in errors)
