"""Each row of the symptom table explained: how forgemon sees it, what it is not, and a small example of it mended."""

from __future__ import annotations

from collections.abc import Mapping

from forgemon.explanations.calls import CALLS
from forgemon.explanations.curves import CURVES
from forgemon.explanations.explanation import Explanation
from forgemon.explanations.machine import MACHINE
from forgemon.explanations.tensors import TENSORS

__all__ = ["EXPLANATIONS", "Explanation"]

EXPLANATIONS: Mapping[str, Explanation] = {**CURVES, **CALLS, **TENSORS, **MACHINE}
"""By symptom."""
