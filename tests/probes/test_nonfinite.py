"""The first value that is not finite: where it arose, what was still finite around it, and nothing said where a loop means it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.probes.nonfinite_events import COMMON, entry, found, stages
from tests.probes.watched import line_of, run_script

LATER = """
# Numbers come a step later, as from a GPU.
transfer, inputs = sys.modules["_forgemon_probes.transfer"], sys.modules["_forgemon_probes.batch_inputs"]
def submit(self, scalars, deliver, rare=False):
    self._waiting.append(([], deliver, transfer._read_now(scalars)))
    return True
transfer.Transfer.submit = submit
inputs.at_once = sys.modules["_forgemon_probes.nonfinite"].at_once = lambda tensor: False
"""


BATCHES = (
    COMMON
    + """
from torch.utils.data import DataLoader, TensorDataset
WHICH
loader = DataLoader(TensorDataset(x, y), batch_size=16)
for epoch in range(2):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
"""
)


@pytest.mark.parametrize("later", [False, True])
def test_a_batch_that_is_not_finite_is_named_with_its_sample(tmp_path: Path, later: bool) -> None:
    source = BATCHES.replace("WHICH", "x[37, 2] = float('nan')" + LATER * later)
    run_script(source, tmp_path)
    (event,) = found(tmp_path)
    assert (event["step"], event["first_seen_step"], event["last_finite_step"]) == (3, 3, 2)
    assert event["first"] == {"stage": "input", "name": "inputs", "dtype": "float32"}
    given = entry(event, "input")
    assert (given["batch"], given["micro_batch"], given["sample"]) == (3, 0, 5)
    assert entry(event, "loss")["value"] == "nan" and entry(event, "gradient")["nonfinite"] == 6
    if later:
        assert entry(event, "weight")["after_step"] is True
    else:
        assert entry(event, "weight", finite=True)["name"] == "all 6"
        assert event["where"]["line"] == line_of(source, "loss = F.cross_entropy")
        assert not entry(event, "layer")["finite"]  # what went into the criterion


PARTS = (
    COMMON
    + """
kept = copy.deepcopy(model.state_dict())
def train(loss_of):
    for step in range(5):
        for group in optimizer.param_groups:
            group["lr"] = 1e38 if loss_of is far and step == 2 else 0.01
        optimizer.zero_grad()
        loss = loss_of(step)
        loss.backward()
        optimizer.step()
    model.load_state_dict(kept)
def target(step):
    targets = torch.randn(64, 3)
    targets[9, 1] = float("inf") if step == 3 else 0
    return F.mse_loss(model(x), targets)
def logarithm(step):
    return -torch.softmax(model(x) * (1 if step < 2 else 1e4), 1)[:, 0].log().mean()
def root(step):
    if step == 3:
        model.second.weight.data.zero_()
    return F.cross_entropy(model(x), y) + model.second.weight.abs().sum(1).sqrt().sum()
def far(step):
    return 1e4 * F.cross_entropy(model(x), y)
LATER
for part in (target, logarithm, root, far):
    train(part)
"""
)


@pytest.mark.parametrize("later", [False, True])
def test_which_was_the_first(tmp_path: Path, later: bool) -> None:
    source = PARTS.replace("LATER", LATER * later)
    run_script(source, tmp_path)
    target, logarithm, root, far = found(tmp_path)

    assert [event["first_seen_step"] for event in (target, logarithm, root, far)] == [4, 8, 14, 19]
    assert [event["last_finite_step"] for event in (target, logarithm, root, far)] == [3, 7, 13, 18]
    assert entry(target, "loss")["value"] == entry(logarithm, "loss")["value"] == "inf"
    assert root["first"] == {"stage": "gradient", "name": "second.weight", "dtype": None}
    assert entry(root, "loss", finite=True) and entry(root, "gradient", finite=True)["name"] == "second.bias"
    assert (entry(root, "gradient")["nonfinite"], entry(root, "gradient")["of"]) == (1, 6)
    weights = [e for event in (target, logarithm, far) for e in event["order"] if e["stage"] == "weight"]
    assert all(e.get("after_step", False) is later for e in weights)
    assert entry(root, "weight")["after_step"] is True  # that gradients are not finite shows when the step is over
    if later:  # neither targets nor the weights before the step can be seen then
        assert target["first"]["stage"] == logarithm["first"]["stage"] == far["first"]["stage"] == "loss"
        return
    assert target["first"] == {"stage": "input", "name": "target of mse_loss", "dtype": "float32"}
    assert entry(target, "input")["sample"] == 9 and entry(target, "layer", finite=True)
    assert target["where"]["line"] == line_of(source, "return F.mse_loss")
    assert (logarithm["first"]["stage"], logarithm["first"]["name"]) == ("loss", "loss")
    assert entry(logarithm, "input", finite=True)["name"] == "inputs"
    assert logarithm["where"]["line"] == line_of(source, "loss.backward()")
    assert entry(logarithm, "weight", finite=True)["name"] == "all 6"
    assert far["first"]["stage"] == "weight" and ("input", True) in stages(far) and ("loss", False) in stages(far)


LAYER = (
    COMMON
    + """
ways = (lambda net, hidden: hidden / (hidden - hidden), lambda net, hidden: net.odd(values=hidden),
        lambda net, hidden: (hidden.half() * 60000 * 60000).float())
LATER
for way in ways:
    for step in range(6):
        before = copy.deepcopy(model.state_dict())
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x, way if step > 2 else None), y)
        loss.backward()
        optimizer.step()
        if not torch.isfinite(loss):  # the loop takes such a step back
            model.load_state_dict(before)
assert not torch.nn.modules.module._global_forward_hooks
print([p.detach().view(torch.int32).sum().item() for p in model.parameters()], torch.rand(1).item())
"""
)


@pytest.mark.parametrize("later", [False, True])
def test_the_layer_in_which_it_arises(tmp_path: Path, later: bool) -> None:
    source = LAYER.replace("LATER", LATER * later)
    printed = run_script(source, tmp_path).stdout
    told = found(tmp_path)
    assert [event["first_seen_step"] for event in told] == [4, 4, 10, 10, 16, 16]
    assert [event["first"]["stage"] for event in told] == ["loss" if later else "layer", "layer"] * 3
    assert [event["first"]["name"] for event in told[1::2]] == ["Net", "odd (Odd)", "Net"]
    assert all(entry(event, "layer", finite=True)["name"] == "second (Linear)" for event in told[1::2])
    if not later:
        (tmp_path / "plain").mkdir()
        assert run_script(source, tmp_path / "plain", watched=False).stdout == printed != ""


SCALED = (
    COMMON
    + """
scaler = torch.amp.GradScaler("cpu", init_scale=2.0 ** 20, growth_interval=3)
for kind in (torch.optim.SGD, torch.optim.AdamW):
    optimizer = kind(model.parameters(), lr=0.01, fused=True) if kind is torch.optim.AdamW else kind(model.parameters(), lr=0.01)
    for step in range(12):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y) * (float("inf") if step % 4 == 3 else 1)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
"""
)

MEANT = """
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(12):
    optimizer.zero_grad()
    (F.cross_entropy(model(x), y) * 1e30).backward()
    with torch.no_grad():
        for p in model.parameters():
            p.grad.copy_(torch.full_like(p.grad, 1e30))  # finite, though its norm in float32 is not
            p.grad.mul_(1 if step % 2 else 1e-30)
    optimizer.step()
    optimizer.zero_grad()
    model.load_state_dict({name: torch.zeros_like(value) for name, value in model.state_dict().items()})
    with torch.no_grad():
        F.cross_entropy(model(x * float("nan")), y)  # an evaluation
(F.cross_entropy(model(x), y) * float("nan")).backward()
optimizer.step()
"""


def test_nothing_is_said_where_a_scaler_skips_or_a_norm_overflows(tmp_path: Path) -> None:
    run_script(SCALED + MEANT, tmp_path)
    (event,) = found(tmp_path)  # of its last step alone
    assert event["first"]["stage"] == "loss" and event["last_finite_step"] == event["first_seen_step"] - 2
