"""The panels that say what was found, as lines of text: findings, verdict, checklist, details and the note on the loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from forgemon.findings import Check
from forgemon.tui.frame import Frame, Mark
from forgemon.tui.screens import details
from forgemon.tui.widgets import checklist, findings, loop_note, timeline, verdict
from tests.tui.drawn import FINDING, with_findings
from tests.tui.runs import INK, frame_of, text_of


def test_a_finding_says_level_symptom_line_reason_and_fix(healthy: Frame) -> None:
    shown = text_of(findings.lines(with_findings(healthy, FINDING), 70, 12, INK))
    for part in (
        "ALARM",
        "missing-zero-grad",
        "since step 3",
        "train.py:41  loss.backward()",
        "already used, 88",
        "fix  call optimizer",
    ):
        assert part in shown, part


def test_the_selected_finding_is_always_on_the_screen(healthy: Frame) -> None:
    many = with_findings(healthy, *(replace(FINDING, symptom=f"symptom-{i}") for i in range(12)))
    for i in range(12):
        assert f"symptom-{i}" in text_of(findings.lines(many, 60, 9, INK, i, True))


def test_no_finding_is_not_called_fine(healthy: Frame, panel_runs: Path) -> None:
    assert "No findings so far" in text_of(findings.lines(with_findings(healthy), 60, 9, INK))
    assert "not visible" in text_of(findings.lines(with_findings(healthy), 60, 9, INK))
    assert "Nothing to judge yet" in text_of(findings.lines(frame_of(panel_runs / "waiting"), 60, 9, INK))


def test_before_a_finding_the_replay_says_that_one_is_coming(panel_runs: Path) -> None:
    early = frame_of(panel_runs / "broken", step=20)
    assert "press n" in text_of(findings.lines(early, 60, 9, INK))
    assert "ahead" in text_of(timeline.lines(early, 80, 2, INK))
    assert "press n" in text_of(verdict.lines(early, 100, 1, INK))


def test_where_a_finding_begins_that_only_later_steps_show_the_replay_says_so(healthy: Frame) -> None:
    mark = Mark(healthy.cursor, "finding", "alarm", "loss-climbs")
    here = replace(with_findings(healthy), following=False, marks=(mark,))
    assert "loss-climbs begins here" in text_of(findings.lines(here, 60, 9, INK))
    assert "loss-climbs begins here" in text_of(verdict.lines(here, 80, 1, INK))
    assert "begins here" not in text_of(findings.lines(replace(here, cursor=here.cursor + 1), 60, 9, INK))


def test_a_finding_that_is_over_says_until_when_it_stood() -> None:
    assert findings.since(replace(FINDING, first_step=3, last_step=1200, stands=False)) == "steps 3 to 1,200, no longer"


@pytest.mark.parametrize("height", [1, 3])
def test_the_verdict_names_the_worst_finding_and_its_line(healthy: Frame, height: int) -> None:
    shown = text_of(verdict.lines(with_findings(healthy, FINDING, FINDING), 80, height, INK))
    assert "ALARM" in shown and "missing-zero-grad" in shown and "since step 3" in shown and "train.py:41" in shown
    assert "+1 more" in shown and ("fix" in shown or height == 1)


def test_the_checklist_answers_in_words(healthy: Frame) -> None:
    checks = (
        Check("zeroed", "Are gradients zeroed?", "no", 3, "88 steps reused theirs"),
        Check("train-mode", "Is train() on?", "yes", 1, ""),
        Check("data-apart", "Is validation data apart?", "not visible", None, "samples were not compared"),
    )
    frame = replace(healthy, report=replace(healthy.report, checklist=checks))
    rows = text_of(checklist.lines(frame, 40, 3, INK)).splitlines()
    assert rows[0].startswith("✗ Are gradients zeroed?") and rows[0].endswith("no")
    assert rows[1].startswith("✓") and rows[1].endswith("yes") and rows[2].startswith("?") and rows[2].endswith("not visible")
    assert "88 steps reused theirs" in text_of(checklist.lines(frame, 80, 12, INK))
    brief = text_of(checklist.brief(frame, 80, 2, INK)).splitlines()
    assert "1 no" in brief[0] and "1 not visible" in brief[0] and brief[1].split()[:2] == ["✗", "zeroed"]


def test_details_hold_everything_known_of_a_finding() -> None:
    shown = details.body_of(FINDING, INK).plain
    for part in ("ALARM", "88 times", "/home/ada/train.py:41", "in train", "→    41", "loss.backward()", "optimizer.step()"):
        assert part in shown, part
    assert "share_reused" in shown and "1.000" in shown and "a zero_grad() between" in shown and FINDING.fix in shown


def test_the_note_gives_each_answer_beside_its_label_and_one_paragraph_where_that_does_not_fit(healthy: Frame) -> None:
    wide = text_of(loop_note.lines(healthy, 80, 30, INK))
    labels = ("best checkpoint", "curves", "first failure", "✓ stable enough")
    assert [line[:17].strip() for line in wide.splitlines() if line[:17].strip()] == list(labels)
    narrow = text_of(loop_note.lines(healthy, 40, 30, INK))
    assert narrow.startswith("Best ") and not any(label in narrow for label in labels[1:])
