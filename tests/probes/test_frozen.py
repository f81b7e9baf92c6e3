"""Parameters that no gradient reaches are named; those frozen on purpose or reached now and then are not."""

from __future__ import annotations

from pathlib import Path

from tests.probes.test_recorded import COMMON
from tests.probes.watched import events, line_of, read, run_script

WRONG = (
    COMMON
    + """
class Split(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.features, self.head, self.unused = torch.nn.Linear(8, 8), torch.nn.Linear(8, 3), torch.nn.Linear(8, 3)
    def forward(self, inputs):
        return self.head(self.features(inputs).detach())
model = Split()
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
for step in range(45):
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
"""
)


def test_parameters_that_no_gradient_reaches(tmp_path: Path) -> None:
    run_script(WRONG, tmp_path)
    found = [event for event in events(read(tmp_path), "fact") if event["fact"] == "frozen-parameters"]
    assert [event["step"] for event in found] == [20, 40]
    assert found[0]["names"] == ["features.weight", "features.bias", "unused.weight", "unused.bias"]
    assert (found[0]["parameters"], found[0]["of_parameters"], found[0]["steps_observed"]) == (4, 6, 20)
    assert found[0]["where"]["line"] == line_of(WRONG, "optimizer.step()") and found[0]["optimizer"] == "AdamW"


RIGHT = (
    COMMON
    + """
experts = torch.nn.ModuleList([torch.nn.Linear(8, 3) for _ in range(3)])
experts[2].requires_grad_(False)
optimizer = torch.optim.SGD(experts.parameters(), lr=0.01)
for step in range(60):
    optimizer.zero_grad()
    F.cross_entropy(experts[int(step % 15 == 14)](x), y).backward()
    optimizer.step()
def closure():
    lbfgs.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return loss
lbfgs = torch.optim.LBFGS(model.parameters(), lr=0.01, max_iter=2)
for step in range(25):
    lbfgs.zero_grad()
    lbfgs.step(closure)
# unfrozen after a while
model[0].requires_grad_(False)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(50):
    if step == 19:
        model[0].requires_grad_(True)
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
"""
)


def test_what_looks_like_it(tmp_path: Path) -> None:
    run_script(RIGHT, tmp_path)
    chunk = read(tmp_path)
    assert len(chunk.steps) == 135
    assert events(chunk, "fact") == []


LATER = (
    COMMON
    + """
parts = torch.nn.ModuleList([torch.nn.Linear(8, 3) for _ in range(2)])
optimizer = torch.optim.SGD(parts.parameters(), lr=0.01)
for step in range(50):
    optimizer.zero_grad()
    F.cross_entropy(sum(part(x) for part in (parts if step > 30 else parts[:1])), y).backward()
    optimizer.step()
"""
)


def test_reached_after_all(tmp_path: Path) -> None:
    run_script(LATER, tmp_path)
    chunk = read(tmp_path)
    assert [(event["step"], event["names"]) for event in events(chunk, "fact")] == [
        (20, ["ModuleList.1.weight", "ModuleList.1.bias"])
    ]
    assert [event["fact"] for event in events(chunk, "fact_gone")] == ["frozen-parameters"]
