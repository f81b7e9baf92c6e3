"""The fix of each fault in the calls and tensors, followed by hand in its demo loop: then nothing is found any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from forgemon.demos import symptom_shown
from forgemon.detectors import DETECTED
from forgemon.symptoms import SYMPTOMS
from tests.accuracy.running import Server
from tests.demo_loops.demo_run import DEMO_LOOPS
from tests.demo_loops.expected import FAULTY, NOT_ON_EVERY_MACHINE
from tests.demo_loops.watched_demo import serving, watched

Edits = tuple[tuple[str, str], ...]
CLIP = "        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)"
BACKWARD, STEP = "        loss.backward()\n", "        optimizer.step()\n"
FOLLOWED: Mapping[str, tuple[str, Edits]] = {
    "missing_zero_grad": (
        "Call optimizer.zero_grad() inside the batch loop, before backward().",
        ((BACKWARD, f"        optimizer.zero_grad()\n{BACKWARD}"),),
    ),
    "gradients_discarded": (
        "Move zero_grad() before backward().",
        (
            ("        optimizer.zero_grad()  # throws away what backward() has just made\n", ""),
            (BACKWARD, f"        optimizer.zero_grad()\n{BACKWARD}"),
        ),
    ),
    "optimizer_mismatch": (
        "Build the optimizer after the model is moved, wrapped or unfrozen.",
        (
            ("optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)\n", ""),
            ("\nbest_val_loss", "\noptimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)\nbest_val_loss"),
        ),
    ),
    "frozen_parameters": ("Check the graph for detach(), no_grad() or an unused branch.", ((".detach()", ""),)),
    "clip_before_backward": (
        "Clip between backward() and step().",
        ((f"{CLIP}  # nothing is there yet\n", ""), (BACKWARD, f"{BACKWARD}{CLIP}\n")),
    ),
    "clip_after_step": (
        "Clip between backward() and step().",
        ((f"{CLIP}  # too late\n", ""), (BACKWARD, f"{BACKWARD}{CLIP}\n")),
    ),
    "clip_scaled_gradients": (
        "Call scaler.unscale_(optimizer) before clipping.",
        ((CLIP, f"        scaler.unscale_(optimizer)\n{CLIP}"),),
    ),
    "accumulation_not_scaled": (
        "Divide the loss by accumulation_steps before backward().",
        (("        loss.backward()", "        (loss / 4).backward()"),),
    ),
    "eval_in_train_mode": (
        "Call model.eval() before validation.",
        (("    val_loss = 0.0\n", "    val_loss = 0.0\n    model.eval()\n"),),
    ),
    "train_in_eval_mode": (
        "Call model.train() at the start of each training epoch.",
        (("    train_loss = 0.0\n", "    model.train()\n    train_loss = 0.0\n"),),
    ),
    "eval_with_grad": (
        "Wrap validation in torch.no_grad().",
        (
            (
                "    for points, arm in val_loader:  # no torch.no_grad()\n        val_loss",
                "    with torch.no_grad():\n      for points, arm in val_loader:\n        val_loss",
            ),
        ),
    ),
    "loss_graph_retained": (
        "Log loss.item(); drop retain_graph.",
        (
            ("        losses.append(loss)", "        losses.append(loss.item())"),
            ("list[torch.Tensor]", "list[float]"),
            ("torch.stack(losses[-100:]).mean()", "torch.tensor(losses[-100:]).mean()"),
        ),
    ),
    "softmax_before_cross_entropy": ("Pass raw logits to cross_entropy.", (("    nn.Softmax(dim=1),", "    #"),)),
    "val_loader_shuffled": (
        "Use shuffle=False and drop_last=False for validation.",
        (("batch_size=300, shuffle=True, drop_last=True", "batch_size=300, shuffle=False, drop_last=False"),),
    ),
    "val_uses_train_data": (
        "Split the data before anything else is done with it, and check the overlap shown.",
        (("DataLoader(data, ", "DataLoader(train_data, "),),
    ),
    "best_checkpoint_not_saved": (
        "Save when the held-out metric improves, and store that metric beside the weights.",
        (
            (
                "    best_val_loss = min(val_loss, best_val_loss)\n",
                "    improves = val_loss < best_val_loss\n    best_val_loss = min(val_loss, best_val_loss)\n",
            ),
            ("    torch.save(", "    if improves:\n        torch.save("),
        ),
    ),
    "checkpoint_incomplete": (
        "Save model, optimizer, scheduler, step and the metric together.",
        (
            (
                "torch.save(model.state_dict(), ",
                'torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch, "loss": val_loss}, ',
            ),
        ),
    ),
}
"""For each demo the fix as the symptom table words it, and what a person who follows it changes: old text and new text."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def test_every_fix_is_followed() -> None:
    rows = {name: symptom_shown(name.replace("_", "-")) or "" for name in ("missing_zero_grad", *FAULTY)}
    wanted = {name for name, symptom in rows.items() if SYMPTOMS[symptom].section == "B"}
    assert FOLLOWED.keys() | set(NOT_ON_EVERY_MACHINE) == wanted
    assert all(SYMPTOMS[rows[name]].fix == fix for name, (fix, _) in FOLLOWED.items())


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_demo_mended_as_its_fix_says_has_no_finding(server: Server, name: str, tmp_path: Path) -> None:
    symptom = symptom_shown(name.replace("_", "-"))
    if symptom not in DETECTED:
        pytest.skip(f"there is no detector for {symptom} yet")
    source = (DEMO_LOOPS / f"{name}.py").read_text()
    for old, new in FOLLOWED[name][1]:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    script = tmp_path / f"{name}.py"
    script.write_text(source)
    arguments = FAULTY[name].arguments if name in FAULTY else ("--epochs", "1")
    run = watched(server, script, tmp_path, arguments)
    assert run.status == 0, run.output[-2000:]
    assert {finding.symptom for finding in run.findings} <= {"ended"}, run.findings
    assert "no" not in {check.answer for check in run.checked.report.checklist}
