"""Finished validation passes: what each is called, the training loss beside it, and which result stands."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from .counters import epoch_of_loop
from .evaluations import EvaluationPass
from .expected import ExpectedPass
from .kept_results import kept_results
from .result_names import PART, SHARE, ResultNames
from .run_info import world_size
from .where import Line

if TYPE_CHECKING:
    from .session import Session


class Validation:
    """The results of one session's validation passes."""

    def __init__(self, session: Session, expected: ExpectedPass) -> None:
        self._session = session
        self._expected = expected
        self.standing: dict[str, Any] = {"metric": None, "value": None, "evaluation_step": None}
        "The newest result, for the checkpoints saved after it."
        self._train_sum, self._train_count = 0.0, 0
        self._names = ResultNames()

    def stepped(self) -> None:
        """Training went on."""
        self._names.stepped()

    def trained(self, loss: float) -> None:
        """One observed training loss."""
        if math.isfinite(loss):
            self._train_sum += loss
            self._train_count += 1

    def ended(self, results: Sequence[EvaluationPass]) -> None:
        """Of passes between two training steps. The value of each comes now, or some steps later from a GPU."""
        session = self._session
        data, kept = session.loop.training_data, lambda: kept_results(session.lines.frames())
        ending = SHARE if world_size() > 1 else "" if data.goes_back_alone else PART
        self._names.tell_apart(results, self._is_of_training_data, kept, data.criteria, ending)
        session.drivers.search_anew()

    def _is_of_training_data(self, finished: EvaluationPass) -> bool:
        return finished.loader is not None and finished.loader == self._session.loop.training_data.loader

    def evaluated(self, finished: EvaluationPass, value: float) -> str:
        """Record the result of a pass and return the name of its metric."""
        name = self._names.name(finished, value)
        if not self._is_of_training_data(finished):
            self._expected.came(finished.step)
        self._session.writer.metric(name.metric, [finished.step, time.time(), value])
        self._emit(name.metric, value, finished, finished.step, finished.epoch, finished.where)
        if name.stands:
            self._stands(name.metric, value, finished.step)
        elif name.is_doubtful:
            self.standing = dict.fromkeys(self.standing)
        return name.metric

    def reported(
        self, metric: str, value: float, step: int, epoch: int | None, where: Line | None, parted: EvaluationPass | None = None
    ) -> None:
        """The result of a pass that no criterion showed, or parts of it alone (`parted`), by the name under which the loop logs or keeps
        it."""
        if parted is not None:
            self._names.own_loss_stands(parted)
        passes = self._session.loop.named(metric, value, step) if parted is None else [parted]
        seen = passes[0] if passes else None
        step = step if seen is None else seen.step
        (self._expected.missed if seen is None else self._expected.came)(step)
        self._emit(metric, value, seen, step, epoch, where or (seen.where if seen is not None else None))
        self._stands(metric, value, step)
        for finished in passes:
            self._session.evaluated_as(finished, metric, value)

    def _emit(
        self, metric: str, value: float, seen: EvaluationPass | None, step: int, epoch: int | None, where: Line | None
    ) -> None:
        """`seen`: what was seen of the pass."""
        if not math.isfinite(value):
            self._session.steps.pace.want_next()  # is it the weights, so that training shows it as well?
        self._session.signals.seen("validation loss")
        self._session.emit(
            "evaluation",
            at_step=step,
            metric=metric,
            value=value,
            model=self._session.models.number_at(step),
            batches=seen and seen.batches,
            samples=seen and seen.items,
            training=seen and seen.any_training,
            grad_enabled=seen and seen.any_grad,
            duration_s=seen and seen.ended - seen.began,
            epoch=epoch,
            train_loss=self._train_sum / self._train_count if self._train_count else None,
            where=where,
        )

    def _stands(self, metric: str, value: float, step: int) -> None:
        self._train_sum, self._train_count = 0.0, 0
        self.standing = {"metric": metric, "value": value, "evaluation_step": step}

    def epoch(self) -> int | None:
        """The loop's own variable, else that of the main module, else passes over the training loader, when watched from the start."""
        return self.epoch_or_passes(epoch_of_loop(self._session))

    def epoch_or_passes(self, named: int | None) -> int | None:
        """`named` is what the frames of the program say."""
        session = self._session
        if named is None:
            named = getattr(sys.modules.get("__main__"), "epoch", None)
        if type(named) is int:
            return named
        if session.config.get("mode") == "attach" or session.attention.was_missed(DataLoader.__iter__):
            return None
        return session.loop.training_data.passes

    def epoch_began(self) -> None:
        self._session.signals.seen("epochs")
        self._session.emit("epoch", epoch=self.epoch())
