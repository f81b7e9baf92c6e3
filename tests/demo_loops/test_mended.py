"""The fix of each fault, followed by hand in its demo loop: then nothing is found any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from forgemon.demos import demos, symptom_shown
from forgemon.detectors import DETECTED
from forgemon.symptoms import SYMPTOMS
from tests.demo_loops.expected import NOT_ON_EVERY_MACHINE, shortened
from tests.demo_loops.fixes import FOLLOWED, words_followed
from tests.demo_loops.followed_calls import CALLS, MACHINE
from tests.demo_loops.followed_curves import CURVES
from tests.demo_loops.mending import Followed, assert_nothing_is_found, edited
from tests.demo_loops.watched_demo import watched


def test_every_fix_is_followed() -> None:
    rows = {demo.replace("-", "_"): symptom for demo in demos() if (symptom := symptom_shown(demo)) is not None}
    assert {followed.demo for followed in FOLLOWED} == rows.keys()
    assert {followed.demo for followed in MACHINE} == set(NOT_ON_EVERY_MACHINE)
    assert {SYMPTOMS[symptom].section for symptom in rows.values()} == {"A", "B"}
    for demo, symptom in rows.items():
        assert words_followed(demo) in {SYMPTOMS[symptom].fix, *(cause.fix for cause in SYMPTOMS[symptom].causes)}


@pytest.mark.parametrize("followed", [*CURVES, *CALLS], ids=lambda followed: followed.name)
def test_a_demo_mended_as_its_fix_says_has_no_finding(followed: Followed, tmp_path: Path) -> None:
    symptom = symptom_shown(followed.demo.replace("_", "-"))
    if symptom not in DETECTED:
        pytest.skip(f"there is no detector for {symptom} yet")
    source = followed.source
    if followed.again:
        first = tmp_path / "first"
        first.mkdir()
        found = watched(followed.write(source, first), first, shortened(followed.demo)).of(symptom)
        assert found is not None and found.fix == followed.fix
        source = edited(source, followed.again)
    assert_nothing_is_found(watched(followed.write(source, tmp_path), tmp_path, shortened(followed.demo)))
