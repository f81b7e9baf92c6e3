"""What there is to say of one symptom beyond its row in the table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """How forgemon knows, and what it is not; with an example where the user's own lines are to blame."""

    evidence: str
    "What forgemon looks at, and when that is enough."
    levels: str
    "When it is an alarm, a watch or an info."
    near_miss: str
    "What looks like it and is left alone."
    example: str = ""
    "A loop and how it is mended: lines that begin with - are wrong, those with + are right. Empty where no line did it."

    @property
    def wrong(self) -> str:
        return self._without("+")

    @property
    def right(self) -> str:
        return self._without("-")

    def _without(self, mark: str) -> str:
        lines = self.example.strip("\n").splitlines()
        return "".join(f"{line[2:]}\n" for line in lines if not line.startswith(mark))
