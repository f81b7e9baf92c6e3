"""eval-in-train-mode, train-in-eval-mode and eval-with-grad: the mode of the model while it is trained and judged."""

from __future__ import annotations

from typing import ClassVar

from forgemon.detectors.facts import FactDetector, Seen, Verdict, evidence, names_in
from forgemon.journal import flag, text, whole

ENOUGH_BATCHES = 2
"""A pass of a single batch may be a number that the loop takes on the side; two such passes are none."""


class Modes(FactDetector):
    """Exact: the probe asks the modules themselves, and follows each validation loss until it is gone."""

    symptoms: ClassVar[tuple[str, ...]] = ("eval-in-train-mode", "train-in-eval-mode", "eval-with-grad")

    def judge(self, symptom: str, seen: Seen) -> Verdict | None:
        if symptom == "eval-in-train-mode":
            return self._evaluated_in_training(seen)
        return self._trained_in_evaluation(seen) if symptom == "train-in-eval-mode" else self._with_grad(seen)

    def _evaluated_in_training(self, seen: Seen) -> Verdict:
        fact = seen.newest
        dropouts, norms, batches = whole(fact, "dropouts") or 0, whole(fact, "batch_norms") or 0, whole(fact, "batches") or 0
        counts = [f"{dropouts} Dropout" * bool(dropouts), f"{norms} BatchNorm" * bool(norms)]
        modules = " and ".join(filter(None, counts)) or "modules"
        names = names_in(fact, "modules")
        moved = ", whose running statistics took in the validation data" if flag(fact, "num_batches_tracked_advanced") else ""
        certain = batches >= ENOUGH_BATCHES or seen.times >= ENOUGH_BATCHES
        return Verdict(
            "alarm" if certain else "watch",
            f"The validation pass at step {seen.last_step} ({batches} batches, {text(fact, 'metric')}) ran with {modules} in training "
            f"mode{f' ({names})' if names else ''}{moved}.",
            "model.eval() on the model that is validated, before the pass. Dropout alone switched on under a model in evaluation "
            "mode (Monte Carlo dropout) is told apart.",
            evidence(
                fact,
                "metric",
                "batches",
                "dropouts",
                "batch_norms",
                "modules",
                "model_training",
                "num_batches_tracked_advanced",
            ),
            about=text(fact, "metric"),
        )

    def _trained_in_evaluation(self, seen: Seen) -> Verdict:
        fact, from_the_start = seen.newest, flag(seen.newest, "from_the_start")
        first, called = whole(seen.first, "first_step"), whole(fact, "eval_called_at_step")
        modules = (
            f"{whole(fact, 'mode_dependent_modules')} Dropout and BatchNorm modules of {text(fact, 'model') or 'the model'}"
        )
        if from_the_start is False:
            by = f" eval() was called at step {called} and no train() came after it." if called is not None else ""
            said = f"Since step {first} {self.facts.optimizer(seen)} trains with model.training False, which it did not before: the "
            said += f"{modules} stay in evaluation mode.{by}"
        else:
            said = f"At step {seen.last_step} {self.facts.optimizer(seen)} trains with model.training False, as at every step seen so "
            said += f"far: the {modules} are in evaluation mode, on purpose or because train() was never called."
        return Verdict(
            "alarm" if from_the_start is False else "watch",
            said,
            "model.train() before the next training batch; a model whose BatchNorm or Dropout is frozen on purpose.",
            evidence(
                fact, "mode_dependent_modules", "model", "eval_called_at_step", "since_evaluation", "metric", "from_the_start"
            ),
            first_step=first,
            about=self.facts.optimizer(seen),
        )

    def _with_grad(self, seen: Seen) -> Verdict:
        fact = seen.newest
        return Verdict(
            "alarm",
            f"The validation pass at step {seen.last_step} built a graph for each of its {whole(fact, 'batches')} batches "
            f"({text(fact, 'metric')}), and no backward() or torch.autograd.grad() ever went back through one.",
            "torch.no_grad() or torch.inference_mode() around the pass, or a use of those gradients (adversarial evaluation, which is "
            "told apart).",
            evidence(fact, "metric", "batches", "samples"),
            about=text(fact, "metric"),
        )
