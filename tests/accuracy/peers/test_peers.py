"""Every rule runs over a run directory as it stands on disk, and what they claim is in the symptom table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forgemon.symptoms import SYMPTOMS
from tests.accuracy.peers import NOT_DECIDED, RULES, TOOLS, Trace, alarms_of, trace_of, trace_of_chunks
from tests.accuracy.peers.__main__ import main
from tests.accuracy.peers.built import built, evaluations, gradients, updates
from tests.recorded import RunFiles, small_run

KNOWN_CAUSES = {cause.id for symptom in SYMPTOMS.values() for cause in symptom.causes}


def bad_run() -> Trace:
    """A run of which nearly every rule has something to say."""
    up = np.geomspace(1, 1e9, 400)
    losses = np.concatenate([np.ones(200), up, [np.nan] * 5])
    norms = np.geomspace(1e-9, 1e12, len(losses))
    norms[100:200] = 1e-9
    return built(
        losses,
        gradient_norms=np.append(norms[:-1], np.inf),
        gradient_known=np.ones(len(norms), bool),
        learning_rates=np.full(len(norms), 1.0),
        gradients=gradients(norms),
        updates=updates(norms, np.where(np.arange(len(norms)) % 20 < 10, 100.0, 0.0) * norms),
        evaluations=evaluations(np.linspace(1, 5, 40), np.ones(40)),
    )


def test_every_claim_is_an_id_of_the_symptom_table() -> None:
    for tool in TOOLS:
        alarms = alarms_of(tool, bad_run())
        assert alarms, tool
        for alarm in alarms:
            assert alarm.tool == tool and alarm.symptoms <= set(SYMPTOMS) and alarm.causes <= KNOWN_CAUSES, alarm


def test_every_rule_belongs_to_one_tool() -> None:
    assert sorted(name for names in TOOLS.values() for name in names) == sorted(RULES)
    assert set(NOT_DECIDED) <= set(TOOLS)


def test_a_trace_is_what_the_run_directory_holds(tmp_path: Path) -> None:
    small_run(tmp_path / "run")
    trace = trace_of(tmp_path / "run")
    assert trace.steps.tolist() == list(range(1, 31)) and trace.loss_known.all()
    assert [table.names for table in trace.gradients] == [("weight", "bias"), ("weight",)]
    assert trace.gradients[0].norms.shape == (14, 2) and np.isinf(trace.gradients[0].norms[2, 1])
    assert trace.updates[0].steps.tolist() == [1, 5, 9, 13] and trace.updates[1].weight_norms[0, 0] == 4
    assert [evaluation.step for evaluation in trace.evaluations] == [10, 20, 30]
    assert trace.metrics["accuracy/top 1"][1].tolist() == [0.1, 0.2, 0.3]


def test_the_norm_is_the_one_before_the_loops_own_clipping(tmp_path: Path) -> None:
    files = RunFiles(tmp_path / "run")
    files.info()
    files.step(1, loss=1, gradient_norm=1, gradient_norm_before_clip=7)
    files.step(2, loss=float("nan"), gradient_norm=3)
    files.step(3, gradient_norm=float("nan"))
    files.step(4)
    trace = trace_of(tmp_path / "run")
    assert trace.gradient_norms[:2].tolist() == [7, 3] and trace.gradient_known.tolist() == [True, True, True, False]
    assert trace.loss_known.tolist() == [True, True, False, False]


@pytest.mark.parametrize("name", RULES)
def test_a_rule_has_nothing_to_say_of_an_empty_run(name: str) -> None:
    assert RULES[name](trace_of_chunks([])) == []


def test_the_command_prints_each_tools_alarms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = RunFiles(tmp_path / "run")
    files.info()
    for step in range(1, 30):
        files.step(step, loss=1.0, learning_rate=0.5)
    main([str(tmp_path / "run")])
    printed = capsys.readouterr().out
    assert "step 11  LossNotDecreasing (2 times): the loss went from 1 to 1" in printed
    assert "LRHigh" in printed and "ZClip: no alarm" in printed
