"""Who may load what, seen in fresh interpreters: import-linter reads the source, these tests look at sys.modules."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LIST = "import sys, json; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"


def loaded_by(statement: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", f"{statement}\n{LIST}"], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", ["probes", "probes.record"])
def test_the_run_directory_loads_no_torch_and_no_numpy(module: str) -> None:
    assert not loaded_by(f"import {module}") & {"torch", "numpy", "psutil", "textual"}


def test_the_probes_load_torch_and_the_standard_library_alone() -> None:
    with_torch = loaded_by("import torch, torch.utils.data")
    ours = loaded_by("import torch, torch.utils.data, probes.session, probes.api")
    third_party = {name for name in ours - with_torch if name not in sys.stdlib_module_names}
    assert third_party == {"probes"}


@pytest.mark.parametrize(
    "module",
    [
        "forgemon.cli",
        "forgemon.tui.app",
        "forgemon.diagnosis",
        "forgemon.sidecar",
        "forgemon.commands.attach",
        "forgemon.launch",
    ],
)
def test_the_viewer_never_loads_torch(module: str) -> None:
    assert "torch" not in loaded_by(f"import {module}")


@pytest.mark.parametrize("module", ["forgemon.diagnosis", "forgemon.telemetry", "forgemon.reader", "forgemon.inject"])
def test_the_core_works_without_the_screen(module: str) -> None:
    assert not loaded_by(f"import {module}") & {"textual", "rich"}


def test_the_contract_on_the_probes_names_every_module() -> None:
    tomllib = pytest.importorskip("tomllib")
    root = Path(__file__).parents[1]
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (forbidden,) = [c["forbidden_modules"] for c in contracts if c["name"].startswith("of the probes the viewer takes")]
    modules = {f"probes.{file.stem}" for file in (root / "probes").glob("*.py")} - {
        "probes.__init__",
        "probes.record",
        "probes.table",
    }
    assert set(forbidden) == modules
