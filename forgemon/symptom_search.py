"""Rows of the symptom table by what a person types."""

from __future__ import annotations

from forgemon.errors import UserError
from forgemon.suggest import suggestions
from forgemon.symptom import Symptom
from forgemon.symptoms import SYMPTOMS


def symptom_named(text: str) -> Symptom:
    """The row with the id `text`, however its words are parted; raises UserError with the ids it may mean."""
    found = SYMPTOMS.get("-".join(text.strip().lower().replace("_", " ").split()))
    if found is not None:
        return found
    shown = "".join(c if c.isprintable() else "?" for c in text[:60])
    close = suggestions(text[:200], {symptom.id: _said_of(symptom) for symptom in SYMPTOMS.values()})
    hint = f"did you mean {' or '.join(close)}?" if close else "`forgemon symptoms` lists them all"
    raise UserError(f"there is no symptom called {shown!r}: {hint}")


def _said_of(symptom: Symptom) -> str:
    return " ".join([symptom.seen, symptom.fix, *(f"{cause.id} {cause.fix}" for cause in symptom.causes)])
