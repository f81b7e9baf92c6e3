"""The demo loops are plain PyTorch scripts that know nothing of whoever watches them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.demo_loops.demo_run import DEMO_LOOPS, SHORT

SCRIPTS = sorted(DEMO_LOOPS.glob("[!_]*.py"))


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
    assert {script.stem for script in SCRIPTS} == set(SHORT)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_demo_is_a_plain_script(script: Path) -> None:
    source = script.read_text()
    tree = ast.parse(source)
    assert imported(tree) <= {"__future__", "argparse", "math", "pathlib", "tempfile", "torch"}
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
    assert calls(tree, "zero_grad") == (0 if script.stem == "missing_zero_grad" else 1)
    assert [calls(tree, method) for method in ("backward", "train", "eval", "no_grad", "save")] == [1] * 5
