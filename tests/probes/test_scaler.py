"""Under GradScaler: the loss scale, the steps it skipped, and norms that do not carry the scale."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from probes import guard
from probes.scaler import Scaler
from tests.probes.common_script import COMMON, measured
from tests.probes.watched import column, events, read, run_script

SCALED = (
    COMMON
    + """
optimizer = OPTIMIZER
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
measured["scale"] = []
overflows = (2, 7, 8, 9)
for step in range(12):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y) * (float("inf") if step in overflows else 1.0)
    scaler.scale(loss).backward()
    BEFORE
    norms = [p.grad.norm().item() / FACTOR for p in model.parameters()]
    if step not in overflows or KEEPS:
        measured["norms"].append(norms)
        measured["scale"].append(scaler.get_scale())
        measured["total"].append(sum(n * n for n in norms) ** 0.5)
    scaler.step(optimizer)
    scaler.update()
save()
"""
)


@pytest.mark.parametrize("unscaled", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_skipped_steps_and_norms_without_the_scale(fused: bool, unscaled: bool, tmp_path: Path) -> None:
    optimizer = f"torch.optim.AdamW(model.parameters(), lr=0.01, fused={fused})"
    source = SCALED.replace("OPTIMIZER", optimizer).replace("KEEPS", str(fused))
    source = source.replace("BEFORE", "scaler.unscale_(optimizer)" if unscaled else "")
    run_script(source.replace("FACTOR", "1" if unscaled else "scaler.get_scale()"), tmp_path)
    chunk, own = read(tmp_path), measured(tmp_path)
    # A fused optimizer is called at every step, and skips inside: such a row has no finite norm.
    finite = np.isfinite(own["total"])
    assert column(chunk, "gradient_norm")[finite] == pytest.approx(own["total"][finite], rel=1e-5)
    assert finite.sum() == 8 and not np.isfinite(column(chunk, "gradient_norm")[~finite]).any()
    assert column(chunk, "loss_scale").tolist() == own["scale"].tolist()
    skipped = [(event["times_in_a_row"], event["loss_scale"], event["optimizer"]) for event in events(chunk, "skipped")]
    assert skipped == [(1, 1024.0, 0), (1, 512.0, 0), (2, 256.0, 0)]


NEVER = (
    COMMON
    + """
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for step in range(300):
    optimizer.zero_grad()
    scaler.scale(F.cross_entropy(model(x), y) * float("inf")).backward()
    scaler.step(optimizer)
    scaler.update()
"""
)


def test_a_run_in_which_every_step_is_skipped_is_recorded(tmp_path: Path) -> None:
    run_script(NEVER, tmp_path)
    chunk = read(tmp_path)
    assert [event["times_in_a_row"] for event in events(chunk, "skipped")] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert len(chunk.steps) == 0


ASLEEP = (
    COMMON
    + """
import time
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for step in range(400):
    optimizer.zero_grad()
    scaler.scale(F.cross_entropy(model(x), y) * (float("inf") if step == 390 else 1.0)).backward()
    time.sleep(0.002)
    scaler.step(optimizer)
    scaler.update()
disabled = torch.amp.GradScaler("cpu", enabled=False)
for step in range(3):
    optimizer.zero_grad()
    disabled.scale(F.cross_entropy(model(x), y)).backward()
    disabled.step(optimizer)
    disabled.update()
"""
)


def test_a_skip_between_observed_steps(tmp_path: Path) -> None:
    run_script(ASLEEP, tmp_path, budget=0.02)
    chunk = read(tmp_path)
    assert np.isfinite(column(chunk, "gradient_norm")).sum() < 300
    assert [(e["times_in_a_row"], e["step"]) for e in events(chunk, "skipped")] == [(1, 390)]


class Stepped:
    """Stands for an optimizer."""


@pytest.mark.parametrize("found", [[1.0], [0.0, 1.0]])
def test_what_a_fused_kernel_found_is_asked_on_every_device_and_copied(found: list[float]) -> None:
    sent: list[list[torch.Tensor]] = []
    counted: list[tuple[float, float]] = []

    def submit(values: list[torch.Tensor], deliver: Callable[[list[float]], None], rare: bool) -> bool:
        sent.append(values)
        deliver([*found, 8.0])
        return True

    session = SimpleNamespace(
        guard=SimpleNamespace(mode=guard.ASLEEP),
        steps=SimpleNamespace(step=3),
        transfer=SimpleNamespace(submit=submit),
    )
    probe: Any = Scaler(session)  # type: ignore[arg-type]
    probe._count = lambda known, skipped, scale, step: counted.append((skipped, scale))
    known, optimizer = Stepped(), Stepped()
    on_device = {str(number): torch.zeros((), device="meta") for number in range(len(found))}
    scaler = SimpleNamespace(
        _scale=torch.tensor(8.0), _per_optimizer_states={id(optimizer): {"found_inf_per_device": on_device}}
    )
    probe._ask(known, scaler, optimizer)
    kept = probe._skips[known].unasked
    assert not sent and not any(one is other for one in kept for other in on_device.values())
    session.guard.mode = guard.AWAKE
    probe._ask(known, scaler, optimizer)
    assert [len(values) for values in sent] == [len(found) + 1] and probe._skips[known].unasked == []
    assert counted == [(1.0, 8.0)]
