"""torch.compile of a part of the loop, and torch.export: compilers read code, and are to find the program's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.probes.common_script import COMMON, TRAIN
from tests.probes.watched import ATTACH, attach_argument, column, read, run_fresh

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
    plain = run_fresh(source, folder, watched=False)
    watched = run_fresh(source, folder)
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


def _same_attached(source: str, folder: Path) -> None:
    """`source` calls attach() when it has compiled what it compiles."""
    plain = run_fresh(LOOP + ATTACH + source, folder, "{}", watched=False)
    watched = run_fresh(LOOP + ATTACH + source, folder, attach_argument(folder), watched=False)
    assert (watched.stdout, watched.stderr) == (plain.stdout, plain.stderr)


@pytest.mark.parametrize("part", PARTS)
def test_what_was_compiled_before_we_came_is_first_read_after(tmp_path: Path, part: str) -> None:
    source = (
        f"@torch.compile(backend='eager')\n{PARTS[part]}\ntrain(3)\nattach()\ntrain(12)\nprint(part(model).item())\ntrain(12)\n"
    )
    _same_attached(source + "print(model.scores.weight.sum().item())", tmp_path)
    assert len(column(read(tmp_path), "step")) == 24


def test_what_was_compiled_before_we_came_is_read_again_for_other_shapes(tmp_path: Path) -> None:
    source = """
@torch.compile(backend="eager")
def part(n):
    model.eval()
    loss = F.cross_entropy(model(x[:n]), y[:n])
    model.train()
    return loss
print(part(20).item())
attach()
for n in (21, 30, 96):
    train(5)
    print(part(n).item())
"""
    _same_attached(source, tmp_path)
    assert len(column(read(tmp_path), "step")) == 15


def test_where_a_model_alone_is_compiled_the_loop_is_seen(tmp_path: Path) -> None:
    source = """
compiled = torch.compile(model, backend="eager")
attach()
for step in range(8):
    optimizer.zero_grad()
    F.cross_entropy(compiled(x), y).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    optimizer.step()
print(model.scores.weight.sum().item())
"""
    _same_attached(source, tmp_path)
    before_clip = column(read(tmp_path), "gradient_norm_before_clip")
    assert len(before_clip) == 8 and (before_clip > 0.01).all()
