"""torch.compile of a part of the loop, and torch.export: compilers read code, and are to find the program's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.probes.common_script import COMMON, TRAIN
from tests.probes.watched import column, read, run_script

PARTS = {
    "clip": "def part(model): return torch.nn.utils.clip_grad_norm_(list(model.parameters()), 1.0)",
    "modes": "def part(model):\n    model.eval()\n    scores = model(x)\n    model.train()\n    return scores.sum()",
    "validation": "def part(model): return F.cross_entropy(model(x), y)",
    "zeros": "def part(model):\n    model.zero_grad()\n    return x.sum()",
}
LOOP = (
    COMMON
    + """
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scores = torch.nn.Linear(8, 3)
    def forward(self, x):
        return self.scores(x)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
    + TRAIN
)


def _same(source: str, folder: Path) -> None:
    plain = run_script(source, folder, watched=False)
    watched = run_script(source, folder)
    assert (watched.stdout, watched.stderr) == (plain.stdout, plain.stderr)
    assert len(column(read(folder), "step")) >= 20


@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.parametrize("part", PARTS)
def test_what_is_compiled_is_as_unwatched(tmp_path: Path, part: str, fullgraph: bool) -> None:
    if part in ("clip", "zeros") and fullgraph:
        pytest.skip("torch does not compile it in one graph")
    decorated = f"@torch.compile(backend='eager', fullgraph={fullgraph})\n{PARTS[part]}"
    _same(
        f"{LOOP}\n{decorated}\ntrain(12)\nprint(part(model).item())\ntrain(12)\nprint(model.scores.weight.sum().item())",
        tmp_path,
    )


def test_an_export_is_as_unwatched(tmp_path: Path) -> None:
    exported = "torch.export.export(model, (x,), strict=True)"
    _same(
        f"{LOOP}\ntrain(12)\nprint({exported}.module()(x).sum().item())\ntrain(12)\nprint(model.scores.weight.sum().item())",
        tmp_path,
    )
