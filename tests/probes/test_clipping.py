"""Clipping before backward(), after step() or of scaled gradients is said; every right order is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.probes.common_script import COMMON
from tests.probes.watched import column, events, line_of, read, run_script

CLIPPING = ("clip-before-backward", "clip-after-step", "clip-scaled-gradients")

LOOP = (
    COMMON
    + """
clip = lambda part=model: torch.nn.utils.clip_grad_norm_(part.parameters(), 0.5)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
other = torch.nn.Linear(8, 3)
others = torch.optim.SGD(other.parameters(), lr=0.05)
scaler = torch.amp.GradScaler("cpu", init_scale=INIT)
for inputs, targets in [batch for _ in range(2) for batch in train_loader]:
    BODY
"""
)

CLIP = "torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)"
PLAIN = "loss = F.cross_entropy(model(inputs), targets)"


def body(*lines: str) -> str:
    return LOOP.replace("BODY", "\n    ".join(lines)).replace("INIT", "1024.0")


WRONG = {
    "before": ("clip-before-backward", ("optimizer.zero_grad()", PLAIN, CLIP, "loss.backward()", "optimizer.step()")),
    "first": ("clip-before-backward", ("optimizer.zero_grad()", CLIP, PLAIN, "loss.backward()", "optimizer.step()")),
    "in place": (
        "clip-before-backward",
        ("optimizer.zero_grad(set_to_none=False)", PLAIN, CLIP, "loss.backward()", "optimizer.step()"),
    ),
    "by value": (
        "clip-before-backward",
        (
            "optimizer.zero_grad(set_to_none=False)",
            PLAIN,
            "if model[0].weight.grad is not None: torch.nn.utils.clip_grad_value_(list(model.parameters()), 0.1)",
            "loss.backward()",
            "optimizer.step()",
        ),
    ),
    "after": ("clip-after-step", ("optimizer.zero_grad()", PLAIN, "loss.backward()", "optimizer.step()", CLIP)),
    "scaled": (
        "clip-scaled-gradients",
        ("optimizer.zero_grad()", PLAIN, "scaler.scale(loss).backward()", CLIP, "scaler.step(optimizer)", "scaler.update()"),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_clip_at_the_wrong_place(name: str, tmp_path: Path) -> None:
    fact, lines = WRONG[name]
    source = body(*lines)
    run_script(source, tmp_path)
    chunk = read(tmp_path)
    found = events(chunk, "fact")
    assert {event["fact"] for event in found} == {fact}
    assert found[0]["where"]["line"] == line_of(source, "clip_grad_value_(" if name == "by value" else CLIP)
    assert found[0]["limit"] == (0.1 if name == "by value" else 0.5)
    if fact == "clip-scaled-gradients":
        assert found[0]["loss_scale"] == 1024.0 and found[0]["norm"] > 100
        # The recorded norms are without the loss scale, though the loop's own was with it.
        assert found[0]["norm"] / 1024 == pytest.approx(
            column(chunk, "gradient_norm_before_clip")[found[0]["step"] - 1], rel=1e-5
        )


UNSCALE = ("scaler.scale(loss).backward()", "scaler.unscale_(optimizer)", "clip()", "scaler.step(optimizer)", "scaler.update()")
BY_HAND = "for p in model.parameters(): p.grad.div_(scaler.get_scale())"
CLOSURE = """
def closure():
    lbfgs.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    clip()
    return loss
lbfgs = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
for step in range(4):
    lbfgs.step(closure)
"""


def test_right_orders_are_silent(tmp_path: Path) -> None:
    """Several loops in one run, one after the other, each with optimizers of its own."""
    zero = "optimizer.zero_grad(); others.zero_grad()"
    loops = [
        body(zero, PLAIN, "loss.backward()", "clip()", "optimizer.step()"),
        body(zero, PLAIN, *UNSCALE),
        # by hand instead of unscale_(); the scaler is not asked to step
        body(zero, PLAIN, "scaler.scale(loss).backward()", BY_HAND, "clip()", "optimizer.step()"),
        # the loss scale is 1
        body(zero, PLAIN, "scaler.scale(loss).backward()", "clip()", "scaler.step(optimizer)", "scaler.update()").replace(
            "1024.0", "1.0"
        ),
        # accumulation: clipped at the last micro-batch alone
        body(
            zero,
            "for part in range(4):",
            "    (F.cross_entropy(model(inputs[part::4]), targets[part::4]) / 4).backward()",
            "clip()",
            "optimizer.step()",
        ),
        # two optimizers with a clip each; the second after the first one's step
        body(
            zero,
            "F.cross_entropy(model(inputs) + other(inputs), targets).backward()",
            "clip(); optimizer.step()",
            "clip(other); others.step()",
        ),
        # one part is clipped by norm, and all of it by value
        body(
            zero,
            PLAIN,
            "loss.backward()",
            "clip(model[3])",
            "torch.nn.utils.clip_grad_value_(model.parameters(), 0.1)",
            "optimizer.step()",
        ),
        # a part without gradients is clipped, too
        body(zero, "F.cross_entropy(model[3](torch.randn(16, 16)), targets).backward()", "clip(model[0])", "optimizer.step()"),
        COMMON + "clip = lambda: torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)" + CLOSURE,
    ]
    run_script("\n".join(loops), tmp_path)
    chunk = read(tmp_path)
    assert len(set(column(chunk, "optimizer"))) == len(loops) + 1
    assert [event["fact"] for event in events(chunk, "fact") if event["fact"] in CLIPPING] == []
    norms = column(chunk, "gradient_norm_before_clip")
    assert np.nanmax(norms) < 20
