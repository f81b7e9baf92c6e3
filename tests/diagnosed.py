"""What the diagnosis says of a run that is given in pieces."""

from __future__ import annotations

from forgemon.chunk import Chunk
from forgemon.diagnosis import Diagnosis, Report


def report_of(*chunks: Chunk) -> Report:
    diagnosis = Diagnosis()
    for piece in chunks:
        diagnosis.feed(piece)
    return diagnosis.report()
