"""The probes may come and go at any moment: in the midst of torch's own work, and of modes in which tensors are not what they are."""

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
).replace("BOOTSTRAP", repr(str(PROBES / "bootstrap.py")))


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
    run_script(SCRIPT.replace("MOMENT", moment), tmp_path, watched=False)
    chunk = read(tmp_path)
    assert len(events(chunk, "attached")) == 1
    assert chunk.steps["step"].tolist() == [6, 7, 8, 9]
    assert (column(chunk, "gradients") == 4).all()


WITHIN_THE_LAST_HOOKS = (
    SCRIPT.partition("with MOMENT")[0]
    + """
import time
from torch.optim.optimizer import _global_optimizer_post_hooks as after, _global_optimizer_pre_hooks as before
def wait_until(done):
    end = time.monotonic() + 60  # seconds; a test that fails
    while not done() and time.monotonic() < end:
        pass
within = []
def at_last_hook(action):
    def hook(*_):
        action()
        for _ in range(1000): pass  # what another thread asks for comes between two instructions
        within.append(len(before) + len(after))
    handle = optimizer.register_step_post_hook(hook)
    train(1)
    handle.remove()
at_last_hook(lambda: namespace["start"]({"run_dir": "run", "mode": "attach", "forgemon": "test", "budget": 0.0}))
session = sys.modules["_forgemon_probe"].session
wait_until(lambda: before and after)
train(3)
at_last_hook(session.request_detach)
wait_until(lambda: not session.active)
print("hooks", within, len(before) + len(after))
"""
)


def test_within_the_last_hooks_of_a_step_they_wait_for_its_end_and_for_no_other_step(tmp_path: Path) -> None:
    """Which is no moment to change torch's hooks, and the step may be the last for long."""
    assert "hooks [0, 2] 0" in run_script(WITHIN_THE_LAST_HOOKS, tmp_path, watched=False).stdout
    chunk = read(tmp_path)
    assert chunk.steps["step"].tolist() == [7, 8, 9, 10]
    assert (column(chunk, "gradients") == 4).all()
    assert len(events(chunk, "detached")) == 1 and not events(chunk, "exiting")
