"""Checkpoints of real loops: what each file holds, what was overwritten or deleted, and whether the best result is kept."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from probes.checkpoint_facts import CheckpointFacts
from probes.saved_files import HELD, Result, SavedFile, SavedFiles
from tests.probes.checkpoint_loops import COMMON, checkpoint_facts
from tests.probes.watched import events, line_of, read, run_script

LAST_ONLY = """
for epoch in range(6):
    train()
    loss = validate()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch, "loss": loss}, "last.pt")
"""


def test_a_save_after_the_last_step_is_a_signal_too(tmp_path: Path) -> None:
    run_script(COMMON + 'train()\ntorch.save(model.state_dict(), "model.pt")', tmp_path)
    said = [event["signals"]["checkpoints"] for event in events(read(tmp_path), "signals")]
    assert said[0] == "not visible" and said[-1] == "seen"


def test_a_worse_state_replaced_the_best(tmp_path: Path) -> None:
    saved, facts = checkpoint_facts(tmp_path, LAST_ONLY)
    assert [e["overwrites"] for e in saved] == [None, 3, 6, 9, 12, 15]
    assert [e["holds_step"] for e in saved] == [e["step"] for e in saved] == [3, 6, 9, 12, 15, 18]
    assert saved[2]["value"] == pytest.approx(0.04, abs=1e-5)
    assert saved[2]["scalars"] == {"epoch": 2, "loss": pytest.approx(0.04, abs=1e-5)}
    assert saved[0]["has_weights"] is True and saved[0]["has_optimizer"] is True
    assert {f["fact"] for f in facts} == {"best-checkpoint-not-saved"}
    assert (facts[-1]["best_step"], facts[-1]["overwritten"]) == (9, True)
    assert facts[-1]["best_value"] == pytest.approx(0.04, abs=1e-5) and facts[-1]["saved_value"] > 3
    assert facts[-1]["where"]["line"] == line_of(COMMON + LAST_ONLY, "torch.save(")


WRITTEN_HALF_A_SECOND_AGO = """
import os, time
open("notes.txt", "w").write("x" * 100_000)
os.utime("notes.txt", (time.time() - 0.5,) * 2)
"""


def test_a_file_written_just_before_is_not_taken_for_the_best_one(tmp_path: Path) -> None:
    """A fast loop: between its passes lie milliseconds, and seconds are what the clocks of some file systems know."""
    _, facts = checkpoint_facts(tmp_path, WRITTEN_HALF_A_SECOND_AGO + LAST_ONLY)
    assert {f["fact"] for f in facts} == {"best-checkpoint-not-saved"}


BEST_AND_LAST = """
for epoch in range(6):
    train()
    loss = validate()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 3 * epoch + 3}
    torch.save(state, "last.pt")
    if loss < best:
        best = loss
        KEEP
"""


@pytest.mark.parametrize(
    "keep",
    [
        'torch.save(state, "best.pt")',
        'shutil.copyfile("last.pt", "model_best.pt")',
        "kept = copy.deepcopy(model.state_dict())",
        "kept = copy.deepcopy(model)",
        "import io; buffer = io.BytesIO(); torch.save(state, buffer); sent = buffer.getvalue()",
    ],
)
def test_the_best_is_kept_in_a_file_by_a_copy_or_in_memory(tmp_path: Path, keep: str) -> None:
    _, facts = checkpoint_facts(tmp_path, BEST_AND_LAST.replace("KEEP", keep))
    assert facts == []


RENAMED = """
for epoch in range(6):
    train()
    loss = validate()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}, "new.tmp")
    os.makedirs("kept", exist_ok=True)
    os.replace("new.tmp", f"kept/epoch-{epoch}.pt")
"""


def test_files_that_are_renamed_once_written_are_not_taken_for_overwritten(tmp_path: Path) -> None:
    _, facts = checkpoint_facts(tmp_path, RENAMED)
    assert facts == []


def test_a_file_that_was_renamed_once_written_is_said_to_be_gone(tmp_path: Path) -> None:
    unique = RENAMED.replace('"new.tmp"', 'f"new-{epoch}.tmp"')
    checkpoint_facts(tmp_path, unique)
    chunk = read(tmp_path)
    assert len(events(chunk, "checkpoint")) == 6
    gone = [event["path"].rpartition("/")[2] for event in events(chunk, "checkpoint_deleted")]
    assert gone and set(gone) <= {f"new-{epoch}.tmp" for epoch in range(6)} and len(gone) == len(set(gone))


ROTATED = """
import time
def seen(text):
    while text not in open("run/rank-0/events.jsonl").read():
        time.sleep(0.01)
for epoch in range(6):
    train()
    validate()
    torch.save({"model": model.state_dict()}, f"epoch-{epoch}.pt")
    seen(f"epoch-{epoch}.pt")
    if epoch:
        os.remove(f"epoch-{epoch - 1}.pt")
seen('"saved_at_step": 12')
"""


def test_deleted_files_are_missed_and_weights_alone_do_not_resume(tmp_path: Path) -> None:
    _, facts = checkpoint_facts(tmp_path, ROTATED)
    deleted = events(read(tmp_path), "checkpoint_deleted")
    assert ("epoch-0.pt", 3) in [(Path(e["path"]).name, e["saved_at_step"]) for e in deleted]
    found = {f["fact"]: f for f in facts}
    assert (found["best-checkpoint-not-saved"]["best_step"], found["best-checkpoint-not-saved"]["overwritten"]) == (9, False)
    incomplete = found["checkpoint-incomplete"]
    assert (incomplete["has_optimizer"], incomplete["has_progress"]) == (False, False)


MANY_KINDS = """
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_model
train()
kept = copy.deepcopy(model.state_dict())
train()
model.load_state_dict(kept)
torch.save(model.state_dict(), "loaded.pt")
train()
save_model(model, "model.safetensors")
dcp.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, checkpoint_id="folder")
torch.save(kept, "kept.pt")
torch.save(model, "whole.pt")
torch.save(model.state_dict(), open("opened.pt", "wb"))
torch.save([1, 2], "list.pt")
"""


def test_other_ways_to_save(tmp_path: Path) -> None:
    saved, _ = checkpoint_facts(tmp_path, MANY_KINDS)
    found = {Path(e["path"]).name: (e["holds_step"], e["has_weights"], e["has_optimizer"]) for e in saved}
    assert found == {
        "loaded.pt": (None, True, False),  # not what this step trained
        "model.safetensors": (9, True, False),
        "folder": (9, True, True),
        "kept.pt": (None, True, False),
        "whole.pt": (9, True, False),
        "opened.pt": (9, True, False),
        "list.pt": (9, None, None),
    }
    assert {e["where"]["file"] for e in saved} == {str(tmp_path / "train.py")}


# The judgement alone


def judged(values: list[float], saves: dict[str, list[int]], final: bool = True, **of_file: Any) -> object:
    """`values` at steps 10, 20, ...; `saves`: path -> steps."""
    kept = SavedFiles()
    at = sorted({10 * i + 10 for i in range(len(values))} | {step for steps in saves.values() for step in steps})
    for step in at:
        if step % 10 == 0 and step // 10 <= len(values):
            kept.evaluated("loss", Result(step, values[step // 10 - 1], 100, float(step)))
        for path, steps in saves.items():
            if step in steps:
                kept.saved(SavedFile(path, step, float(step), step, **{"has_weights": True, "where": None, **of_file}))
    found = kept.judge(final)
    return found["best_step"] if isinstance(found, dict) else found


FALLS_AND_RISES = [3.0, 2.0, 1.0, 1.5, 2.5, 3.5]


@pytest.mark.parametrize(
    ("saves", "expected"),
    [
        ({"/last.pt": [60]}, 30),  # the last state alone
        ({"/last.pt": [10, 20, 30, 40, 50, 60]}, 30),
        ({"/last.pt": [20, 40, 60]}, 30),  # every second one
        ({"/5.pt": [50], "/6.pt": [60], "/4.pt": [40]}, 30),
        ({"/last.pt": [60], "/best.pt": [30]}, HELD),
        ({"/other.pt": [10, 20, 50]}, None),  # chosen, but not by the loss
        ({"/other.pt": [20], "/last.pt": [60]}, None),
        ({}, None),
    ],
)
def test_judgement_by_the_pattern_of_saves(saves: dict[str, list[int]], expected: object) -> None:
    assert judged(FALLS_AND_RISES, saves) == expected


def test_judgement_waits_for_two_worse_results_until_the_end() -> None:
    assert judged([3.0, 1.0, 2.0], {"/last.pt": [10, 20, 30]}, final=False) is None
    assert judged([3.0, 1.0, 2.0], {"/last.pt": [10, 20, 30]}) == 20
    assert judged([3.0, 1.0, 2.0, 2.5], {"/last.pt": [10, 20, 30, 40]}, final=False) == 20


CALM = [3.0, 2.0, 1.5, 1.2, 1.1, 1.05]


@pytest.mark.parametrize(
    ("values", "saves", "expected"),
    [
        ([*CALM, 1.5], range(10, 71, 10), 60),  # far above the noise of what was before
        ([*CALM, 1.07], range(10, 71, 10), HELD),  # as good, as far as can be known
        ([*CALM, 1.0, 1.5], range(20, 81, 20), None),  # the best was never saved, and a better one may be
        ([*CALM[:3], 2.5], range(10, 41, 10), None),  # nothing is known of the noise yet
    ],
)
def test_one_result_is_enough_where_its_state_replaced_the_best(values: list[float], saves: range, expected: object) -> None:
    assert judged(values, {"/last.pt": [*saves]}, final=False) == expected


def test_the_step_at_which_the_best_was_lost_does_not_depend_on_when_it_is_asked_for() -> None:
    kept = SavedFiles()
    found: list[object] = []
    for step, value in enumerate([*CALM, 1.5, 1.6, 1.7], 1):
        kept.evaluated("loss", Result(step, value, 100, float(step)))
        kept.saved(SavedFile("/last.pt", step, float(step), step, True, None))
        verdict = kept.judge(False)
        found.append(kept.lost_at("loss", 6) if isinstance(verdict, dict) else verdict)
    assert found == [None, *[HELD] * 5, 7, 7, 7]


def test_noise_that_is_known_only_later_does_not_put_off_the_step_at_which_the_best_was_lost() -> None:
    kept = SavedFiles()
    for step, value in enumerate([0.564, 0.4774, 0.5281, 0.5236, 0.543, 0.5919, 0.6573], 1):
        kept.evaluated("loss", Result(step, value, 100, float(step)))
        kept.saved(SavedFile("/last.pt", step, float(step), step, True, None))
    verdict = kept.judge(False)
    assert isinstance(verdict, dict) and (verdict["best_step"], kept.lost_at("loss", 2)) == (2, 4)
    assert kept.lost_at("loss", 7) is None  # no result came after it


def test_a_loop_that_validates_every_few_milliseconds_is_judged_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now, judged_at = 100.0, []
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    probe = CheckpointFacts(SimpleNamespace(transfer=None, facts=None, active=True, writer=SimpleNamespace(file=len)))  # type: ignore[arg-type]

    class SlowFiles(SavedFiles):
        def judge(self, final: bool) -> None:
            nonlocal now
            judged_at.append(now)
            now += 0.01

    probe.kept = SlowFiles()
    for step in range(1, 1001):
        probe.kept.evaluated("loss", Result(step, 1.0, 100, now))
        probe._look(False, False)
        now += 0.005
    assert len(judged_at) == 5 and judged_at[1] - judged_at[0] > 0.99
    probe._look(False, True)
    assert len(judged_at) == 6


def test_where_higher_is_better_the_best_is_lost_as_well() -> None:
    assert judged([-0.5, -0.6, -0.7, -0.75, -0.78, -0.8, -0.5], {"/last.pt": [*range(10, 71, 10)]}, final=False) == 60
    assert judged([-0.5, -0.6, -0.7, -0.75, -0.78, -0.8, -0.79], {"/last.pt": [*range(10, 71, 10)]}, final=False) == HELD


def test_another_model_is_judged_by_its_own_results() -> None:
    kept = SavedFiles()
    for model, values in enumerate(([0.8, 0.7, 0.6, 0.5, 0.4], [1.8, 1.7, 1.6, 1.5, 1.4])):
        for index, value in enumerate(values):
            step = 10 * (5 * model + index + 1)
            kept.evaluated("loss", Result(step, value, 100, float(step), model))
            kept.saved(SavedFile("/last.pt", step, float(step), step, True, None))
    assert kept.judge(True) == HELD


def test_nothing_is_said_of_what_cannot_be_compared() -> None:
    assert judged(FALLS_AND_RISES, {"/last.pt": [60]}, own_measure=True) is None
    assert judged([1.0, 1.004, 1.006], {"/last.pt": [30]}) == HELD  # as good
    noisy = [1.0, 1.3, 0.9, 1.2, 0.8, 1.25, 0.95, 1.3, 0.9, 1.1]
    assert judged(noisy, {"/last.pt": [100]}) == HELD
    assert judged([1.0], {"/last.pt": [10]}) is None
    assert judged([float("nan"), float("nan")], {"/last.pt": [20]}) is None
    kept = SavedFiles()
    kept.evaluated("loss", Result(0, 0.1, 2, 0.0))  # a sanity check before training
    for step, value in ((10, 2.0), (20, 1.0)):
        kept.evaluated("loss", Result(step, value, 100, 0.0))
    kept.saved(SavedFile("/last.pt", 20, 0.0, 20, True, None))
    assert kept.judge(True) == HELD
