"""Programs that look at frames, code and references see those that they would see unwatched."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.probes.common_script import COMMON
from tests.probes.watched import column, read, run_script

LOOP = (
    COMMON
    + """
import os, pickle, traceback, warnings
warnings.simplefilter("always")
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scores = torch.nn.Linear(8, 3)
    def forward(self, *inputs):
        LOOKS
        return self.scores(inputs[0])
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(8):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    THEN
print(loss.item())
"""
)
LOOKS = {
    "a warning": (
        "warnings.warn('of the loop', stacklevel=2)",
        "F.mse_loss(torch.zeros(2, 1), torch.zeros(2))",  # torch warns of the line that calls it
    ),
    "depth": ("print([frame.name for frame in traceback.extract_stack()])", "pass"),
    "a traceback": (
        "pass",
        "\n    try: F.cross_entropy(x, y + 9)\n    except IndexError: print(traceback.format_exc())",
    ),
    "a trace of the graph": ("pass", "print(torch.fx.symbolic_trace(model).code)"),
    "a copy for another process": (
        "pass",
        "import cloudpickle; print(type(pickle.loads(cloudpickle.dumps(model))(x)))",
    ),
    "variables that it keeps": ("self.kept = locals(); later = 1", "print(sorted(model.kept))"),
    "references": ("print(sys.getrefcount(inputs), sys.getrefcount(inputs[0]))", "pass"),
}


@pytest.mark.parametrize("looks", LOOKS)
def test_what_the_program_sees_of_itself_is_the_same(tmp_path: Path, looks: str) -> None:
    if looks == "a copy for another process":
        pytest.importorskip("cloudpickle")
    within, then = LOOKS[looks]
    source = LOOP.replace("LOOKS", within).replace("THEN", then)
    plain = run_script(source, tmp_path, watched=False)
    watched = run_script(source, tmp_path)
    assert (watched.stdout, watched.stderr) == (plain.stdout, plain.stderr)
    assert len(column(read(tmp_path), "step")) == 8


def test_a_forward_that_calls_itself_goes_as_deep_as_it_may(tmp_path: Path) -> None:
    source = f"""{COMMON}
class Nested(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scores = torch.nn.Linear(8, 3)
    def forward(self, x, depth):
        return self(x, depth - 1) if depth else self.scores(x)
model = Nested()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def train(depth):
    optimizer.zero_grad()
    F.cross_entropy(model(x, depth), y).backward()
    optimizer.step()
def deepest():
    for depth in range(400, 0, -1):
        try:
            train(depth)
            return depth
        except RecursionError:
            pass
train(20)
print(deepest())
"""
    plain = int(run_script(source, tmp_path, watched=False).stdout)
    assert plain > 100
    # The innermost has to call what is observed, too.
    assert plain - 3 <= int(run_script(source, tmp_path).stdout) <= plain
