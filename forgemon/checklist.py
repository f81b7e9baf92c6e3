"""Can this loop be trusted? Seven questions, each answered with yes, no or not visible; never guessed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from forgemon.chunk import Chunk, Event
from forgemon.evaluations import Evaluations
from forgemon.findings import Answer, Check, Finding
from forgemon.journal import flag, text

QUESTIONS = {
    "gradients-zeroed": "Are gradients zeroed at the right time?",
    "train-mode": "Is train() on while training?",
    "eval-mode": "Is eval() on while validating?",
    "no-grad-validation": "Does validation build no graphs?",
    "best-checkpoint": "Is the saved checkpoint tied to the best held-out metric?",
    "loss-finite": "Is the loss finite?",
    "data-apart": "Are validation and training data apart?",
}

Verdict = tuple[Answer, int | None, str]


class _Tally:
    """How often something held and how often not, with the first step of each."""

    def __init__(self) -> None:
        self.good = self.bad = 0
        self.first_good: int | None = None
        self.first_bad: int | None = None
        self.last_bad: int | None = None

    def one(self, step: int, good: bool) -> None:
        self.many(np.array([step]), np.array([good]))

    def many(self, steps: np.ndarray[tuple[int], np.dtype[np.int64]], good: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> None:
        hits, misses = np.flatnonzero(good), np.flatnonzero(~good)
        self.good += len(hits)
        self.bad += len(misses)
        if len(hits) and self.first_good is None:
            self.first_good = int(steps[hits[0]])
        if len(misses):
            self.first_bad = int(steps[misses[0]]) if self.first_bad is None else self.first_bad
            self.last_bad = int(steps[misses[-1]])


class Checklist:
    """Feed it every chunk; `checks` compares what was seen with the findings."""

    def __init__(self) -> None:
        self._cleared = _Tally()
        self._trained = _Tally()
        self._evaluated = _Tally()
        self._without_grad = _Tally()
        self._finite = _Tally()
        self._evaluations = Evaluations()
        self._held_out: int | None = None
        "Step of the first validation pass."

    def feed(self, chunk: Chunk) -> None:
        rows = chunk.steps
        checked = rows[np.isfinite(rows["gradients_reused"])]
        self._cleared.many(checked["step"], checked["gradients_reused"] < 0.5)
        moded = rows[np.isfinite(rows["training"])]
        self._trained.many(moded["step"], moded["training"] > 0)
        finite = rows[np.isfinite(rows["loss"])]
        self._finite.many(finite["step"], np.ones(len(finite), np.bool_))
        for event in chunk.events:
            if event["kind"] == "evaluation":
                self._add_evaluation(event)
            elif event["kind"] in ("checkpoint", "checkpoint_deleted"):
                self._evaluations.add_checkpoint(event)

    def _add_evaluation(self, event: Event) -> None:
        step = int(event["step"])
        if text(event, "metric").endswith("(training data)"):
            return
        self._evaluations.add_evaluation(event)
        if self._held_out is None:
            self._held_out = step
        training, grad = flag(event, "training"), flag(event, "grad_enabled")
        if training is not None:
            self._evaluated.one(step, not training)
        if grad is not None:
            self._without_grad.one(step, not grad)

    def checks(self, findings: Iterable[Finding]) -> tuple[Check, ...]:
        found = {finding.symptom: finding for finding in findings}
        verdicts = {
            "gradients-zeroed": self._gradients_zeroed(found),
            "train-mode": self._train_mode(),
            "eval-mode": self._passes(self._evaluated, "in evaluation mode", "in training mode"),
            "no-grad-validation": self._passes(self._without_grad, "without gradients", "with gradients enabled"),
            "best-checkpoint": self._best_checkpoint(),
            "loss-finite": self._loss_finite(found),
            "data-apart": ("not visible", None, "this version does not record which samples a loader reads"),
        }
        return tuple(Check(id_, question, *verdicts[id_]) for id_, question in QUESTIONS.items())

    def _gradients_zeroed(self, found: dict[str, Finding]) -> Verdict:
        finding = found.get("missing-zero-grad")
        if finding is not None:
            return "no", finding.first_step, finding.summary
        seen = self._cleared
        if not seen.good + seen.bad:
            return "not visible", None, "no step was seen that follows another one of the same optimizer"
        if seen.bad > seen.good:
            return "not visible", None, "one step reused its gradients; the next one will tell"
        return "yes", seen.first_good, f"no gradient was used twice in {seen.good} of {seen.good + seen.bad} steps"

    def _train_mode(self) -> Verdict:
        seen = self._trained
        total = seen.good + seen.bad
        if not total:
            return "not visible", None, "no model was found for the optimizer's parameters"
        if not seen.bad:
            return "yes", seen.first_good, f"model.training was True at {total} of {total} steps"
        where = f"first at step {seen.first_bad}, last at step {seen.last_bad}"
        return "no", seen.first_bad, f"model.training was False at {seen.bad} of {total} steps, {where}"

    def _passes(self, seen: _Tally, good: str, bad: str) -> Verdict:
        total = seen.good + seen.bad
        if not total:
            return "not visible", None, self._no_pass()
        if not seen.bad:
            return "yes", seen.first_good, f"{total} of {total} validation passes ran {good}"
        return "no", seen.first_bad, f"{seen.bad} of {total} validation passes ran {bad}, first at step {seen.first_bad}"

    def _no_pass(self) -> str:
        return "no validation pass was seen yet" if self._held_out is None else "the mode of the model was not visible"

    def _best_checkpoint(self) -> Verdict:
        best = self._evaluations.best()
        if best is None:
            return "not visible", None, "no validation pass was seen yet"
        if best.path is not None:
            return "yes", best.step, f"{best.metric} {best.value:.4g} of step {best.step} is in {best.path}"
        saved = self._evaluations.checkpoints()
        if not saved:
            return "not visible", None, "no checkpoint was saved so far"
        if saved[-1].step < best.step:
            return "not visible", None, f"the best result so far (step {best.step}) is newer than the newest checkpoint"
        if best.lost is not None:
            held = f"{best.lost} held the best {best.metric}, {best.value:.4g} of step {best.step}"
            return "no", best.step, f"{held}, and was overwritten or deleted"
        return "no", best.step, f"no file holds the best {best.metric}, {best.value:.4g} of step {best.step}"

    def _loss_finite(self, found: dict[str, Finding]) -> Verdict:
        finding = found.get("loss-nonfinite")
        if finding is not None:
            return "no", finding.first_step, finding.summary
        root = next((f for f in found.values() if "loss-nonfinite" in f.evidence), None)
        if root is not None:
            return "no", root.first_step, str(root.evidence["loss-nonfinite"])
        if not self._finite.good:
            return "not visible", None, "no loss was seen"
        return "yes", self._finite.first_good, f"{self._finite.good} of {self._finite.good} losses seen were finite"
