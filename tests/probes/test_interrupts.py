"""An interrupt that falls into what we do between two instructions of the program, or while we forget an optimizer, is the program's."""

from __future__ import annotations

from pathlib import Path

import pytest

from forgemon.reader import RunReader
from tests.probes.watched import events, read, run_script

INTERRUPTED = """
import os, signal, sys, torch
session = sys.modules["_forgemon_probe"].session
linear = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(linear.parameters(), lr=0.1)
def step():
    linear(torch.ones(2)).sum().backward()
    optimizer.step()
step()
code = torch.autograd.backward.__code__
def interrupted(*_):
    signal.raise_signal(signal.SIGINT)
    for _ in range(1000): pass
WHEN
try:
    session._moment.on_main_thread(ASKED)
    while True: pass
except KeyboardInterrupt:
    print("interrupted")
step()
if not session.active:
    session.writer._ended.acquire()
    assert sys.version_info >= (3, 12) or torch.autograd.backward.__code__ is not code
print(session.active, not sys.modules["torch.optim.optimizer"]._global_optimizer_pre_hooks)
"""


@pytest.mark.parametrize(
    ("when", "asked", "ends"),
    [
        ("session.steps.wake_blind = interrupted", "session.steps.wake_blind", "True False"),
        ("session.taken_out.append(interrupted)", 'lambda: session.leave("asked to")', "False True"),
    ],
)
def test_an_interrupt_that_falls_into_what_we_do_between_two_instructions(
    tmp_path: Path, when: str, asked: str, ends: str
) -> None:
    """It is the program's, and a leave comes to its end all the same."""
    done = run_script(INTERRUPTED.replace("WHEN", when).replace("ASKED", asked), tmp_path)
    assert (done.stdout, done.stderr) == (f"interrupted\n{ends}\n", "")
    assert [event["reason"] for event in events(read(tmp_path), "detached")] == ["asked to"] * ends.startswith("False")


FORGOTTEN = """
import signal, sys, torch
session = sys.modules["_forgemon_probe"].session
linear = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(linear.parameters(), lr=0.1)
linear(torch.ones(2)).sum().backward()
optimizer.step()
(known,) = session.optimizers.everyone()
def interrupted():
    del known.let_go
    signal.raise_signal(signal.SIGINT)
    for _ in range(1000): pass
known.let_go = interrupted
try:
    del optimizer
    for _ in range(10_000_000): pass
except KeyboardInterrupt:
    print("interrupted")
print(known.parameters, session.optimizers.everyone())
"""


def test_an_interrupt_that_comes_while_an_optimizer_is_forgotten(tmp_path: Path) -> None:
    """What a weak reference calls, no exception can leave."""
    done = run_script(FORGOTTEN, tmp_path)
    assert (done.stdout, done.stderr) == ("interrupted\n[] []\n", "")
    read(tmp_path)


FORGOTTEN_IN_PART = (
    FORGOTTEN.partition("def interrupted")[0]
    + """
known.let_go = lambda: 1 / 0
del optimizer
print(session.optimizers.everyone())
"""
)


def test_an_optimizer_whose_forgetting_fails_is_not_taken_for_the_next_at_its_address(tmp_path: Path) -> None:
    assert run_script(FORGOTTEN_IN_PART, tmp_path).stdout == "[]\n"
    (error,) = events(RunReader(tmp_path / "run").read(max_rows=1000), "probe_error")
    assert error["error"] == "ZeroDivisionError: division by zero"
