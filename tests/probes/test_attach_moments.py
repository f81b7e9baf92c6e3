"""The probes may come at any moment: in the midst of torch's own work, and of modes in which tensors are not what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.probes.common_script import COMMON
from tests.probes.watched import PROBES, column, events, read, run_script

SCRIPT = (
    COMMON
    + """
import contextlib, sys, types
from torch._subclasses.fake_tensor import FakeTensorMode, in_kernel_invocation_manager
from torch.utils.flop_counter import FlopCounterMode
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
def train(steps):
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

@contextlib.contextmanager
def in_a_fake_kernel():
    with FakeTensorMode() as mode, in_kernel_invocation_manager(mode):
        yield
        assert torch._C._meta_in_tls_dispatch_include()
    assert not torch._C._meta_in_tls_dispatch_include()

@contextlib.contextmanager
def importing():
    name = "torch._dynamo.eval_frame"
    before = sys.modules.get(name)
    sys.modules[name] = types.ModuleType(name)
    yield
    del sys.modules[name]
    if before is not None:
        sys.modules[name] = before

train(5)
bootstrap = BOOTSTRAP
namespace = {"__name__": "_forgemon_bootstrap", "__file__": bootstrap}
exec(compile(open(bootstrap).read(), bootstrap, "exec"), namespace)
with MOMENT:
    namespace["start"]({"run_dir": "run", "mode": "attach", "forgemon": "test", "budget": 0.0})
train(4)
"""
)


@pytest.mark.parametrize(
    "moment",
    [
        "FakeTensorMode()",
        "in_a_fake_kernel()",
        "FlopCounterMode(display=False)",
        "torch.device('meta')",
        "torch.inference_mode()",
        "importing()",
    ],
)
def test_the_probes_come_in_at(moment: str, tmp_path: Path) -> None:
    source = SCRIPT.replace("BOOTSTRAP", repr(str(PROBES / "bootstrap.py"))).replace("MOMENT", moment)
    run_script(source, tmp_path, watched=False)
    chunk = read(tmp_path)
    assert len(events(chunk, "attached")) == 1
    assert chunk.steps["step"].tolist() == [6, 7, 8, 9]
    assert (column(chunk, "gradients") == 4).all()
