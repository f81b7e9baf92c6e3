"""Numbers that come later than what is made of them, as a GPU's do: here from the CPU, held back until something asks for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.probes.common_script import COMMON
from tests.probes.watched import column, events, read, run_script

LATE = """
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
transfer = sys.modules["_forgemon_probes.transfer"]
class Copy:
    asked = 0
    def query(self):
        self.asked += 1
        return self.asked > LATER
def submit(self, scalars, deliver, rare=False):
    values = transfer._read_now(scalars)
    part = transfer.Part(Copy(), torch.tensor(values, dtype=torch.float64), list(range(len(values))))
    self._waiting.append(([part] if rare or not LATER else [], deliver, list(values)))
    return True
transfer.Transfer.submit = submit
transfer.is_capturing = lambda: False
evaluations = sys.modules["_forgemon_probes.evaluations"].EvaluationPass
evaluations.deliver = lambda self, transfer, done: transfer.submit(
    [torch.tensor(self._host_sum / self.items)], lambda values: done(values[0]), rare=True)
"""


def test_the_loss_scale_is_that_of_its_step(tmp_path: Path) -> None:
    source = f"""{COMMON}{LATE.replace("LATER", "0")}
scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
for _ in range(6):
    optimizer.zero_grad()
    scaler.scale(F.cross_entropy(model(x), y)).backward()
    scaler.step(optimizer)
    scaler.update()
"""
    run_script(source, tmp_path)
    assert column(read(tmp_path), "loss_scale").tolist() == [8, 8, 16, 16, 32, 32]


EPOCHS = """for epoch in range(3):
    for _ in range(4):
        optimizer.zero_grad()
        F.cross_entropy(model(x[:64]), y[:64]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for start in (64, 80):
            F.cross_entropy(model(x[start:start + 16]), y[start:start + 16])
"""


@pytest.mark.parametrize(
    "save", ["torch.save(model.state_dict(), 'best.pt')", "save_file(model.state_dict(), 'best.safetensors')"]
)
def test_a_checkpoint_knows_the_pass_before_it(tmp_path: Path, save: str) -> None:
    source = f"""{COMMON}
from safetensors.torch import save_file
{LATE.replace("LATER", "0")}
{EPOCHS}    {save}
    model.train()
"""
    run_script(source, tmp_path)
    chunk = read(tmp_path)
    kinds = [event["kind"] for event in chunk.events if event["kind"] in ("evaluation", "checkpoint")]
    assert kinds == ["evaluation", "checkpoint"] * 3
    results = [(event["metric"], event["value"], event["step"]) for event in events(chunk, "evaluation")]
    stood = [(event["metric"], event["value"], event["evaluation_step"]) for event in events(chunk, "checkpoint")]
    assert stood == results


def test_what_a_save_waits_for_is_there_when_it_has_ended(tmp_path: Path) -> None:
    source = f"""{COMMON}{LATE.replace("LATER", "0")}
class Waits:
    # To write what is on a GPU is to wait for all that was asked of it before.
    def __reduce__(self):
        Copy.arrived = list(under_way)
        return str, ()
under_way = []
Copy.arrived = []
Copy.query = lambda self: self in Copy.arrived
Copy.__init__ = lambda self: under_way.append(self)
{EPOCHS}    torch.save({{"model": model.state_dict(), "waits": Waits()}}, "best.pt")
    model.train()
"""
    run_script(source, tmp_path)
    chunk = read(tmp_path)
    stood = [(event["metric"], event["evaluation_step"]) for event in events(chunk, "checkpoint")]
    assert stood == [("cross_entropy", 4), ("cross_entropy", 8), ("cross_entropy", 12)]


def test_passes_are_told_apart_however_late_their_results_come(tmp_path: Path) -> None:
    source = f"""{COMMON}{LATE.replace("LATER", "1")}
loaders = [DataLoader(TensorDataset(x[part], y[part]), batch_size=8) for part in (slice(64, 80), slice(80, 96))]
for epoch in range(2):
    for _ in range(6):
        model.train()
        optimizer.zero_grad()
        F.cross_entropy(model(x[:64]), y[:64]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for loader in loaders:
            for inputs, targets in loader:
                F.cross_entropy(model(inputs), targets)
"""
    run_script(source, tmp_path)
    found = events(read(tmp_path), "evaluation")
    assert [(event["metric"], event["step"]) for event in found] == [
        ("cross_entropy", 6),
        ("cross_entropy #2", 6),
        ("cross_entropy", 12),
        ("cross_entropy #2", 12),
    ]
