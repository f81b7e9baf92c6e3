"""forgemon symptoms: the table as text and JSON, and one row explained."""

from __future__ import annotations

import ast
import json

import pytest
from click.testing import CliRunner

from forgemon.commands.symptoms import NOT_YET, command
from forgemon.demos import command_for, demo_showing
from forgemon.detectors import DETECTED
from forgemon.errors import UserError
from forgemon.explanations import EXPLANATIONS
from forgemon.symptoms import SYMPTOMS


def output(*arguments: str) -> str:
    done = CliRunner().invoke(command, list(arguments), standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


def test_the_table_names_every_row_and_fits_80_columns() -> None:
    lines = output().splitlines()
    assert all(any(f" {symptom} " in f"{line} " for line in lines) for symptom in SYMPTOMS)
    assert max(map(len, lines)) <= 80


def test_json_says_which_rows_are_detected() -> None:
    rows = json.loads(output("--json"))
    assert {row["symptom"] for row in rows} == SYMPTOMS.keys()
    assert {row["symptom"] for row in rows if row["detected"]} == DETECTED


@pytest.mark.parametrize("symptom", SYMPTOMS)
def test_every_row_is_explained_with_its_fixes(symptom: str) -> None:
    said = output(symptom)
    flat = " ".join(said.split())
    assert max(map(len, said.splitlines())) <= 80
    assert " ".join(SYMPTOMS[symptom].seen.split()) in flat
    assert all(cause.id in flat and cause.fix in flat for cause in SYMPTOMS[symptom].causes)
    assert (NOT_YET in said) == (symptom not in DETECTED)


@pytest.mark.parametrize("symptom", SYMPTOMS)
def test_every_row_says_how_it_is_known_and_what_it_is_not(symptom: str) -> None:
    explanation, flat = EXPLANATIONS[symptom], " ".join(output(symptom).split())
    for text in (explanation.evidence, explanation.levels, explanation.near_miss):
        assert text.endswith(".") and " ".join(text.split()) in flat
    assert ("For example" in flat) == (explanation.example != "")
    demo = demo_showing(symptom)
    assert f"See it: {command_for(demo)}" in flat if demo is not None else "See it" not in flat


def test_a_demo_of_rare_steps_is_to_be_watched_at_every_step() -> None:
    assert output("gradient-spike").endswith("See it: forgemon demo gradient-spike --budget 0\n")
    assert output("loss-nonfinite").endswith("See it: forgemon demo goes-nan\n")


@pytest.mark.parametrize("symptom", [symptom for symptom, row in SYMPTOMS.items() if row.section != "C"])
def test_an_example_is_a_loop_and_the_same_loop_mended(symptom: str) -> None:
    explanation = EXPLANATIONS[symptom]
    assert ast.dump(ast.parse(explanation.wrong)) != ast.dump(ast.parse(explanation.right))
    assert all(line[:2] in ("- ", "+ ", "  ", "") for line in explanation.example.strip("\n").splitlines())
    row = json.loads(output(symptom, "--json"))
    assert (row["wrong"], row["right"], row["demo"]) == (explanation.wrong, explanation.right, demo_showing(symptom))
    assert all(line in output(symptom) for line in row["wrong"].splitlines() + row["right"].splitlines())


@pytest.mark.parametrize("asked", ["missing zero grad", "missing_zero_grad", "Missing-Zero-Grad"])
def test_words_may_be_parted_as_one_likes(asked: str) -> None:
    assert output(*asked.split()) == output("missing-zero-grad")


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("missing-zerograd", "missing-zero-grad"),
        ("softmax", "softmax-before-cross-entropy"),
        ("nan", "loss-nonfinite"),
        ("overfiting", "train-val-divergence"),
        ("clip", "clip-before-backward or clip-after-step or clip-scaled-gradients"),
        ("vanishing gradient", "vanishing-gradients"),
        ("workers share", "shm-too-small"),
    ],
)
def test_a_name_that_comes_close_is_offered(asked: str, meant: str) -> None:
    with pytest.raises(UserError, match=rf"did you mean {meant}[ ?]"):
        output(asked)


@pytest.mark.parametrize("asked", ["nonsense", "xyzzy\x1b", "the", "", "banana"])
def test_a_name_like_none_points_to_the_list(asked: str) -> None:
    with pytest.raises(UserError, match="lists them all"):
        output(asked)
