"""Loops in other threads than the main one: looked at on the thread that trains, and left alone where two of them train at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from forgemon.reader import RunReader
from tests.probes.common_script import COMMON
from tests.probes.watched import column, events, read, run_script

TRAIN = (
    COMMON
    + """
import threading
from concurrent.futures import ThreadPoolExecutor
def train(steps, seed=0):
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x[:8]), y[:8]).backward()
        optimizer.step()
    return model
steps_of = [0, 0]
def train_beside(one):
    # Until both have, however late the machine let one of them begin.
    while min(steps_of) < 200:
        train(1)
        steps_of[one] += 1
"""
)

AT_ONCE = {
    "two threads": "threads = [threading.Thread(target=train_beside, args=(one,)) for one in range(2)]",
    "one beside the main thread": "threads = [threading.Thread(target=train_beside, args=(1,))]",
}


@pytest.mark.parametrize("budget", [0.0, 0.01])
@pytest.mark.parametrize("threads", AT_ONCE)
def test_two_that_train_at_once_are_left_alone(tmp_path: Path, threads: str, budget: float) -> None:
    """To read a gradient while another thread's backward pass writes it can corrupt the heap."""
    source = f"""{TRAIN}
sys.setswitchinterval(1e-4)
session = sys.modules["_forgemon_probe"].session
{AT_ONCE[threads]}
for thread in threads:
    thread.start()
if len(threads) == 1:
    train_beside(0)
for thread in threads:
    thread.join()
while session.active:
    pass  # what was asked of the main thread is done between two of its instructions
print("ended")
"""
    assert run_script(source, tmp_path, budget=budget).stdout == "ended\n"
    chunk = RunReader(tmp_path / "run").read(max_rows=1_000_000)
    assert events(chunk, "probe_error") == []
    assert [event["reason"].partition(":")[0] for event in events(chunk, "detached")] == ["two threads train at once"]


ONE_AFTER_THE_OTHER = {
    "threads": "for _ in range(3):\n    thread = threading.Thread(target=train, args=(5,))\n    thread.start()\n    thread.join()",
    "the main one first": "train(5)\nthread = threading.Thread(target=train, args=(10,))\nthread.start()\nthread.join()",
    "workers that wait": "pool = ThreadPoolExecutor(3)\nfor _ in range(3):\n    pool.submit(train, 5).result()",
}


@pytest.mark.parametrize("how", ONE_AFTER_THE_OTHER)
def test_threads_that_train_one_after_the_other_are_all_seen(tmp_path: Path, how: str) -> None:
    run_script(TRAIN + ONE_AFTER_THE_OTHER[how], tmp_path)
    chunk = read(tmp_path)
    assert len(column(chunk, "step")) == 15 and events(chunk, "detached") == []


def test_what_another_thread_asks_of_a_model_is_no_part_of_the_training(tmp_path: Path) -> None:
    source = f"""{TRAIN}
watched = torch.nn.Linear(8, 3)
optimizer = torch.optim.SGD(watched.parameters(), lr=0.1)
def ask():
    with torch.no_grad():
        F.cross_entropy(watched(x[64:]), y[64:])
for step in range(10):
    optimizer.zero_grad()
    F.cross_entropy(watched(x[:8]), y[:8]).backward()
    if step:
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    optimizer.step()
"""
    run_script(source, tmp_path)
    chunk = read(tmp_path)
    assert column(chunk, "batch_size").tolist() == [8.0] * 10
    assert events(chunk, "evaluation") == [] and events(chunk, "detached") == []


def test_what_another_thread_saves_is_seen(tmp_path: Path) -> None:
    source = f"""{TRAIN}
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(6):
    optimizer.zero_grad()
    F.cross_entropy(model(x[:8]), y[:8]).backward()
    optimizer.step()
    if step == 3:
        thread = threading.Thread(target=torch.save, args=(model.state_dict(), "model.pt"))
        thread.start()
        thread.join()
"""
    run_script(source, tmp_path)
    (saved,) = events(read(tmp_path), "checkpoint")
    assert saved["path"].endswith("model.pt") and saved["step"] == 4
