"""Nothing of ours grows in the watched process, however long it trains and however much it makes anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from probes.record import MOST_TABLES
from tests.probes.watched import events, read, run_script

SIZES = (Path(__file__).parent / "sizes.py").read_text()

MEASURED = """
import json, sys, torch
session = sys.modules["_forgemon_probe"].session
def measure():
    session.writer.flush(30)
    objects = alive()
    return {"containers": containers(session), "objects": objects, "files": open_files(), "resident": resident_bytes()}
def both(work, times):
    # What is alive after `times` of it, and after as many again.
    found = []
    measure()  # looking at an object gives it a dictionary of its own
    for _ in range(2):
        work(times)
        found.append(measure())
    print(json.dumps({"before": found[0], "after": found[1], "looks": session.looks._count}))
"""

STEPS = (
    SIZES
    + MEASURED
    + """
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
x, y = torch.randn(4, 2), torch.randn(4, 1)
def train(steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
both(train, int(sys.argv[1]))
"""
)


def grown(found: dict[str, Any], what: str) -> dict[str, int]:
    before, after = found["before"][what], found["after"][what]
    return {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}


@pytest.mark.parametrize(("budget", "steps"), [(0.01, 50_000), (0.0, 4_000)])
def test_no_step_leaves_anything_behind(tmp_path: Path, budget: float, steps: int) -> None:
    """As many steps again add no item to a container, no object, no file, and less than 64 bytes a step in all."""
    found = json.loads(run_script(STEPS, tmp_path, str(steps), budget=budget, timeout_s=280).stdout)
    assert sum(grown(found, "containers").values()) <= 16
    assert sum(grown(found, "objects").values()) <= 64
    assert found["after"]["files"] == found["before"]["files"]
    assert found["after"]["resident"] - found["before"]["resident"] < max(64 * steps, 2_000_000)
    assert read(tmp_path).steps["step"][-1] > 2 * steps - 2000


MAKES_ANEW = (
    SIZES
    + MEASURED
    + """
import io, os, types
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset
LOWER
LOOKS
class Run:
    def log(self, data): pass
sys.modules["wandb.sdk.wandb_run"] = types.ModuleType("wandb.sdk.wandb_run")
sys.modules["wandb.sdk.wandb_run"].Run = Run
data = TensorDataset(torch.randn(16, 2), torch.randint(0, 2, (16,)))
steady = torch.nn.Linear(2, 2)
steady_optimizer = torch.optim.SGD(steady.parameters(), lr=0.01)
other = torch.nn.Linear(2, 2)
rounds = 0

def new_model():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(2, 2)
        def forward(self, inputs):
            super().extra_repr()  # so that the function keeps its class alive
            return self.inner(inputs)
    return Net() if rounds % 2 else torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2), torch.nn.Dropout(0.1))

def new_optimizer(parameters):
    kinds = [torch.optim.Adam, torch.optim.SGD, lambda p: torch.optim.LBFGS(p, max_iter=2)]
    return kinds[rounds % 3](parameters)

def train_anew():
    model = new_model()
    optimizer = new_optimizer(list(model.parameters()))
    loader = DataLoader(Subset(data, range(rounds % 4, 16)), batch_size=4 + rounds % 5, shuffle=True, drop_last=True)
    for number, (inputs, targets) in enumerate(loader):
        def closure():
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs) + other(inputs), targets) * (float("nan") if rounds % 7 == 6 and number == 2 else 1)
            loss.backward()
            return loss
        optimizer.step(closure)
    steady_optimizer.step()
    model.eval()
    with torch.no_grad():
        for size in (8, 4, 2):
            for inputs, targets in DataLoader(data, batch_size=size):
                F.cross_entropy(model(inputs), targets)
    return model

def in_a_cell():
    source = f'''def train_{rounds}():
    loss_{rounds} = F.cross_entropy(steady(x), y)
    loss_{rounds}.backward()
    kept_{rounds} = loss_{rounds}.item()
    steady_optimizer.step()
    steady_optimizer.zero_grad()
'''
    names = {"F": F, "steady": steady, "x": data.tensors[0], "y": data.tensors[1], "steady_optimizer": steady_optimizer}
    exec(compile(source, f"/nowhere/cell_{rounds}.py", "exec"), names)
    names[f"train_{rounds}"]()

def log_and_save(model):
    Run().log({f"loss/{rounds}": 0.5, "accuracy": rounds, f"val_loss_{rounds}": 0.25})
    torch.save({"model": model.state_dict(), "epoch": rounds}, f"{rounds}.pt")
    torch.save(model.state_dict(), io.BytesIO())
    os.remove(f"{rounds}.pt")
    model.load_state_dict(model.state_dict())

def work(times):
    global rounds
    for _ in range(times):
        model = train_anew()
        in_a_cell()
        log_and_save(model)
        rounds += 1
both(work, ROUNDS)
"""
)
ROUNDS = 120
LOWER = {
    # module: its bounds, which are too high to be reached here
    "saved_files": {"MOST_FILES": 40, "MOST_RESULTS": 40, "MOST_EXCUSED": 40, "MOST_STEPS": 20},
    "series": {"MOST_NAMES": 60, "MOST_OF_ONE_SOURCE": 50},
    "where": {"MOST_FILES": 20},
    "kept": {"MOST_SCOPES": 20, "MOST_NAMES": 20},
    "facts": {"MOST_FACTS": 20},
    "loader_facts": {"MOST_PAIRS": 40},
    "loaders": {"MOST_LOADERS": 16},
    "training_data": {"MOST_LOADERS": 16},
    "fingerprints": {"MOST_STEPS": 20},
}


EVERY_LOOK = """
sys.modules["_forgemon_probes.looks"].FREE = 10_000
gc.freeze()  # so that each goes through what the loop makes alone
"""


@pytest.mark.parametrize("looks", ["", EVERY_LOOK], ids=["rationed looks", "a look each time"])
def test_a_loop_that_makes_everything_anew_fills_no_container(tmp_path: Path, looks: str) -> None:
    """Models, their classes, optimizers, loaders, closures, names of numbers, files of code and checkpoints: 240 of each."""
    lower = "".join(
        f"assert hasattr(sys.modules['_forgemon_probes.{module}'], '{name}')\n"
        f"sys.modules['_forgemon_probes.{module}'].{name} = {value}\n"
        for module, bounds in LOWER.items()
        for name, value in bounds.items()
    )
    source = MAKES_ANEW.replace("ROUNDS", str(ROUNDS)).replace("LOWER", lower).replace("LOOKS", looks)
    found = json.loads(run_script(source, tmp_path, timeout_s=280).stdout)
    containers, objects = grown(found, "containers"), grown(found, "objects")
    # A container that is emptied when it is full may be nearer to it than before; one that is never emptied has one more a round.
    assert all(count <= ROUNDS // 2 for name, count in containers.items() if not name.endswith("[]")), containers
    assert sum(containers.values()) <= 4 * ROUNDS, containers
    assert sum(objects.values()) <= 400, objects
    assert found["after"]["files"] - found["before"]["files"] <= 1
    assert found["after"]["files"] < 40
    assert found["after"]["resident"] - found["before"]["resident"] < 8_000_000
    chunk = read(tmp_path)
    assert len(events(chunk, "optimizer")) > 240
    assert found["looks"] > 50 if looks else found["looks"] <= 15
    assert len(chunk.gradients) == MOST_TABLES
    assert events(chunk, "dropped")  # the rows for which there was no table


LETS_GO = """
import gc, sys, torch, weakref
session = sys.modules["_forgemon_probe"].session
def train():
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(50):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(torch.randn(4, 2)), torch.randn(4, 1)).backward()
        optimizer.step()
    return [weakref.ref(thing) for thing in (model, model.weight, model.weight.grad, optimizer)]
kept = train()
gc.collect()
print([reference() for reference in kept])
"""


@pytest.mark.parametrize("budget", [0.0, 0.01])
def test_a_model_that_the_program_is_done_with_is_freed(tmp_path: Path, budget: float) -> None:
    assert run_script(LETS_GO, tmp_path, budget=budget).stdout == "[None, None, None, None]\n"
    assert len(read(tmp_path).steps) >= 30
