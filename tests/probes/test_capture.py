"""While a loop captures a CUDA graph nothing of ours is asked of the GPU, where it would run at every replay. The capture is made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from probes.capture import is_capturing
from tests.probes.common_script import COMMON
from tests.probes.watched import column, events, read, run_script

CAPTURED = (
    COMMON
    + """
guard = sys.modules["_forgemon_probe"].session.guard
captured, called, asked = False, [], []
guard.captures = lambda: captured
norms = sys.modules["_forgemon_probes.steps"].gradient_norms
def counted(parameters):
    asked.append(captured)
    return norms(parameters)
sys.modules["_forgemon_probes.steps"].gradient_norms = counted
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", enabled=False)
def step():
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x[:64]), y[:64])
    scaler.scale(loss).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    scaler.step(optimizer)
    return loss.item()
for round in range(3):
    for _ in range(FREE):
        measured["loss"].append(step())
    captured, before = True, guard.calls
    for _ in range(3):
        step()
    model.eval()
    with torch.no_grad():
        F.cross_entropy(model(x[64:]), y[64:])
    model.train()
    called.append(guard.calls - before)
    captured = False
assert guard.active
print(json.dumps([called, any(asked), len(asked)]))
save()
"""
)


@pytest.mark.parametrize(("free", "budget"), [(6, 0.0), (400, 1e-9)])
def test_nothing_is_looked_at_meanwhile(tmp_path: Path, free: int, budget: float) -> None:
    done = run_script(CAPTURED.replace("FREE", str(free)), tmp_path, budget=budget)
    called, any_asked, asked = json.loads(done.stdout)
    assert called == [0, 0, 0] and not any_asked
    chunk = read(tmp_path)
    assert events(chunk, "fact") == [] and events(chunk, "evaluation") == []
    if budget:
        assert asked >= 32
    else:
        # The first step after a capture was not seen from its beginning.
        assert column(chunk, "step").tolist() == [1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18]
        losses = json.loads((tmp_path / "measured.json").read_text())["loss"]
        expected = [losses[step - 1] for step in column(chunk, "step").tolist()]
        assert column(chunk, "loss").tolist() == pytest.approx(expected, rel=1e-6)


def _fails() -> bool:
    raise torch.AcceleratorError("CUDA driver version is insufficient for CUDA runtime version")


@pytest.mark.parametrize("initialised", [False, True])
def test_what_cuda_answers_with_an_error_is_asked_of_nobody_else(monkeypatch: pytest.MonkeyPatch, initialised: bool) -> None:
    """Without a driver nothing is asked; where it has failed since, we are silent."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: initialised)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", _fails)
    assert is_capturing() is initialised
