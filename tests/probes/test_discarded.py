"""Gradients cleared before the step they were made for; what is rightly cleared is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.probes.common_script import ADVERSARIAL, COMMON
from tests.probes.watched import column, events, line_of, read, run_script

WRONG = (
    COMMON
    + """
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
for step in range(8):
    F.cross_entropy(model(x), y).backward()
    CLEAR
    optimizer.step()
"""
)


@pytest.mark.parametrize("clear", ["optimizer.zero_grad()", "model.zero_grad(set_to_none=False)"])
def test_cleared_between_backward_and_step(clear: str, tmp_path: Path) -> None:
    source = WRONG.replace("CLEAR", clear)
    run_script(source, tmp_path)
    found = [event for event in events(read(tmp_path), "fact") if event["fact"] == "gradients-discarded"]
    assert [event["step"] for event in found] == [4, 5, 7]  # the first window was not seen from its beginning
    assert found[0]["where"]["line"] == line_of(source, clear)
    assert (found[0]["optimizer"], found[0]["parameters"]) == ("SGD", 4) and found[0]["gradient_norm_discarded"] > 0


BY_HAND = {
    "None": ("for p in model.parameters(): p.grad = None", "p.grad = None"),
    "zeros": ("for p in model.parameters(): p.grad.zero_()", "p.grad.zero_()"),
    "a function": ("clear(model)", "parameter.grad = None  # in a function"),
    "one of two places": (
        "for p in model.parameters(): p.grad = None; p.grad = None\n    list(model.parameters())[0].grad = None",
        "",
    ),
}
HELPER = """
def clear(module):
    for parameter in module.parameters():
        parameter.grad = None  # in a function
"""


@pytest.mark.parametrize("name", BY_HAND)
def test_cleared_by_hand(name: str, tmp_path: Path) -> None:
    clear, line = BY_HAND[name]
    source = (HELPER if name == "a function" else "") + WRONG.replace("CLEAR", clear)
    run_script(source, tmp_path)
    found = [event for event in events(read(tmp_path), "fact") if event["fact"] == "gradients-discarded"]
    assert found[0]["where"]["line"] == line_of(source, line or "optimizer.step()")


RIGHT = {
    "in order": ("optimizer.zero_grad()", "F.cross_entropy(model(x), y).backward()", "optimizer.step()"),
    "clipped": (
        "optimizer.zero_grad()",
        "F.cross_entropy(model(x), y).backward()",
        "torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)",
        "optimizer.step()",
    ),
    # a step that is not taken: its gradients were not finite
    "left out": (
        "loss = F.cross_entropy(model(x), y) * (float('nan') if step % 3 else 1.0)",
        "loss.backward()",
        "if loss.isfinite(): optimizer.step()",
        "optimizer.zero_grad()",
    ),
    "left out by the scaler": (
        "scaler.scale(F.cross_entropy(model(x), y) * (float('inf') if step % 2 else 1.0)).backward()",
        "scaler.step(optimizer); scaler.update()",
        "optimizer.zero_grad()",
    ),
    # an accumulation that the end of the epoch cuts off
    "cut off": (
        "for part in range(3):",
        "    (F.cross_entropy(model(x), y) / 2).backward()",
        "    if part % 2: optimizer.step(); optimizer.zero_grad()",
        "optimizer.zero_grad()",
    ),
    # looked at before they are cleared, and made anew
    "looked at": (
        "F.cross_entropy(model(x), y).backward()",
        "optimizer.zero_grad()",
        "F.cross_entropy(model(x), y).backward()",
        "optimizer.step()",
    ),
    # zero by themselves
    "zeros": (
        "optimizer.zero_grad()",
        "(0 * F.cross_entropy(model(x), y)).backward()",
        "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
        "optimizer.step()",
    ),
    "zeros that are cleared": ("(0 * F.cross_entropy(model(x), y)).backward()", "optimizer.zero_grad()", "optimizer.step()"),
    "closure": ("F.cross_entropy(model(x), y).backward()", "optimizer.zero_grad()", "optimizer.step(closure)"),
}
CLOSURE = """
scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
def closure():
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return loss
"""


def test_what_looks_like_it(tmp_path: Path) -> None:
    loops = [COMMON, CLOSURE]
    for name, lines in RIGHT.items():
        kind = "LBFGS" if name == "closure" else "SGD"
        inside = "\n    ".join(lines)
        loops.append(f"optimizer = torch.optim.{kind}(model.parameters(), lr=0.01)\nfor step in range(9):\n    {inside}")
    run_script("\n".join([*loops, ADVERSARIAL]), tmp_path)
    chunk = read(tmp_path)
    assert len(set(column(chunk, "optimizer"))) == len(RIGHT) + 2
    said = [event for event in events(chunk, "fact") if event["fact"] == "gradients-discarded"]
    assert [event["where"]["source"] for event in said] == []
