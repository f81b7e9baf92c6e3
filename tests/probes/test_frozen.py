"""Parameters that no gradient reaches are named; those frozen on purpose or reached now and then are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.probes.common_script import COMMON
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


def frozen(folder: Path) -> list[dict[str, Any]]:
    return [event for event in events(read(folder), "fact") if event["fact"] == "frozen-parameters"]


def test_parameters_that_no_gradient_reaches(tmp_path: Path) -> None:
    run_script(WRONG, tmp_path)
    first, later, *_ = frozen(tmp_path)
    assert (first["step"], first["names"]) == (3, ["features.weight", "features.bias"])
    assert (first["cut_by"], first["where"]["line"]) == ("detach()", line_of(WRONG, ".detach()"))
    assert later["names"] == ["features.weight", "features.bias", "unused.weight", "unused.bias"]
    assert (later["step"], later["parameters"], later["of_parameters"], later["steps_observed"]) == (20, 4, 6, 20)
    assert later["where"] == first["where"] and later["optimizer"] == "AdamW"


CUTS = {
    "in the loop": (
        """
parts = [torch.nn.Linear(8, 8), torch.nn.Linear(8, 3)]
def loss():
    features = torch.relu(parts[0](x)).flatten(1)
    return F.cross_entropy(parts[1](features.detach()), y)  # here
""",
        "detach()",
    ),
    "no_grad around a module": (
        """
parts = [torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU()), torch.nn.Linear(8, 3)]
def loss():
    with torch.no_grad():
        features = parts[0](x)  # here
    return F.cross_entropy(parts[1](features), y)
""",
        "no_grad()",
    ),
    "beside a profiler of the user's": (
        """
import sys
parts = [torch.nn.Linear(8, 8), torch.nn.Linear(8, 3)]
def mine(*event):
    pass
sys.setprofile(mine)
def loss():
    assert sys.getprofile() is mine
    return F.cross_entropy(parts[1](parts[0](x).detach()), y)
""",
        None,
    ),
    "while a validation pass goes on": (
        """
parts = [torch.nn.Linear(8, 8), torch.nn.Linear(8, 3), torch.nn.Linear(8, 3)]
def loss():
    with torch.no_grad():
        parts[2].eval()
        parts[2](parts[0](x))
        parts[2].train()
    assert (sys.getprofile() is not None) == (2 <= step <= 4), step
    return F.cross_entropy(parts[1](parts[0](x)), y) + 0 * parts[0](x).detach().sum()
import sys
""",
        None,
    ),
}


@pytest.mark.parametrize("name", CUTS)
def test_the_line_that_cuts_the_graph(name: str, tmp_path: Path) -> None:
    makes_loss, by = CUTS[name]
    script = COMMON + makes_loss + LOOP
    run_script(script, tmp_path)
    found = frozen(tmp_path)
    if by is None:
        assert [event["step"] for event in found] == [20] and found[0]["cut_by"] is None
        assert found[0]["where"]["line"] == line_of(script, "optimizer.step()")
    else:
        assert [event["step"] for event in found] == [3, 20]
        assert [(event["cut_by"], event["where"]["line"]) for event in found] == [(by, line_of(script, "# here"))] * 2


LOOP = """
optimizer = torch.optim.SGD([p for part in parts for p in part.parameters()], lr=0.01)
for step in range(25):
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()
"""

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
