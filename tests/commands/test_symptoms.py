"""forgemon symptoms: the table as text and JSON, and one row explained."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from forgemon.commands.symptoms import NOT_YET, command
from forgemon.detectors import DETECTED
from forgemon.errors import UserError
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


def test_a_name_that_comes_close_is_offered() -> None:
    with pytest.raises(UserError, match="did you mean missing-zero-grad"):
        output("missing-zerograd")


def test_a_name_like_none_points_to_the_list() -> None:
    with pytest.raises(UserError, match="lists them all"):
        output("xyzzy\x1b")
