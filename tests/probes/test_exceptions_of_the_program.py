"""Exceptions that the program sends itself, by a signal or from another thread, reach it whatever code of ours they fall into."""

from __future__ import annotations

import os
import queue
from pathlib import Path

import pytest
import torch

from probes import guard
from probes.interrupts import is_ours_or_library
from tests.probes.common_script import COMMON
from tests.probes.watched import column, read, run_script

HANDLERS = {
    "an object": "class Handler:\n    def __call__(self, number, frame):\n        come()\nhandler = Handler()",
    "a partial": "def handle(extra, number, frame):\n    come()\nhandler = functools.partial(handle, 1)",
    "any arguments": "handler = lambda *values: come()",
    "one that takes itself out": ("def handler(number, frame):\n    signal.signal(number, signal.SIG_IGN)\n    come()"),
}
SENT = (
    COMMON
    + """
import ctypes, functools, signal, threading
class Late(Exception): ...
came = caught = 0
def come():
    global came
    came += 1
    raise Late
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
# Within a function of ours, which the exception is to leave.
steps, send = sys.modules["_forgemon_probe"].session.steps, None
observed = steps._observed
def interrupted(*values):
    if send is not None:
        send()
    observed(*values)
steps._observed = interrupted
interrupted.__code__ = interrupted.__code__.replace(co_filename=sys.modules["_forgemon_probes.steps"].__file__)
def train(steps):
    global caught
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        try:
            optimizer.step()
        except Late:
            caught += 1
train(5)
"""
)


@pytest.mark.parametrize("handler", HANDLERS)
def test_of_a_handler(tmp_path: Path, handler: str) -> None:
    source = f"""{SENT}
{HANDLERS[handler]}
def send():
    signal.signal(signal.SIGALRM, handler)
    signal.raise_signal(signal.SIGALRM)
train(20)
assert came == caught == 20, (came, caught)
send = None
train(5)
"""
    run_script(source, tmp_path)
    assert column(read(tmp_path), "step").tolist()[-5:] == [26, 27, 28, 29, 30]


LEAVING = (
    COMMON
    + """
import signal
class Late(Exception): ...
def handler(number, frame):
    raise Late
signal.signal(signal.SIGALRM, handler)
leave, sent = torch.no_grad.__exit__, 0
def interrupted(context, *how):
    global sent
    if sys._getframe(1).f_globals["__name__"].startswith("_forgemon_probes."):
        sent += 1
        signal.raise_signal(signal.SIGALRM)
    leave(context, *how)
torch.no_grad.__exit__ = interrupted
optimizer, caught = torch.optim.SGD(model.parameters(), lr=0.1), 0
for _ in range(20):
    try:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    except Late:
        caught += 1
        assert torch.is_grad_enabled()
assert caught == sent > 0, (caught, sent)
"""
)


def test_that_falls_into_the_end_of_a_no_grad_of_ours(tmp_path: Path) -> None:
    run_script(LEAVING, tmp_path)


def test_from_another_thread(tmp_path: Path) -> None:
    source = f"""{SENT}
me = threading.get_ident()
def raise_here():
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(me), ctypes.py_object(Late))
def send():
    thread = threading.Thread(target=raise_here)
    thread.start()
    thread.join()
# The exception is to fall into code that counts as ours.
send.__code__ = send.__code__.replace(co_filename=interrupted.__code__.co_filename)
train(20)
assert caught == 20, caught
send = None
train(5)
"""
    run_script(source, tmp_path)
    assert column(read(tmp_path), "step").tolist()[-5:] == [26, 27, 28, 29, 30]


def test_an_error_of_code_of_the_programs_that_we_call_stays_with_us(tmp_path: Path) -> None:
    source = SENT.replace("def interrupted(*values):", "def fails():\n    raise Late\ndef interrupted(*values):")
    done = run_script(f"{source}\nsend = fails\ntrain(3)\nassert caught == 0\nprint('on')", tmp_path)
    assert done.stdout == "on\n"


def test_scripts_and_traces_are_as_they_are(tmp_path: Path) -> None:
    source = f"""{COMMON}
import warnings
script = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(8, 3)))
optimizer = torch.optim.SGD(script.parameters(), lr=0.1)
for _ in range(5):
    optimizer.zero_grad()
    F.cross_entropy(script(x), y).backward()
    optimizer.step()
class Loss(torch.nn.Module):
    def forward(self, scores):
        return F.cross_entropy(scores, y)
with warnings.catch_warnings():
    warnings.simplefilter("error", torch.jit.TracerWarning)
    graph = str(torch.jit.trace(Loss(), x[:, :3]).graph)
print(len(graph), "output" in graph)
"""
    plain = run_script(source, tmp_path, watched=False).stdout
    assert run_script(source, tmp_path).stdout == plain
    assert len(column(read(tmp_path), "step")) == 5  # and read() fails on any recorded error of the probe


def test_installed_packages_are_the_programs() -> None:
    standard = os.path.dirname(os.__file__)
    ours = [guard.__file__, torch.__file__, queue.__file__, f"{standard}/concurrent/futures/thread.py"]
    theirs = ["/home/me/train.py", f"{standard}/site-packages/package/train.py", f"{standard}/dist-packages/package/train.py"]
    assert [is_ours_or_library(file) for file in [*ours, *theirs]] == [True] * 4 + [False] * 3
