"""Can this loop be trusted? Seven questions, each answered with yes, no or not visible; never guessed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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

WANTED_SIGNALS = ("validation modes", "sample overlap")

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
        self._signals: dict[str, int] = {}
        "What the probes have seen, and since which step."

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
            elif event["kind"] in ("signals", "attached"):
                self._add_signals(event)

    def _add_signals(self, event: Event) -> None:
        signals = event.get("signals")
        if isinstance(signals, Mapping):
            for name in WANTED_SIGNALS:
                if text(signals, name) == "seen":
                    self._signals.setdefault(name, int(event["step"]))

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
        found: dict[str, Finding] = {}
        for finding in findings:
            found.setdefault(finding.symptom, finding)
        verdicts = {
            "gradients-zeroed": _fault(found, "missing-zero-grad", "gradients-discarded") or self._gradients_zeroed(),
            "train-mode": self._train_mode(found),
            "eval-mode": _fault(found, "eval-in-train-mode") or self._eval_mode(),
            "no-grad-validation": _fault(found, "eval-with-grad") or self._no_grad(),
            "best-checkpoint": _fault(found, "best-checkpoint-not-saved") or self._best_checkpoint(),
            "loss-finite": _fault(found, "loss-nonfinite") or self._loss_finite(),
            "data-apart": self._data_apart(found),
        }
        return tuple(Check(id_, question, *verdicts[id_]) for id_, question in QUESTIONS.items())

    def _gradients_zeroed(self) -> Verdict:
        seen = self._cleared
        if not seen.good + seen.bad:
            return "not visible", None, "no step was seen that follows another one of the same optimizer"
        if seen.bad > seen.good:
            return "not visible", None, "one step reused its gradients; the next one will tell"
        return "yes", seen.first_good, f"no gradient was used twice in {seen.good} of {seen.good + seen.bad} steps"

    def _train_mode(self, found: Mapping[str, Finding]) -> Verdict:
        answer = _fault(found, "train-in-eval-mode")
        if answer is not None:
            # From the start on it may be meant: then neither answer is known.
            doubtful = found.get("train-in-eval-mode")
            return answer if doubtful is None or doubtful.level == "alarm" else ("not visible", None, answer[2])
        seen = self._trained
        total = seen.good + seen.bad
        if not total:
            return "not visible", None, "no model was found for the optimizer's parameters"
        if not seen.bad:
            return "yes", seen.first_good, f"model.training was True at {total} of {total} steps"
        where = f"first at step {seen.first_bad}, last at step {seen.last_bad}"
        said = f"model.training was False at {seen.bad} of {total} steps, {where}"
        return "not visible", None, f"{said}; no Dropout or BatchNorm was seen that it switched off"

    def _eval_mode(self) -> Verdict:
        seen, total = self._evaluated, self._evaluated.good + self._evaluated.bad
        if not total:
            return "not visible", None, self._no_pass()
        if not seen.bad:
            return "yes", seen.first_good, f"{total} of {total} validation passes ran in evaluation mode"
        said = f"{seen.bad} of {total} validation passes ran with model.training True, first at step {seen.first_bad}"
        depends = "no Dropout or BatchNorm was seen" if "validation modes" in self._signals else "it is not visible what was"
        return "not visible", None, f"{said}; {depends} in training mode"

    def _no_grad(self) -> Verdict:
        seen, total = self._without_grad, self._without_grad.good + self._without_grad.bad
        if not total:
            return "not visible", None, self._no_pass()
        if not seen.bad:
            return "yes", seen.first_good, f"{total} of {total} validation passes ran without gradients"
        said = f"{seen.bad} of {total} validation passes built graphs, first at step {seen.first_bad}"
        return "not visible", None, f"{said}; none was seen to be built in vain over three batches or more"

    def _no_pass(self) -> str:
        return "no validation pass was seen yet" if self._held_out is None else "the mode of the model was not visible"

    def _best_checkpoint(self) -> Verdict:
        best = self._evaluations.best()
        if best is None:
            return "not visible", None, f"{self._evaluations.why_no_best} yet"
        result = f"{best.metric} {best.value:.4g} of step {best.step}"
        if best.path is not None:
            return "yes", best.step, f"{result} is in {best.path}"
        saved = self._evaluations.checkpoints()
        if not saved:
            return "not visible", None, "no checkpoint was saved so far"
        if saved[-1].step < best.step:
            return "not visible", None, f"the best result so far (step {best.step}) is newer than the newest checkpoint"
        if best.lost is not None:
            return (
                "not visible",
                None,
                f"{best.lost} held {result} and was overwritten or deleted; a copy of it may be elsewhere",
            )
        return "not visible", None, f"no file is known to hold {result}"

    def _loss_finite(self) -> Verdict:
        if not self._finite.good:
            return "not visible", None, "no loss was seen"
        return "yes", self._finite.first_good, f"{self._finite.good} of {self._finite.good} losses seen were finite"

    def _data_apart(self, found: Mapping[str, Finding]) -> Verdict:
        answer = _fault(found, "val-uses-train-data")
        if self._held_out is None:
            only = "no validation pass was seen yet" if answer is None else "only the training data were evaluated"
            return "not visible", None, only
        if answer is not None:
            return answer
        since = self._signals.get("sample overlap")
        if since is None:
            return "not visible", None, "it could not be seen which samples the loaders read"
        return "yes", since, "no sample in common was found in what the training and validation loaders read"


def _fault(found: Mapping[str, Finding], *symptoms: str) -> Verdict | None:
    """No, where there is a finding of that meaning, or another one that took it as its evidence."""
    for symptom in symptoms:
        finding = found.get(symptom)
        if finding is not None and finding.level != "info":
            return "no", finding.first_step, finding.summary
        root = next((f for f in found.values() if symptom in f.evidence), None)
        if root is not None:
            return "no", root.first_step, str(root.evidence[symptom])
    return None
