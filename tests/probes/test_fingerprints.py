"""Weights that were kept in memory and saved later are known again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.probes.checkpoint_loops import checkpoint_facts

KEPT_IN_MEMORY = """
for epoch in range(6):
    train()
    loss = validate()
    if loss < best:
        best, state = loss, COPY
LAST
"""
COPIES = {
    "deepcopy": ("copy.deepcopy(model.state_dict())", 'torch.save(state, "best.pt")'),
    "clones": ("{k: v.detach().clone() for k, v in model.state_dict().items()}", 'torch.save({"model": state}, "best.pt")'),
    "the model": ("copy.deepcopy(model)", 'torch.save(state.state_dict(), "best.pt")'),
    "loaded": ("copy.deepcopy(model.state_dict())", 'model.load_state_dict(state); torch.save(model.state_dict(), "best.pt")'),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_the_best_weights_is_known_when_it_is_saved_at_the_end(tmp_path: Path, how: str) -> None:
    kept, last = COPIES[how]
    (saved,), facts = checkpoint_facts(tmp_path, KEPT_IN_MEMORY.replace("COPY", kept).replace("LAST", last))
    assert (saved["step"], saved["holds_step"]) == (18, 9)
    assert [fact for fact in facts if fact["fact"] == "best-checkpoint-not-saved"] == []


def test_a_copy_from_before_the_first_step(tmp_path: Path) -> None:
    body = "validate(); state = copy.deepcopy(model.state_dict()); train(); torch.save(state, 'x.pt')"
    (saved,), _ = checkpoint_facts(tmp_path, body)
    assert (saved["step"], saved["holds_step"]) == (3, 0)


def test_a_copy_that_no_pass_looked_at_is_of_nobody_knows_which_step(tmp_path: Path) -> None:
    copied = "copy.deepcopy(model.state_dict()); train()"
    (saved,), _ = checkpoint_facts(tmp_path, "train(); validate(); train(); state = " + copied + "; torch.save(state, 'x.pt')")
    assert (saved["step"], saved["holds_step"]) == (9, None)


def test_what_was_trained_before_and_is_frozen_says_nothing_of_the_step(tmp_path: Path) -> None:
    """An adapter that is trained beside frozen weights and merged into some of them."""
    adapted = """
train(); validate()
for p in model.parameters(): p.requires_grad_(False)
model.adapter = torch.nn.Linear(4, 4)
added = torch.optim.SGD(model.adapter.parameters(), lr=0.1)
for _ in range(3): model.adapter(torch.ones(2, 4)).sum().backward(); added.step()
validate()
state = copy.deepcopy(model.adapter.state_dict())
model.adapter.load_state_dict(state)
model.load_state_dict(model.state_dict())
del model.adapter
torch.save(model.state_dict(), "merged.pt")
"""
    (saved,), _ = checkpoint_facts(tmp_path, adapted)
    assert saved["holds_step"] is None


@pytest.mark.parametrize(("wrapped", "holds"), [("AveragedModel(model)", None), ("torch.nn.DataParallel(model)", 6)])
def test_an_average_of_the_weights_is_of_no_step(tmp_path: Path, wrapped: str, holds: int | None) -> None:
    average = "getattr(wrapped, 'update_parameters', lambda model: None)(model)\n"
    body = f"from torch.optim.swa_utils import AveragedModel\nwrapped = {wrapped}\n"
    body += f"train(); validate()\n{average}train(); validate()\n{average}"
    (saved,), _ = checkpoint_facts(tmp_path, body + "torch.save(wrapped.state_dict(), 'x.pt')")
    assert saved["holds_step"] == holds
