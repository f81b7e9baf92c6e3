"""Two lines in the program's own code record the same run directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from forgemon.reader import RunReader
from tests.probes.watched import events
from tests.waiting import wait_for

SCRIPT = """
from probes import watch
run = watch()
import torch
torch.set_num_threads(1)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(20):
    optimizer.zero_grad()
    model(torch.ones(2, 4)).pow(2).mean().backward()
    optimizer.step()
assert watch() == run
print(run)
input()
"""


def test_watch_records_from_the_first_step_and_starts_the_sidecar(tmp_path: Path) -> None:
    script = tmp_path / "own_code.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "FORGEMON_RUNS": str(tmp_path / "runs")},
    )
    assert process.stdout is not None
    run = Path(process.stdout.readline().strip())
    machine = run / "machine.jsonl"
    wait_for(lambda: machine.exists() and "started" in machine.read_text(), "the sidecar")
    process.communicate("\n", timeout=60)
    assert process.returncode == 0
    chunk = RunReader(run).read(max_rows=1000)
    assert chunk.steps["step"].tolist() == list(range(1, 21))
    assert run.parent == tmp_path / "runs" and run.name.startswith("own_code-")
    assert json.loads((run / "run.json").read_text())["mode"] == "api"
    assert events(chunk, "attached")[0]["mode"] == "api" and not events(chunk, "probe_error")
    wait_for(lambda: "finished" in machine.read_text(), "the sidecar to see the end")


def test_a_module_of_the_programs_own_called_probes_is_no_obstacle(tmp_path: Path) -> None:
    """Attach and run load ours under a private name."""
    from tests.probes.watched import read, run_script

    (tmp_path / "probes.py").write_text("answer = 42\n")
    source = SCRIPT.replace("from probes import watch\nrun = watch()", "import probes\nassert probes.answer == 42").split(
        "assert watch"
    )[0]
    run_script("import sys\nsys.path.insert(0, '.')\n" + source, tmp_path)
    assert len(read(tmp_path).steps) == 20
