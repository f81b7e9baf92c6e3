"""Loops of all kinds end watched as they end unwatched, to the last bit: at any budget, and while we come and go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.probes.watched import PROBES, events, read, run_fresh

HERE = Path(__file__).parent
LOOPS = (HERE / "loops_of_all_kinds.py").read_text()
COME_AND_GO = (HERE / "come_and_go.py").read_text()
KINDS = ("mlp", "cnn", "transformer", "mixed_precision", "accumulation", "lbfgs", "gan", "workers")
STEPS = 60 + 60 + 60 + 60 + 20 + 30 + 80 + 36


@pytest.fixture(scope="module")
def unwatched(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    done = run_fresh(LOOPS, tmp_path_factory.mktemp("unwatched"), watched=False)
    for kind in KINDS:
        assert f"\n{kind} weights" in done.stdout
    return done.stdout, done.stderr


@pytest.mark.parametrize("budget", [0.0, 0.01])
def test_watched(tmp_path: Path, unwatched: tuple[str, str], budget: float) -> None:
    done = run_fresh(LOOPS, tmp_path, budget=budget)
    assert (done.stdout, done.stderr) == unwatched
    rows = len(read(tmp_path).steps)
    assert rows == STEPS if budget == 0 else 32 <= rows < STEPS


def test_attached_and_detached_at_random_moments(tmp_path: Path, unwatched: tuple[str, str]) -> None:
    config = {"bootstrap": str(PROBES / "bootstrap.py"), "runs": str(tmp_path), "seed": 1}
    done = run_fresh(COME_AND_GO + LOOPS, tmp_path, json.dumps(config), watched=False)
    assert (done.stdout, done.stderr) == unwatched
    runs = [folder for folder in tmp_path.iterdir() if folder.name.isdigit()]
    assert len(runs) >= 3
    rows = 0
    for folder in runs:
        (tmp_path / "run").unlink(missing_ok=True)
        (tmp_path / "run").symlink_to(folder)
        chunk = read(tmp_path)
        assert [len(events(chunk, kind)) for kind in ("attached", "detached", "exiting")] == [1, 1, 0]
        rows += len(chunk.steps)
    assert 30 < rows < STEPS
