"""Whether what is saved at one step is enough to go on from."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from tests.probes.checkpoint_loops import COMMON
from tests.probes.watched import run_script

WEIGHTS_FIRST = """
import json, sys
def incomplete():
    session = sys.modules["_forgemon_probe"].session
    session.writer.flush(30)
    return [(e["kind"], e["step"]) for e in map(json.loads, open("run/rank-0/events.jsonl")) if e.get("fact") == "checkpoint-incomplete"]
def save_all(folder):
    os.makedirs(folder, exist_ok=True)
    torch.save(model.state_dict(), f"{folder}/model.pt")
    torch.save(optimizer.state_dict(), f"{folder}/optimizer.pt")
    torch.save({"epoch": 1}, f"{folder}/progress.pt")
train()
torch.save(model.state_dict(), "best.pt")
print(incomplete())
train()
print(incomplete())
MORE
train()
print(incomplete())
"""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('torch.save(model.state_dict(), "best.pt")', [("fact", 3), ("fact", 6)]),
        ('save_all("last")', [("fact", 3), ("fact_gone", 6)]),
        ('torch.save(model.state_dict(), "best.pt"); save_all("last")', [("fact", 3), ("fact_gone", 6)]),
    ],
    ids=["weights again", "all", "both"],
)
def test_weights_alone_are_told_at_the_next_step_until_all_is_saved(tmp_path: Path, more: str, said: list[Any]) -> None:
    done = run_script(COMMON + WEIGHTS_FIRST.replace("MORE", more), tmp_path)
    assert done.stderr == ""
    lines = [ast.literal_eval(line) for line in done.stdout.splitlines()]
    assert lines == [[], said[:1], said]
