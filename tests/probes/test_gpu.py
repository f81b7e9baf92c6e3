"""On a GPU nothing of ours waits for it, and the numbers are the same. Skipped where there is no GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.probes.test_recorded import COMMON, measured
from tests.probes.watched import column, events, read, run_script

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
    assert [e["value"] for e in events(chunk, "evaluation")] == pytest.approx(
        own["val"][: len(events(chunk, "evaluation"))], rel=1e-5
    )
