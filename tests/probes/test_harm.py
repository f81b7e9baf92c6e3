"""A watched process ends as an unwatched one, whatever happens to us in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.probes.watched import events, read, run_fresh

TRAINING = """
import hashlib, io, json, os, random, sys, torch
import numpy as np
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0); random.seed(0)
x, y = torch.randn(128, 1, 8, 8), torch.randint(0, 3, (128,))
train_loader = DataLoader(TensorDataset(x[:96], y[:96]), batch_size=16, shuffle=True, num_workers=WORKERS)
val_loader = DataLoader(TensorDataset(x[96:], y[96:]), batch_size=16)
MODEL
OPTIMIZER
def digest(*objects):
    buffer = io.BytesIO()
    torch.save(objects, buffer)
    return hashlib.sha256(buffer.getvalue()).hexdigest()
def between(step):
    pass
BETWEEN
step = 0
for epoch in range(4):
    model.train()
    for inputs, targets in train_loader:
        def closure():
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            return loss
        if isinstance(optimizer, torch.optim.LBFGS):
            loss = optimizer.step(closure)
        else:
            loss = closure()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        step += 1
        between(step)
    model.eval()
    with torch.no_grad():
        val = sum(F.cross_entropy(model(a), b).item() for a, b in val_loader)
    print(f"epoch {epoch} loss {loss.item()!r} val {val!r}")
state = {k: v for k, v in model.state_dict().items()}
print(digest(list(state.items())), digest(optimizer.state_dict()))
print(digest(torch.get_rng_state()), random.getstate()[1][:3])
"""

MODELS = {
    "mlp": "model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.BatchNorm1d(32), torch.nn.ReLU(), "
    "torch.nn.Dropout(0.2), torch.nn.Linear(32, 3))",
    "cnn": "model = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Flatten(), "
    "torch.nn.Linear(288, 3))",
    "transformer": """
class Transformer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Linear(8, 16)
        self.layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = torch.nn.Linear(16, 3)
    def forward(self, x):
        return self.head(self.layer(self.embed(x.squeeze(1))).mean(1))
model = Transformer()
""",
}
OPTIMIZERS = {
    "sgd": "optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)",
    "adamw": "optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)",
    "lbfgs": "optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)",
}


def script(model: str, optimizer: str, workers: int = 0, between: str = "") -> str:
    return (
        TRAINING.replace("MODEL", MODELS[model], 1)
        .replace("OPTIMIZER", OPTIMIZERS[optimizer], 1)
        .replace("WORKERS", str(workers))
        .replace("BETWEEN", between)
    )


@pytest.mark.parametrize(
    ("model", "optimizer", "workers"),
    [("mlp", "adamw", 2), ("cnn", "sgd", 0), ("transformer", "adamw", 0), ("mlp", "lbfgs", 0)],
)
def test_weights_optimizer_state_random_states_and_output_are_bit_identical(
    tmp_path: Path, model: str, optimizer: str, workers: int
) -> None:
    source = script(model, optimizer, workers)
    plain = run_fresh(source, tmp_path, watched=False)
    watched = run_fresh(source, tmp_path)
    assert watched.stdout == plain.stdout
    assert watched.stderr == plain.stderr
    chunk = read(tmp_path)
    assert len(chunk.steps) == 24
    assert not events(chunk, "fact")


INSIDE_A_STEP = (
    script("mlp", "adamw")
    + """
session = sys.modules["_forgemon_probe"].session
order = []
def leave(*_):
    session.leave("inside a step")
    order.append(session.active)
optimizer.register_step_pre_hook(leave)
optimizer.register_step_pre_hook(lambda *_: order.append("next hook"))
optimizer.register_step_post_hook(lambda *_: order.append(session.active))
optimizer.step()
assert order == [True, "next hook", False], order
print("no harm")
"""
)


def test_a_detach_that_falls_inside_a_step_waits_for_its_hooks(tmp_path: Path) -> None:
    assert run_fresh(INSIDE_A_STEP, tmp_path).stdout.endswith("no harm\n")


FAILING_PROBE = """
import sys
sessions = sys.modules["_forgemon_probe"].session
def broken(*_):
    raise ZeroDivisionError("a bug of ours")
sessions.loop.PLACE = broken
""" + script("mlp", "adamw")


@pytest.mark.parametrize(
    "place", ["fetch_ended", "forward_began", "criterion", "backward_began", "backward_ended", "new_window"]
)
def test_an_error_of_ours_reaches_nobody_and_the_probe_leaves(tmp_path: Path, place: str) -> None:
    plain = run_fresh(script("mlp", "adamw"), tmp_path, watched=False)
    done = run_fresh(FAILING_PROBE.replace("PLACE", place), tmp_path)
    assert (done.stdout, done.stderr) == (plain.stdout, plain.stderr)
    from forgemon.reader import RunReader

    chunk = RunReader(tmp_path / "run").read(max_rows=100_000)
    errors = events(chunk, "probe_error")
    assert errors and "ZeroDivisionError: a bug of ours" in errors[0]["error"]
    assert events(chunk, "detached")


ALARM = (
    script("mlp", "sgd")
    + """
import signal
class TooLate(Exception): pass
def handler(*_): raise TooLate()
signal.signal(signal.SIGALRM, handler)
session = sys.modules["_forgemon_probe"].session
def slow(*_):
    signal.raise_signal(signal.SIGALRM)
    for _ in range(1000): pass
session.loop.backward_began = slow
try:
    F.cross_entropy(model(x), y).backward()
except TooLate:
    print("in time")
"""
)


def test_an_exception_of_the_users_signal_handler_inside_our_code_is_theirs(tmp_path: Path) -> None:
    assert run_fresh(ALARM, tmp_path).stdout.endswith("in time\n")


COMPILED = """
import sys, torch, torch._dynamo
import torch.nn.functional as F
torch.manual_seed(0)
if "_forgemon_probe" in sys.modules:  # as where torch is built for CUDA
    guard = sys.modules["_forgemon_probe"].session.guard
    guard.captures = sys.modules["_forgemon_probes.capture"].is_capturing
x, y = torch.randn(64, 8), torch.randint(0, 3, (64,))
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
net = torch.compile(model, fullgraph=True, backend="aot_eager")
@torch.compile(fullgraph=True, backend="aot_eager")
def loss_of(inputs, targets):
    return F.cross_entropy(model(inputs), targets)
step = torch.compile(optimizer.step, backend="aot_eager")
frames = torch._dynamo.convert_frame.input_codes.seen
for number in range(5):
    for loss in (lambda: F.cross_entropy(net(x), y), lambda: loss_of(x, y)):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step() if number < 3 else step()
        print(value.item(), len(frames) if number < 3 else "")  # hooks of anyone's change what of a step is one graph
@torch.jit.script
def scripted(inputs, targets):
    return F.cross_entropy(inputs, targets)
print(scripted(model(x), y).item())
looked_at = [code() for code in frames]
print([code.co_name for code in looked_at if code is not None and "/probes/" in code.co_filename])
"""


def test_compiled_models_losses_and_steps_and_scripting_go_on_as_before(tmp_path: Path) -> None:
    plain = run_fresh(COMPILED, tmp_path, watched=False)
    watched = run_fresh(COMPILED, tmp_path)
    assert watched.stdout == plain.stdout
    assert "Warning" not in watched.stderr and "Traceback" not in watched.stderr
    assert len(read(tmp_path).steps) == 10
