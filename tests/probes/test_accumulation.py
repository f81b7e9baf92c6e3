"""Accumulation on undivided means is said; divided, summed, different or repeated losses are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.probes.common_script import COMMON
from tests.probes.watched import column, events, line_of, read, run_script

WRONG = (
    COMMON
    + """
optimizer = OPTIMIZER
scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
for epoch in range(8):
    for number, (inputs, targets) in enumerate(train_loader):
        loss = F.cross_entropy(model(inputs), targets)
        scaler.scale(loss).backward()
        if number % 2 == 1:
            CLIP
            scaler.step(optimizer); scaler.update()
            optimizer.zero_grad()
"""
)


@pytest.mark.parametrize("scale_free", [True, False])
def test_the_undivided_mean_of_each_micro_batch(scale_free: bool, tmp_path: Path) -> None:
    optimizer = f"torch.optim.{'AdamW' if scale_free else 'SGD'}(model.parameters(), lr=0.01)"
    clip = "" if scale_free else "scaler.unscale_(optimizer); torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)"
    source = WRONG.replace("OPTIMIZER", optimizer).replace("CLIP", clip)
    run_script(source, tmp_path)
    found = events(read(tmp_path), "fact")
    assert {event["fact"] for event in found} == {"accumulation-not-scaled"}
    assert [event["step"] for event in found] == [4, 5, 7, 11]  # the first window was not seen from its beginning
    assert found[0]["where"]["line"] == line_of(source, ".backward()")
    assert (found[0]["micro_batches"], found[0]["criterion"]) == (2, "cross_entropy")
    assert found[0]["scale_free"] is scale_free and found[0]["clipped"] is not scale_free
    assert found[0]["optimizer"] == ("AdamW" if scale_free else "SGD")


MEANS_BY_HAND = {
    "mean()": "-F.log_softmax(model(inputs), 1).gather(1, targets[:, None]).mean()",
    "sum / rows": "(F.cross_entropy(model(inputs), targets, reduction='sum') + 0.1 * model(inputs).square().sum()) / len(inputs)",
}


@pytest.mark.parametrize("name", MEANS_BY_HAND)
def test_the_undivided_mean_written_by_hand(tmp_path: Path, name: str) -> None:
    source = WRONG.replace("OPTIMIZER", "torch.optim.SGD(model.parameters(), lr=0.01)").replace("CLIP", "")
    run_script(source.replace("F.cross_entropy(model(inputs), targets)", MEANS_BY_HAND[name]), tmp_path)
    found = events(read(tmp_path), "fact")
    assert {(event["fact"], event["criterion"]) for event in found} == {("accumulation-not-scaled", name)}


BY_HAND = "((model(x[16 * part : 16 * part + 16]) - x[16 * part : 16 * part + 16, :3]) ** 2)"
PART = "F.cross_entropy(model(x[16 * part : 16 * part + 16]), y[16 * part : 16 * part + 16])"
PARTS = "for part in range(4):"
RIGHT = {
    "divided": (PARTS, f"    ({PART} / 4).backward()"),
    "by hand, divided": (PARTS, f"    ({BY_HAND}.mean() / 4).backward()"),
    "by hand, divided before": (PARTS, f"    ({BY_HAND} / 4).mean().backward()"),
    "divided by as many as there are rows": (PARTS, f"    {PART.replace('16', '4')[:-1]}, reduction='sum').div(4).backward()"),
    "by hand, divided by rows and passes": (PARTS, f"    ({BY_HAND}.sum() / 16 / 4).backward()"),
    "a mean divided by a number that is that of the rows": (PARTS, f"    ({PART} / 16).backward()"),
    "by hand, a mean divided by such a number": (PARTS, f"    ({BY_HAND}.mean() / 16).backward()"),
    "by hand, summed": (PARTS, f"    {BY_HAND}.sum().backward()"),
    "divided in place": (PARTS, f"    loss = {PART}; loss /= 4; loss.backward()"),
    "summed": (PARTS, f"    {PART[:-1]}, reduction='sum').backward()"),
    "gradients divided": (PARTS, f"    {PART}.backward()", "for p in model.parameters(): p.grad /= 4"),
    "gradients divided, then clipped": (
        PARTS,
        f"    {PART}.backward()",
        "for p in model.parameters(): p.grad /= 4",
        "torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)",
    ),
    "two losses": (
        "F.cross_entropy(model(x), y).backward()",
        "F.cross_entropy(model(x[:32]), y[:32]).backward()",
    ),
    "several losses of one forward": (
        "outputs = model(x)",
        "for loss in [F.cross_entropy(outputs, y), F.mse_loss(outputs, x[:, :3])]:",
        "    loss.backward(retain_graph=True)",
    ),
    "through a function of its own": ("go(x, y)", "go(x[:32], y[:32])"),
    "the same batch twice": ("for _ in range(2):", "    F.cross_entropy(model(x), y).backward()"),
    "sharpness-aware": (
        "F.cross_entropy(model(x), y).backward()",
        "moved = [0.05 * p.grad for p in model.parameters()]",
        "with torch.no_grad(): [p.add_(m) for p, m in zip(model.parameters(), moved)]",
        "optimizer.zero_grad()",
        "F.cross_entropy(model(x), y).backward()",
        "with torch.no_grad(): [p.sub_(m) for p, m in zip(model.parameters(), moved)]",
    ),
    "one": ("F.cross_entropy(model(x), y).backward()",),
}
GAN = """
critic, maker = torch.nn.Linear(8, 1), torch.nn.Linear(4, 8)
for_critic = torch.optim.Adam(critic.parameters(), lr=0.01)
for_maker = torch.optim.Adam(maker.parameters(), lr=0.01)
for step in range(20):
    real, fake = x[torch.randint(0, 96, (8,))], maker(torch.randn(8, 4))
    for_critic.zero_grad()
    F.binary_cross_entropy_with_logits(critic(real), torch.ones(8, 1)).backward()
    F.binary_cross_entropy_with_logits(critic(fake.detach()), torch.zeros(8, 1)).backward()
    for_critic.step()
    if step % 3 == 2:
        for_maker.zero_grad()
        F.binary_cross_entropy_with_logits(critic(fake), torch.ones(8, 1)).backward()
        for_maker.step()
"""


def test_what_looks_like_it(tmp_path: Path) -> None:
    """Each loop with an optimizer of its own, all in one run."""
    loops = [COMMON, "def go(inputs, targets):\n    F.cross_entropy(model(inputs), targets).backward()"]
    for lines in RIGHT.values():
        inside = "\n    ".join(lines)
        loops.append(
            f"optimizer = torch.optim.SGD(model.parameters(), lr=0.01)\nfor step in range(6):\n"
            f"    optimizer.zero_grad()\n    {inside}\n    optimizer.step()"
        )
    run_script("\n".join([*loops, GAN]), tmp_path)
    chunk = read(tmp_path)
    assert len(set(column(chunk, "optimizer"))) == len(RIGHT) + 2
    said = [event for event in events(chunk, "fact") if event["fact"] == "accumulation-not-scaled"]
    assert [event["where"]["source"] for event in said] == []
