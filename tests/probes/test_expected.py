"""What follows a rare call, and passes that begin with nothing rare, are looked at between observed steps too."""

from __future__ import annotations

from pathlib import Path

from forgemon.chunk import Chunk
from probes.expected import MARGIN, MOST, ExpectedPass
from probes.schedule import OBSERVE, Plan
from tests.probes.watched import events, read, run_script

LOOP = """
import torch
import torch.nn.functional as F
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.1), torch.nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
x, y = torch.randn(64, 8), torch.randint(0, 3, (64,))
def evaluate():
    BEFORE
    with torch.no_grad():
        for part in range(4):
            val_loss = F.cross_entropy(model(x + part), y).item()
    AFTER
    return val_loss
def train():
    for step in range(1, 4001):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 400 == 0:
            val_loss = evaluate()
train()
"""


def first_told(log: Chunk, fact: str) -> int:
    return next(int(event["step"]) for event in events(log, "fact") if event["fact"] == fact)


def test_a_pass_that_begins_with_nothing_rare_is_seen_once_two_results_tell_when_it_comes(tmp_path: Path) -> None:
    run_script(LOOP.replace("BEFORE", "pass").replace("AFTER", "model.train()"), tmp_path, budget=0.01)
    log = read(tmp_path)
    passes = [event for event in events(log, "evaluation") if event["batches"]]
    assert [event["step"] for event in passes][:2] == [1200, 1600] and passes[0]["training"] is True
    assert first_told(log, "eval-in-train-mode") == 1200
    assert len(log.steps) < 2000


def test_a_model_that_a_pass_left_in_evaluation_mode_is_seen_in_the_steps_after_it(tmp_path: Path) -> None:
    run_script(LOOP.replace("BEFORE", "model.eval()").replace("AFTER", "pass"), tmp_path, budget=0.01)
    assert first_told(read(tmp_path), "train-in-eval-mode") <= 404


def test_it_is_waited_for_awake() -> None:
    expected, long = ExpectedPass(), Plan(100, True)
    expected.missed(300)
    assert expected.awake_for(long, 350) == long  # one alone tells nothing
    expected.missed(400)
    expected.missed(401)  # another number of the same pass
    assert expected.awake_for(long, 500 - MARGIN - 101) == long  # it is not within that sleep
    assert expected.awake_for(long, 450) == Plan(50 - MARGIN - 1, False)  # wakes before the first of them
    assert all(expected.awake_for(long, step) == OBSERVE for step in range(500 - MARGIN - 1, 500 + MARGIN + 1))
    assert expected.awake_for(long, 500 + MARGIN + 1) == long


def test_what_comes_at_no_fixed_distance_is_given_up() -> None:
    expected = ExpectedPass()
    steps = [100 * number * number for number in range(1, 3 * MOST)]
    waited = 0
    for step in steps:
        expected.missed(step)
        waited += any(expected.awake_for(Plan(1, False), later) == OBSERVE for later in range(step + 1, 3 * step))
    assert waited == MOST
