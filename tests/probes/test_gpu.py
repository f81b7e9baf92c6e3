"""On a GPU nothing of ours waits for it, and the numbers are the same. Skipped where there is no GPU."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from forgemon.reader import RunReader
from tests.probes.common_script import COMMON, measured
from tests.probes.watched import PROBES, column, events, read, run_script

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

ON_GPU = (
    COMMON
    + """
model.cuda()
x, y = x.cuda(), y.cuda()
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
losses, norms, validation = [], [], []
for epoch in range(3):
    # Any synchronisation inside raises in whoever asks for it: in ours it would be recorded as an error of the probe.
    torch.cuda.set_sync_debug_mode("error" if epoch else "default")
    model.train()
    for _ in range(20):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x[:64]), y[:64])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        losses.append(loss.detach().clone())
        norms.append(torch.stack([p.grad.norm() for p in model.parameters()]))
        optimizer.step()
    model.eval()
    with torch.no_grad():
        validation.append(F.cross_entropy(model(x[64:]), y[64:]))
torch.cuda.set_sync_debug_mode("default")
measured["loss"] = [v.item() for v in losses]
measured["norms"] = [v.tolist() for v in norms]
measured["val"] = [v.item() for v in validation]
torch.save(model.state_dict(), "best.pt")
save()
"""
)


def test_numbers_without_a_synchronisation(tmp_path: Path) -> None:
    run_script(ON_GPU, tmp_path)
    chunk, own = read(tmp_path), measured(tmp_path)  # read() fails on any recorded error of the probe
    assert len(chunk.steps) >= 55  # the last few may still have been on their way when the program ended
    steps = column(chunk, "step")
    assert column(chunk, "loss") == pytest.approx(own["loss"][steps - 1], rel=1e-5)
    (gradients,) = chunk.gradients
    assert gradients.rows["norm"] == pytest.approx(own["norms"][gradients.rows["step"] - 1], rel=1e-4)
    assert np.isfinite(column(chunk, "gradient_norm_before_clip")).all()
    assert [e["value"] for e in events(chunk, "evaluation")] == pytest.approx(own["val"], rel=1e-5)


HERE = Path(__file__).parent
EVERYTHING = (
    (HERE / "everything.py").read_text()
    + (HERE / "faults.py").read_text()
    + """
DEVICE = config["device"]
sync_debug_mode = torch.cuda.set_sync_debug_mode if DEVICE == "cuda" else lambda mode: None

def strict(callback):
    # While it runs, torch raises in whoever waits for the GPU: in ours, which is recorded as an error of the probe.
    @functools.wraps(callback)
    def call(*values, **named):
        sync_debug_mode("error")
        try:
            return callback(*values, **named)
        finally:
            sync_debug_mode("default")
    return call

def make_strict(ours):
    wrap = ours["guard"].Guard.__call__
    def wrapped(self, callback, *, light=None, **others):
        return wrap(self, strict(callback), light=None if light is None else strict(light), **others)
    ours["guard"].Guard.__call__ = wrapped

def fused(x, y):
    # Scaled gradients go into the kernel of the step, which unscales or skips inside.
    model = Net().to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    scaler = torch.amp.GradScaler(DEVICE, init_scale=2.0**24, growth_interval=4)
    for _ in range(24):
        optimizer.zero_grad()
        with torch.autocast(DEVICE, dtype=torch.float16):
            loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    return [model.state_dict(), optimizer.state_dict(), scaler.state_dict()]

def captured(x, y):
    # Numbers of the optimizer's on the device, and steps in a CUDA graph, which only its capture lets us see.
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.01, device=DEVICE), capturable=True)
    def step():
        optimizer.zero_grad(set_to_none=False)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(6):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for _ in range(6):
        graph.replay()
    for _ in range(6):
        step()
    return [model.state_dict(), optimizer.state_dict()]

def loop():
    found = [train(DEVICE)]
    x, y = torch.randn(24, 4).to(DEVICE), (torch.arange(24) % 3).to(DEVICE)
    more = [fused, captured] if DEVICE == "cuda" else []
    return [*found, digest(_on_host([one(x, y) for one in more]))]

ours = load()
make_strict(ours)
expected = loop()
repeats = loop() == expected
session = attach(ours, "run", every_mode=config["every_mode"])
session.guard.rouse = strict(session.guard.rouse)
result = loop()
sync_debug_mode("default")
if DEVICE == "cuda":
    torch.cuda.synchronize()
session.transfer.finish(1.0)
gone(session)
print(json.dumps({"same": result == expected, "repeats": repeats, "unsaid": session.guard.unsaid}))
"""
)


@pytest.mark.parametrize("every_mode", [False, True])
def test_no_callback_of_any_probe_waits_for_the_gpu(tmp_path: Path, every_mode: bool) -> None:
    """A loop that comes by everything a probe looks at; on the CPU test_no_synchronising.py does the same by a simulated device."""
    config = {
        "bootstrap": str(PROBES / "bootstrap.py"),
        "runs": str(tmp_path / "runs"),
        "device": "cuda",
        "every_mode": every_mode,
    }
    found = json.loads(run_script(EVERYTHING, tmp_path, json.dumps(config), watched=False, timeout_s=280).stdout)
    assert found["unsaid"] == 0
    assert found["same"] and found["repeats"]
    chunk = RunReader(tmp_path / "runs" / "run").read(max_rows=1_000_000)
    errors = events(chunk, "probe_error")
    assert errors == [], errors
    assert len(chunk.steps) > 30
    if not every_mode:
        facts = {event["fact"] for event in events(chunk, "fact")}
        assert {"clip-scaled-gradients", "eval-in-train-mode", "eval-with-grad", "val-uses-train-data"} <= facts
        assert events(chunk, "nonfinite") and events(chunk, "evaluation") and events(chunk, "checkpoint")
        assert sum(len(norms.rows) for norms in chunk.updates) > 20
        assert events(chunk, "skipped") and chunk.memory is not None
