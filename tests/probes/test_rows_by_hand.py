"""The loss of a loop that writes it by hand and divides it by its micro-batches."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.probes.common_script import COMMON, measured
from tests.probes.watched import column, read, run_script

BY_HAND = (
    COMMON
    + """
optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
model.eval()
full = ((model(x) - 1) ** 2).mean().item()
measured["loss"] = []
for step in range(6):
    optimizer.zero_grad()
    # The last one of an epoch has fewer.
    for part in range(4 if step != 4 else 2):
        SCALE
        loss.backward()
    optimizer.step()
measured["loss"].append(full)
save()
"""
)


@pytest.mark.parametrize(
    "scale",
    [
        "loss = ((model(x) - 1) ** 2).mean() / 4",
        "loss = 0.25 * ((model(x) - 1) ** 2).mean()",
        "loss = ((model(x) - 1) ** 2).mean(); loss /= 4",
    ],
)
def test_a_loss_written_by_hand_is_told_from_its_share_of_an_accumulation(scale: str, tmp_path: Path) -> None:
    run_script(BY_HAND.replace("SCALE", scale), tmp_path)
    (full,) = measured(tmp_path)["loss"]
    assert column(read(tmp_path), "loss") == pytest.approx([full] * 6, rel=1e-5)


def test_half_of_a_loss_is_no_accumulation(tmp_path: Path) -> None:
    run_script(BY_HAND.replace("SCALE", "loss = ((model(x) - 1) ** 2).mean() / 2"), tmp_path)
    (full,) = measured(tmp_path)["loss"]
    assert column(read(tmp_path), "loss")[:4] == pytest.approx([full / 2] * 4, rel=1e-5)


@pytest.mark.parametrize(("scale", "factor"), [("1e7", 1e7), ("-1", -1.0)])
def test_a_factor_of_the_loops_own_is_left_as_it_is(scale: str, factor: float, tmp_path: Path) -> None:
    source = BY_HAND.replace("SCALE", f"loss = {scale} * ((model(x) - 1) ** 2).mean()")
    run_script(source, tmp_path)
    (full,) = measured(tmp_path)["loss"]
    assert column(read(tmp_path), "loss") == pytest.approx([factor * full] * 6, rel=1e-5)
    once = tmp_path / "once"
    once.mkdir()
    run_script(source.replace("range(4 if step != 4 else 2)", "range(1)"), once)
    assert column(read(once), "loss") == pytest.approx([factor * full] * 6, rel=1e-5)
