"""torch's profiler with stacks, in the middle of which we come and go: it reads names of our functions when these are gone."""

from __future__ import annotations

from pathlib import Path

from tests.probes.common_script import COMMON, TRAIN
from tests.probes.watched import ATTACH, attach_argument, run_script

PROFILED = (
    COMMON
    + ATTACH
    + TRAIN
    + """
import gc
from torch.profiler import ProfilerActivity, profile
model = torch.nn.Linear(8, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
session = attach()
with profile(activities=[ProfilerActivity.CPU], with_stack=True) as profiled:
    train(1)
    if session is not None:
        session.leave("test")
        session.writer._ended.acquire()
    session = None
    gc.collect()
    # What takes the place of what is gone.
    others = ["\xff" * (length % 90) for length in range(200_000)]
    train(1)
names = [event.name for event in profiled.events()]
print("forward" in str(names), names.count("aten::linear"))
"""
)


def test_a_profile_is_read_after_we_have_left(tmp_path: Path) -> None:
    plain = run_script(PROFILED, tmp_path, "{}", watched=False)
    watched = run_script(PROFILED, tmp_path, attach_argument(tmp_path), watched=False)
    assert watched.stdout == plain.stdout


CALLED = (
    COMMON
    + ATTACH
    + TRAIN
    + """
model = torch.nn.Linear(8, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
called = []
sys.setprofile(lambda frame, kind, arg: called.append(frame.f_code) if kind == "call" else None)
session = attach()
train(3)
sys.setprofile(None)
names = sys.modules["_forgemon_probes.held_names"]
held = {id(name) for code in names._codes() for name in (code.co_filename, code.co_name)}
ours = {code for code in called if code.co_filename.startswith(names._OURS)}
print(len(ours) > 300, sorted(code.co_name for code in ours if not {id(code.co_filename), id(code.co_name)} <= held))
"""
)


def test_whatever_of_ours_was_called_has_names_that_are_held(tmp_path: Path) -> None:
    """Also what runs as a module is loaded, such as the body of a class."""
    done = run_script(CALLED, tmp_path, attach_argument(tmp_path), watched=False)
    assert done.stdout == "True []\n"
