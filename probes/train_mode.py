"""train-in-eval-mode: after a validation pass, training goes on with the model in evaluation mode."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import torch

from .known import Known
from .modes import ModelModes, unwrapped
from .modules import parameters
from .probe import Probe
from .where import Line

if TYPE_CHECKING:
    from .evaluations import EvaluationPass
    from .session import Session

FACT = "train-in-eval-mode"
STEPS_IN_A_ROW = 2


class _Trained:
    """One optimizer's model and the mode it was stepped in."""

    def __init__(self, root: torch.nn.Module, layout: object) -> None:
        self.root = weakref.ref(root)
        self.layout = layout
        self.modes = ModelModes()
        self.ever_in_training_mode = False
        self.steps_in_evaluation_mode = 0
        "In a row; those between observed steps are not counted."
        self.first_step = 0
        "Of those."


class TrainInEvalMode(Probe):
    """Looks at the model's mode at each observed step, and remembers which eval() came last."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._eval: tuple[weakref.ref[torch.nn.Module], Line | None, int] | None = None
        self._evaluation: tuple[str, int] | None = None

    def mode_changed(self, root: torch.nn.Module, training: bool) -> None:
        if not training and root.training:
            self._eval = weakref.ref(root), self.session.user_line(), self.session.step_now()

    def evaluated(self, finished: EvaluationPass, metric: str, value: float) -> None:
        self._evaluation = metric, finished.step

    def step_ended(self, known: Known) -> None:
        trained = self._of(known)
        root = trained.root() if trained is not None else None
        if trained is None or root is None:
            return
        if unwrapped(root).training:
            trained.ever_in_training_mode = True
            trained.steps_in_evaluation_mode = 0
            self.session.facts.absent(FACT, known.index)
            return
        trained.steps_in_evaluation_mode += 1
        if trained.steps_in_evaluation_mode == 1:
            trained.first_step = known.steps
        if trained.steps_in_evaluation_mode >= STEPS_IN_A_ROW:
            self._judge(known, trained, root)

    def _of(self, known: Known) -> _Trained | None:
        trained: _Trained | None = known.notes.get(FACT)
        if trained is None or trained.layout != known.layout or trained.root() is None:
            wanted = {id(parameter) for parameter in known.parameters}
            roots = self.session.roots()
            root = next((r for r in roots if any(id(p) in wanted for p in parameters(r))), None)
            if root is None:
                return None
            trained = known.notes[FACT] = _Trained(root, known.layout)
        return trained

    def _judge(self, known: Known, trained: _Trained, root: torch.nn.Module) -> None:
        modes = trained.modes.now(root)
        if modes.total == 0 or modes.dropouts + modes.batch_norms > 0:
            return  # nothing depends on the mode, or parts were put into training mode one by one: on purpose
        from_the_start = not trained.ever_in_training_mode
        called = self._eval if self._eval is not None and self._eval[0]() in (root, unwrapped(root)) else None
        evaluation = self._evaluation if not from_the_start else None
        self.session.facts.seen(
            FACT,
            known.index,
            at_step=known.steps,
            where=called[1] if called is not None else None,
            optimizer=known.index,
            model=type(unwrapped(root)).__name__,
            mode_dependent_modules=modes.total,
            first_step=trained.first_step,
            eval_called_at_step=called[2] if called is not None else None,
            since_evaluation=evaluation[1] if evaluation is not None else None,
            metric=evaluation[0] if evaluation is not None else None,
            # Of a run that was attached to, nobody knows how it began.
            from_the_start=None if from_the_start and self.session.config.get("mode") == "attach" else from_the_start,
        )
