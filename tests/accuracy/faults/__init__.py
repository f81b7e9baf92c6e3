"""Every fault that a machine without a GPU can show."""

from __future__ import annotations

from tests.accuracy.faults.dynamics import DYNAMICS
from tests.accuracy.faults.fault import Fault
from tests.accuracy.faults.structure import STRUCTURE

FAULTS: dict[str, Fault] = {fault.name: fault for fault in (*STRUCTURE, *DYNAMICS)}

__all__ = ["FAULTS", "Fault"]
