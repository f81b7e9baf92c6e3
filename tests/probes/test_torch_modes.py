"""What the program itself makes see the calls of torch (a mode, a device, a class of tensors) sees those of the loop and none of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.probes.watched import column, events, read, run_script

LOOP = """
import collections, torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode
torch.manual_seed(0)
seen = collections.Counter()
class Operations(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        seen[str(function)] += 1
        return function(*args, **(kwargs or {}))
class Functions(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        seen[getattr(function, "__name__", str(function))] += 1
        return function(*args, **(kwargs or {}))
class Samples(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        seen[getattr(function, "__name__", str(function))] += 1
        return super().__torch_function__(function, types, args, kwargs or {})
sees = SEES
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
x, y = torch.randn(64, 8), torch.randint(0, 2, (64,))
train_loader = DataLoader(TensorDataset(x[:48], y[:48]), batch_size=8, shuffle=True)
val_loader = DataLoader(TensorDataset(x[48:], y[48:]), batch_size=8)
of_its_own = Samples if sees is Samples else lambda inputs: inputs
def loop():
    for epoch in range(5):
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            F.cross_entropy(model(of_its_own(inputs)), targets).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        model.eval()
        with torch.no_grad():
            print(sum(F.cross_entropy(model(of_its_own(a)), b).item() for a, b in val_loader))
        model.train()
        torch.save(model.state_dict(), "model.pt")
    model(of_its_own(inputs * float("nan"))).sum().backward()
    optimizer.step()
if sees is Samples:
    loop()
else:
    with sees as used:
        loop()
    if isinstance(used, FlopCounterMode):
        print(used.get_total_flops(), sorted((name, str(count)) for name, count in used.get_flop_counts().items()))
print(sorted(seen.items()))
"""


@pytest.mark.parametrize(
    "sees", ["Operations()", "Functions()", "FlopCounterMode(display=False)", "torch.device('cpu')", "Samples"]
)
def test_what_the_program_has_made_see_torchs_calls_sees_none_of_ours(tmp_path: Path, sees: str) -> None:
    source = LOOP.replace("SEES", sees)
    plain = run_script(source, tmp_path, watched=False)
    watched = run_script(source, tmp_path)
    assert (watched.stdout, watched.stderr) == (plain.stdout, "")
    chunk = read(tmp_path)
    assert np.isfinite(column(chunk, "gradient_norm")[1:-1]).all() and len(chunk.steps) == 31
    assert len(events(chunk, "evaluation")) == 5 and events(chunk, "nonfinite")


INTERRUPTED = """
import signal, sys, torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
session = sys.modules["_forgemon_probe"].session
seen = []
class Functions(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        seen.append(function.__name__)
        return function(*args, **(kwargs or {}))
class Operations(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        seen.append(function.__name__)
        return function(*args, **(kwargs or {}))
class Samples(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        seen.append(function.__name__)
        return super().__torch_function__(function, types, args, kwargs or {})
linear = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(linear.parameters(), lr=0.1)
def step():
    optimizer.zero_grad()
    F.mse_loss(linear(torch.ones(4, 2)), torch.zeros(4, 1)).backward()
    optimizer.step()
step()
def interrupted(*_):
    if not asked:
        asked.append(True)
        signal.raise_signal(signal.SIGINT)
        for _ in range(1000): pass
asked = []
heard = session.probes._heard
heard["criterion"] = (interrupted, *heard["criterion"])
with Functions(), Operations():
    try:
        step()
    except KeyboardInterrupt:
        print("interrupted")
    seen.clear()
    F.relu(torch.ones(1))
    print(seen)
seen.clear()
F.relu(torch.ones(1).as_subclass(Samples))
print(seen)
"""


def test_an_interrupt_in_a_callback_leaves_the_modes_as_they_were(tmp_path: Path) -> None:
    done = run_script(INTERRUPTED, tmp_path)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["interrupted", "['ones', 'ones.default', 'relu', 'relu.default']", "['relu']"]
