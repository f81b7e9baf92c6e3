"""Run a training script of a framework three times: unwatched, watched at every step, and watched as it is by default."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forgemon.chunk import Chunk
from tests.probes.watched import events, line_of, read, run_script

DEFAULT_BUDGET = 0.01

DIGEST = """
import hashlib, json
def digest(*state):
    found = hashlib.sha256()
    for values in state:
        for name, value in sorted(values.items()):
            found.update(name.encode() + value.detach().numpy().tobytes())
    return found.hexdigest()
"""
"""For a script to print what its weights are, to the bit."""


@dataclass(frozen=True)
class Runs:
    source: str
    folder: Path
    "Of the run watched at every step."
    chunk: Chunk
    "What was recorded of it."
    default: Chunk
    "What was recorded of the run with the default budget."
    own: dict[str, Any]
    "What the loop itself measured."
    printed: list[str]
    "Standard output of all three."

    def events(self, kind: str) -> list[dict[str, Any]]:
        return events(self.chunk, kind)

    def line(self, text: str) -> int:
        return line_of(self.source, text)


def run_all(source: str, folder: Path) -> Runs:
    """The script writes what it measures to measured.json and prints what is to be equal in all three runs."""
    source = DIGEST + source
    folders = [folder / name for name in ("plain", "every-step", "default")]
    printed = []
    for where, watched, budget in zip(folders, (False, True, True), (0.0, 0.0, DEFAULT_BUDGET), strict=True):
        where.mkdir()
        printed.append(run_script(source, where, watched=watched, budget=budget).stdout)
    own = json.loads((folders[1] / "measured.json").read_text())
    return Runs(source, folders[1], read(folders[1]), read(folders[2]), own, printed)
