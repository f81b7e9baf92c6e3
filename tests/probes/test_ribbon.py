"""The order of calls of each step, with repeated runs as one entry."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from probes.ribbon import MOST_RIBBONS, collapsed
from tests.probes.common_script import COMMON
from tests.probes.watched import column, events, read, run_script

LOOP = (
    COMMON
    + """
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [cosine, cosine], [3])
scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
for epoch in range(3):
    model.train()
    for number, (inputs, targets) in enumerate(train_loader):
        scaler.scale(F.cross_entropy(model(inputs), targets) / 2).backward()
        if number % 2:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer); scaler.update()
            optimizer.zero_grad()
            scheduler.step()
    model.eval()
    with torch.no_grad():
        for inputs, targets in val_loader:
            F.cross_entropy(model(inputs), targets)
    torch.save(model.state_dict(), "last.pt")
def closure():
    lbfgs.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return loss
lbfgs = torch.optim.LBFGS(model.parameters(), lr=0.01, max_iter=3, tolerance_change=0)
for step in range(3):
    lbfgs.step(closure)
"""
)


def test_orders_of_a_loop(tmp_path: Path) -> None:
    run_script(LOOP, tmp_path)
    chunk = read(tmp_path)
    ribbons = [(event["index"], event["calls"]) for event in events(chunk, "ribbon")]
    accumulated = ["(fetch forward backward)×2", "unscale", "clip", "step"]
    # The first step was not seen from its beginning; at an epoch's end comes the validation.
    assert ribbons[0] == (0, ["zero_grad", "scheduler", *accumulated])
    assert ribbons[1] == (1, ["zero_grad", "scheduler", "eval", "(fetch forward)×3", "save", "train", *accumulated])
    assert ribbons[-1][1] == ["step 1(", "(zero_grad forward backward)×3", ")"]
    assert [index for index, _ in ribbons] == list(range(4))
    assert events(chunk, "signals")[-1]["signals"]["order of calls"] == "seen"


MANY = (
    COMMON
    + """
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(80):
    for part in range(step + 1):
        optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
"""
)


def test_the_number_of_orders_is_bounded(tmp_path: Path) -> None:
    run_script(MANY, tmp_path)
    said = events(read(tmp_path), "ribbon")
    assert [event["index"] for event in said] == list(range(MOST_RIBBONS + 1))
    assert said[0]["calls"] == ["zero_grad×2", "forward", "backward", "step"] and said[-1]["calls"] == ["other"]


def spelled_out(ribbon: list[str]) -> list[str]:
    calls = []
    for entry in ribbon:
        block, _, times = entry.partition("×")
        calls += block.strip("()").split() * int(times or 1)
    return calls


@given(st.lists(st.sampled_from(["fetch", "forward", "backward"]), max_size=40))
def test_collapsing_loses_nothing(calls: list[str]) -> None:
    ribbon = collapsed(calls)
    assert spelled_out(ribbon) == calls
    assert all(one != other for one, other in pairwise(ribbon))


def test_blocks() -> None:
    assert collapsed("fetch forward backward".split() * 4 + ["step"]) == ["(fetch forward backward)×4", "step"]
    assert collapsed(["forward", "backward", "backward", "backward"]) == ["forward", "backward×3"]
    assert collapsed([]) == []


def test_each_row_names_its_ribbon(tmp_path: Path) -> None:
    script = (
        "import torch\nmodel = torch.nn.Linear(4, 1)\noptimizer = torch.optim.SGD(model.parameters(), 0.1)\n"
        "for step in range(6):\n    optimizer.zero_grad()\n    model(torch.randn(2, 4)).mean().backward()\n"
        "    if step % 2:\n        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n    optimizer.step()\n"
    )
    run_script(script, tmp_path)
    chunk = read(tmp_path)
    calls = {event["index"]: event["calls"] for event in events(chunk, "ribbon")}
    named = [calls[int(index)] for index in column(chunk, "ribbon")[1:]]
    without, clipped = ["zero_grad", "forward", "backward", "step"], ["zero_grad", "forward", "backward", "clip", "step"]
    assert named == [clipped, without, clipped, without, clipped]
