"""The guest program's model, csrc/guest/model.py, which lies beside the program."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "guest_model", Path(__file__).parent.parent / "csrc/guest/model.py"
)
assert _spec is not None
assert _spec.loader is not None
guest_model = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(guest_model)
