"""loss-graph-retained and softmax-before-cross-entropy: what the loop does with its losses and gives to its criterion."""

from __future__ import annotations

from typing import ClassVar

from forgemon.detectors.candidate import figure
from forgemon.detectors.facts import FactDetector, Seen, Verdict, evidence
from forgemon.journal import flag, number, text, texts, whole

OLDER_THAN_A_WINDOW = 128
"""Steps: a list that is cut to its newest losses lets go of those before; what is older is not let go."""
RUNNING_SUM = "running sum"
"""What holds each loss by the graph of the next one, and so never lets go."""


class LossesKept(FactDetector):
    """Exact: marks in the graphs say which losses are alive; the rows given to cross_entropy say whether they are probabilities."""

    symptoms: ClassVar[tuple[str, ...]] = ("loss-graph-retained", "softmax-before-cross-entropy")

    def judge(self, symptom: str, seen: Seen) -> Verdict | None:
        return self._retained(seen) if symptom == "loss-graph-retained" else self._softmax(seen)

    def _retained(self, seen: Seen) -> Verdict | None:
        fact, age = seen.newest, number(seen.newest, "oldest_age_steps")
        endless = text(fact, "held_by") == RUNNING_SUM or flag(fact, "only_grows") or age >= OLDER_THAN_A_WINDOW
        if not seen.stands and not endless:
            return None  # each new one pushed the oldest out: a window
        alive, oldest = whole(fact, "alive"), whole(fact, "oldest_step")
        holder = text(fact, "held_by")
        by = f", in a {holder}" if holder and holder != "unknown" else ""
        rest = "" if endless else " Whether it is a window that drops its oldest will show."
        return Verdict(
            "alarm" if endless else "watch",
            f"{alive} old losses were still alive with their graphs{by}, the oldest from step {oldest} "
            f"(seen at step {seen.last_step}).{rest}",
            "A loss.item() or loss.detach() where it is kept; or the oldest ones being let go.",
            evidence(fact, "alive", "oldest_step", "oldest_age_steps", "kept_share", "held_by"),
            first_step=oldest,
        )

    def _softmax(self, seen: Seen) -> Verdict:
        fact, floor = seen.newest, number(seen.newest, "loss_floor")
        modules = texts(fact, "modules")
        made = f" The model ends in a softmax ({', '.join(modules)})." if modules else ""
        return Verdict(
            "alarm",
            f"At step {seen.last_step} what cross_entropy was given was already a probability: every row lies in [0, 1] and sums to 1, "
            f"in five calls in a row and more. With {whole(fact, 'classes')} classes its loss cannot fall below {figure(floor)}.{made}",
            "A row of the input that does not sum to 1, or has a negative number. log_softmax is harmless and is told apart.",
            evidence(fact, "classes", "loss_floor", "made_by", "modules"),
        )
