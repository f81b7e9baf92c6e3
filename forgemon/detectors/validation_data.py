"""val-loader-shuffled and val-uses-train-data: what the validation loader reads."""

from __future__ import annotations

import math
from typing import ClassVar

from forgemon.detectors.facts import FactDetector, Seen, Verdict, evidence
from forgemon.journal import flag, number, text, whole

FEW = 0.01
"""Share of the validation samples: fewer in common change no result that can be read off a curve."""
BY_VALUE = "equal rows"


class ValidationData(FactDetector):
    """Exact by the identity of what both loaders read; else an estimate from at least 20 equal rows, above chance."""

    symptoms: ClassVar[tuple[str, ...]] = ("val-loader-shuffled", "val-uses-train-data")

    def judge(self, symptom: str, seen: Seen) -> Verdict | None:
        return self._order(seen) if symptom == "val-loader-shuffled" else self._samples(seen)

    def _order(self, seen: Seen) -> Verdict:
        fact, dropped = seen.newest, whole(seen.newest, "samples_dropped")
        said = []
        if flag(fact, "shuffled"):
            said.append(f"shuffles ({text(fact, 'sampler') or 'its own sampler'})")
        if dropped or (flag(fact, "drop_last") and dropped is None):
            said.append(f"drops {dropped or 'its last'} samples of each pass (drop_last=True)")
        return Verdict(
            "watch",
            f"The validation loader of the pass at step {seen.last_step} {' and '.join(said) or 'does not read in order'}.",
            "shuffle=False and drop_last=False on the loader that validates.",
            evidence(fact, "loader", "shuffled", "sampler", "drop_last", "samples_dropped"),
            about=f"loader {whole(fact, 'loader')}",
        )

    def _samples(self, seen: Seen) -> Verdict | None:
        fact, share, how = seen.newest, number(seen.newest, "share"), text(seen.newest, "how")
        on_purpose = flag(fact, "on_purpose") is True
        if on_purpose and not seen.stands:
            return None
        count, checked = whole(fact, "samples_in_common"), whole(fact, "samples_checked")
        much = "" if math.isnan(share) else f"{100 * share:.3g} % of the samples"
        of = f"{count} of {checked} checked samples" if count and checked else ""
        overlap = (f"{of}, {much}" if of and how == BY_VALUE else of or much) or "samples"
        if on_purpose:
            said = f"A pass at step {seen.last_step} judges the model on training data ({overlap}), beside other validation: on purpose."
        else:
            estimated = ", estimated from equal rows" if how == BY_VALUE else f" ({how})"
            said = f"The validation pass at step {seen.last_step} read what training reads: {overlap}{estimated}."
        itself = whole(fact, "loader") is not None and whole(fact, "loader") == whole(fact, "training_loader")
        if itself and not on_purpose:
            said += " It is the training loader itself, and no other validation was seen: its result may be meant as a training loss."
        return Verdict(
            "info" if on_purpose else "watch" if itself or share < FEW else "alarm",
            said,
            "Two loaders that read no row in common; a dataset that makes new samples each time it is read.",
            evidence(fact, "loader", "training_loader", "how", "samples_in_common", "samples_checked", "share", "examples"),
            about=f"loader {whole(fact, 'loader')}",
        )
