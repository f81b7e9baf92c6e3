"""What a person changes in a demo loop who follows the words of its finding, and how the mended loop is judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.demo_loops.demo_run import DEMO_LOOPS
from tests.demo_loops.watched_demo import Watched

Edits = tuple[tuple[str, str], ...]
"""Old text, which stands in the script once, and new text."""


@dataclass(frozen=True)
class Followed:
    """The fix of one demo's finding, followed by hand."""

    demo: str
    fix: str
    "As the finding words it."
    edits: Edits
    way: str = ""
    "Which of the things it offers was done, where it offers several."
    again: Edits = ()
    "What was changed next, because the finding came back with the same words."

    @property
    def name(self) -> str:
        return f"{self.demo}, {self.way}" if self.way else self.demo

    @property
    def source(self) -> str:
        """The demo's script after the first edits."""
        return edited((DEMO_LOOPS / f"{self.demo}.py").read_text(), self.edits)

    def write(self, source: str, folder: Path) -> Path:
        script = folder / f"{self.demo}.py"
        script.write_text(source)
        return script


def edited(source: str, edits: Edits) -> str:
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


def assert_nothing_is_found(run: Watched) -> None:
    assert run.status == 0, run.output[-2000:]
    assert {finding.symptom for finding in run.findings} == {"ended"}, run.findings
    assert "no" not in {check.answer for check in run.checked.report.checklist}
