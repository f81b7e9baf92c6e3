"""The demo loops are plain PyTorch scripts that know nothing of whoever watches them."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

from forgemon.demos import demos, find_demo, grouped, symptom_shown
from forgemon.symptoms import SYMPTOMS
from tests.demo_loops.demo_run import DEMO_LOOPS, SHORT
from tests.demo_loops.expected import FAULTY, HEALTHY

SCRIPTS = sorted(DEMO_LOOPS.glob("[!_]*.py"))
OFTEN: Mapping[str, int] = dict.fromkeys(("zero_grad", "backward", "train", "eval", "no_grad", "save"), 1)
"""How often a loop that does all it should calls each."""
OTHERWISE: Mapping[str, Mapping[str, int]] = {
    "missing_zero_grad": {"zero_grad": 0},
    "eval_in_train_mode": {"eval": 0},
    "eval_with_grad": {"no_grad": 0},
    "healthy_frozen_batchnorm": {"eval": 2},
    "healthy_mc_dropout": {"train": 2},
}
"""The named mistake, or what only looks like one."""


def imported(tree: ast.AST) -> set[str]:
    """Top-level packages of every import, also of those inside functions."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a script has no package to import from"
            names.add((node.module or "").partition(".")[0])
    return names


def calls(tree: ast.AST, method: str) -> int:
    return sum(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method
        for node in ast.walk(tree)
    )


def test_every_demo_is_tested() -> None:
    assert sorted(script.stem for script in SCRIPTS) == sorted([*SHORT, *FAULTY, *HEALTHY])


def test_each_symptom_of_the_curves_and_the_calls_has_a_demo() -> None:
    wanted = [symptom for symptom, row in SYMPTOMS.items() if row.section in "AB"]
    assert sorted(filter(None, map(symptom_shown, demos()))) == sorted(wanted)
    assert all(symptom_shown(find_demo(symptom).stem.replace("_", "-")) == symptom for symptom in wanted)


def test_groups_hold_each_demo_once() -> None:
    groups = grouped()
    assert sorted(name for names in groups.values() for name in names) == sorted(demos())
    assert [symptom_shown(name) for name in groups["A"] + groups["B"]] == [s for s in SYMPTOMS if SYMPTOMS[s].section in "AB"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_demo_is_a_plain_script(script: Path) -> None:
    source = script.read_text()
    tree = ast.parse(source)
    assert imported(tree) <= {"__future__", "argparse", "collections", "math", "pathlib", "tempfile", "torch"}
    assert "forgemon" not in source
    assert "torch.set_num_threads(1)" in source
    assert "torch.manual_seed(arguments.seed)" in source


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_docstring_says_what_it_trains_what_is_wrong_and_what_one_sees(script: Path) -> None:
    text = ast.get_docstring(ast.parse(script.read_text())) or ""
    first = text.partition("\n")[0]
    assert first.startswith("A ") and first.endswith(".") and len(first) <= 110
    flat = " ".join(text.split())
    assert ("Nothing is wrong" in flat) != ("What is wrong:" in flat)
    assert "What a person sees:" in flat


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_only_the_named_mistake_is_made(script: Path) -> None:
    tree = ast.parse(script.read_text())
    assert {method: calls(tree, method) for method in OFTEN} == {**OFTEN, **OTHERWISE.get(script.stem, {})}
