"""Validation passes that meet several criteria, of which the loop makes one loss, or only reports some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forgemon.chunk import Chunk
from forgemon.evaluations import Evaluations
from tests.probes.watched import events, read, run_script

SUM_OF_TWO = """
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
model = torch.nn.Linear(4, 3)
x, y, boxes = torch.randn(64, 4), torch.randint(0, 3, (64,)), torch.randn(64, 3)
data = TensorDataset(x, y, boxes)
train_loader = DataLoader(torch.utils.data.Subset(data, range(48)), batch_size=16)
val_loader = DataLoader(torch.utils.data.Subset(data, range(48, 64)), batch_size=8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
def parts(batch):
    inputs, targets, boxes = batch
    outputs = model(inputs)
    return F.cross_entropy(outputs, targets), F.mse_loss(outputs, boxes)
best = float("inf")
for epoch in range(8):
    for batch in train_loader:
        optimizer.zero_grad()
        one, two = parts(batch)
        (TRAINED).backward()
        optimizer.step()
    with torch.no_grad():
        val_loss = 0.0
        for batch in val_loader:
            one, two = parts(batch)
            val_loss += (-one + 20 * two).item() / 2
    if val_loss < best:
        best = val_loss
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "val_loss": best}, "best.pt")
    model.train()
"""


def results(chunk: Chunk) -> list[Any]:
    return list(dict.fromkeys(event["metric"] for event in events(chunk, "evaluation")))


def test_no_checkpoint_is_judged_by_a_part_of_the_loss(tmp_path: Path) -> None:
    run_script(SUM_OF_TWO.replace("TRAINED", "-one + 20 * two").replace("val_loss", "result"), tmp_path)
    chunk = read(tmp_path)
    assert results(chunk) == [f"{name} (part of the loss)" for name in ("cross_entropy", "mse_loss")]
    assert "best-checkpoint-not-saved" not in [fact["fact"] for fact in events(chunk, "fact")]
    assert {event["metric"] for event in events(chunk, "checkpoint")} == {None}
    evaluations = fed(chunk)
    assert evaluations.best() is None and "only parts" in evaluations.why_no_best


def test_the_whole_loss_of_several_criteria_is_the_number_that_the_loop_keeps_of_it(tmp_path: Path) -> None:
    run_script(SUM_OF_TWO.replace("TRAINED", "-one + 20 * two"), tmp_path)
    judged_by_the_loops_own(read(tmp_path), [f"{name} (part of the loss)" for name in ("cross_entropy", "mse_loss")])


def judged_by_the_loops_own(chunk: Chunk, parts: list[str]) -> None:
    """Whose checkpoints keep `val_loss` as well."""
    assert sorted(results(chunk)) == sorted([*parts, "val_loss"])
    saved = events(chunk, "checkpoint")
    assert {event["metric"] for event in saved} == {"val_loss"}
    assert [event["value"] for event in saved] == [event["scalars"]["val_loss"] for event in saved]
    whole = [event for event in events(chunk, "evaluation") if event["metric"] == "val_loss"]
    assert [event["step"] for event in whole] == [3 * epoch for epoch in range(1, 9)]
    assert {(event["batches"], event["training"], event["grad_enabled"]) for event in whole} == {(2, True, False)}
    best = fed(chunk).best()
    assert best is not None and best.metric == "val_loss" and best.value == min(event["value"] for event in whole)


def fed(chunk: Chunk) -> Evaluations:
    evaluations = Evaluations()
    for event in chunk.events:
        if event["kind"] == "evaluation":
            evaluations.add_evaluation(event)
    return evaluations


def test_the_criterion_that_trains_is_the_validation_loss_whatever_comes_before_it(tmp_path: Path) -> None:
    source = SUM_OF_TWO.replace("one, two = parts(batch)", "two = F.mse_loss(model(batch[0]), batch[2])", 1)
    run_script(source.replace("TRAINED", "two"), tmp_path)
    chunk = read(tmp_path)
    assert results(chunk) == ["cross_entropy", "mse_loss"]
    assert {event["metric"] for event in events(chunk, "checkpoint")} == {"mse_loss"}


def by_hand(trained: str, validated: str) -> str:
    return SUM_OF_TWO.replace("TRAINED", trained).replace("(-one + 20 * two)", f"({validated})").replace(*WITHOUT_BOXES)


WITHOUT_BOXES = "F.mse_loss(outputs, boxes)", "(outputs - boxes).square().mean()"


def test_a_criterion_to_which_more_is_added_by_hand_is_a_part_of_the_loss(tmp_path: Path) -> None:
    run_script(by_hand("-one + 20 * two", "-one + 20 * two"), tmp_path)
    judged_by_the_loops_own(read(tmp_path), ["cross_entropy (part of the loss)"])


def test_a_penalty_that_only_training_adds_makes_no_part_of_the_validation_loss(tmp_path: Path) -> None:
    run_script(by_hand("one + 0.1 * model.weight.square().sum()", "one"), tmp_path)
    chunk = read(tmp_path)
    assert results(chunk) == ["cross_entropy"]
    assert {event["metric"] for event in events(chunk, "checkpoint")} == {"cross_entropy"}


GATHERED = (
    SUM_OF_TWO.replace("(TRAINED)", "(one + 0.1 * model.weight.square().sum())")
    .replace(*WITHOUT_BOXES)
    .replace("val_loss = 0.0", "val_losses = []")
    .replace("val_loss += (-one + 20 * two).item() / 2", "val_losses.append(one.item())")
    .replace("    if val_loss < best:", "    result = sum(val_losses) / 2\n    if result < best:")
    .replace("best = val_loss", "best = result")
)


def test_the_losses_of_batches_in_a_list_say_nothing_of_parts(tmp_path: Path) -> None:
    run_script(GATHERED, tmp_path)
    chunk = read(tmp_path)
    assert results(chunk) == ["cross_entropy"]
    assert {event["metric"] for event in events(chunk, "checkpoint")} == {"cross_entropy"}


def test_a_number_that_was_left_by_another_loop_says_nothing_of_parts_for_long(tmp_path: Path) -> None:
    run_script(GATHERED.replace("val_losses", "losses").replace("best = float", "val_loss = 0.1\nbest = float"), tmp_path)
    found = [event["metric"] for event in events(read(tmp_path), "evaluation")]
    assert found == ["cross_entropy (part of the loss)"] * 2 + ["cross_entropy"] * 6
