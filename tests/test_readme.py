"""The README tells the truth: its commands exist, take the options it shows, and every command is in it."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path, PurePath

import click
import pytest

from forgemon.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SEPARATORS = ("&&", "|", ";", "||")


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def forgemon_calls() -> list[list[str]]:
    """The words after `forgemon` of every call in a bash block, up to the end of that command."""
    calls = []
    for line in "".join(fenced("bash")).splitlines():
        words = shlex.split(line)
        while any(PurePath(word).name == "forgemon" for word in words):
            begin = next(i for i, word in enumerate(words) if PurePath(word).name == "forgemon")
            words = words[begin + 1 :]
            end = next((i for i, word in enumerate(words) if word in SEPARATORS), len(words))
            calls.append(words[:end])
            words = words[end:]
    return calls


def command(verb: str) -> click.Command:
    found: click.Command = importlib.import_module(f"forgemon.commands.{verb}").command
    return found


def test_there_are_calls_to_check() -> None:
    assert len(forgemon_calls()) >= 15


@pytest.mark.parametrize("call", forgemon_calls(), ids=" ".join)
def test_a_call_in_the_readme_is_understood(call: list[str]) -> None:
    verb, *arguments = call
    assert verb in COMMANDS
    assert command(verb).make_context(verb, arguments).params


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_command_is_in_the_readme(verb: str) -> None:
    assert re.search(rf"forgemon {verb}\b", README)


def test_every_option_named_in_the_text_exists() -> None:
    known = {option for verb in COMMANDS for parameter in command(verb).params for option in parameter.opts}
    text = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`(--[\w-]+)`", text))
    assert named and named <= known


def test_the_table_of_symptoms_is_what_this_version_detects() -> None:
    printed = subprocess.run([sys.executable, "-m", "forgemon", "symptoms", "--json"], capture_output=True, check=True).stdout
    detected = [row["symptom"] for row in json.loads(printed) if row["detected"]]
    table = re.findall(r"^\| `([\w-]+)` \|", README, re.MULTILINE)
    assert sorted(table) == sorted(detected)


def test_the_set_up_is_two_commands_with_the_tested_versions() -> None:
    set_up = [line for block in fenced("bash") for line in block.splitlines() if "pip install" in line]
    assert len(set_up) == 2
    for line in set_up:
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install -c tests/tested-versions.txt ")
    assert (ROOT / "tests" / "tested-versions.txt").is_file()


def test_the_two_lines_of_code_work() -> None:
    (code,) = fenced("python")
    assert [line for line in code.splitlines() if line] == ["from probes import watch", "watch()"]
    from probes import watch

    assert callable(watch)


def test_named_files_are_there() -> None:
    for name in re.findall(r"(?<!!)\[[^\]]+\]\(([^)]+)\)", README) + re.findall(r"`(\w+/[\w/]+\.py)`", README):
        assert (ROOT / name).is_file(), name
