"""The rows of an observed step: sent for, and written once their numbers are on the host; and what the step made visible."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from . import discover
from .known import Known, Observation
from .reuse import Reuse
from .rows import GradientRow, Row
from .window import NAN, Window

if TYPE_CHECKING:
    from .parameters import Parameters
    from .session import Session
    from .validation import Validation

MOST_PASSES = 16
"""Different numbers of backward passes to a step that are remembered: an epoch's last step may have had fewer than all others."""
ALL_NOTED, NOTED_EVERY = 64, 16
"""Of the first rows it is noted what was visible in each, later of one in so many."""


class StepRows:
    """Writes what is known of steps."""

    def __init__(self, session: Session, parameters: Parameters, validation: Validation) -> None:
        self._session = session
        self._parameters = parameters
        self._validation = validation
        self._rows = 0

    def submit_loss(self, step: int, known: Known, window: Window, step_s: float) -> None:
        """Queue a row with the loss alone, of a step that was not observed otherwise."""
        if window.losses:
            if known.evaluates_again:
                window.losses, window.backwards = window.losses[:1], 1
            elif known.counts_last is not None:
                window.losses, window.backwards = window.losses[-known.counts_last :], known.counts_last
            elif window.backwards not in known.passes:
                return  # whether some of them were cleared again (a step that was skipped) was not seen
            window.training = self._session.steps.training_mode_of(known)
            now, optimizer = Observation(), known.optimizer()
            now.learning_rate = NAN if optimizer is None else discover.learning_rate(optimizer)
            self.queue(step, known, now, window, {"step_s": step_s})

    def queue(self, step: int, known: Known, now: Observation, window: Window, numbers: Mapping[str, float]) -> None:
        """Send for the numbers of a row; those on a GPU come some steps later."""
        if now.window is not None:
            _learn_divisions(known, window)
        divisor, passes = known.accumulates or 1, known.passes
        row = Row(
            step, time.time(), known.index, now.learning_rate, window, now.reuse, numbers, divisor, passes, known.has_shares
        )
        gradients = None
        if now.indices and known.columns:
            gradients = known.columns, self._parameters.count, f"gradients-{self._parameters.table}"
        elif now.indices:
            self._session.writer.lose_row()

        def deliver(values: list[float]) -> None:
            norms = values[: len(now.norms)]
            row.take(norms, values[len(norms) :], window.loss_scale)  # which was sent for before, and is here by now
            known.has_shares = known.has_shares or row.are_shares
            self._validation.trained(row.loss)
            writer = self._session.writer
            if gradients is not None:
                columns, count, table = gradients
                writer.row(table, GradientRow(row.step, count, columns, now.indices, norms))
            writer.row("steps", row)
            if now.window is not None and not any(norms):
                self._session.probes.tell("without_gradients", known)
            self._session.probes.tell("measured", now, row.step, values)

        if not self._session.transfer.submit([*now.norms, *row.scalars], deliver):
            self._session.writer.lose_row()

    def note_signals(self, window: Window, now: Observation) -> None:
        self._rows += 1
        if self._rows > ALL_NOTED and self._rows % NOTED_EVERY:
            return
        visible = {
            "loss": bool(window.losses),
            "learning rate": True,
            "gradients": bool(now.norms),
            "gradient reuse": now.reuse is not None,
            "gradient clipping": window.clips > 0,
            "training mode": window.training is not None,
            "batch size": window.samples == window.samples,
            "data time": window.data_s == window.data_s,
            "forward time": window.forward_s == window.forward_s,
            "backward time": window.backwards > 0,
            "optimizer time": True,
        }
        for signal, is_visible in visible.items():
            if is_visible:
                self._session.signals.seen(signal)

    def report_reuse(self, known: Known, reuse: Reuse) -> None:
        facts = self._session.facts
        if reuse.checked == 0 or 2 * reuse.reused < reuse.checked:
            facts.absent("missing-zero-grad", known.index)
            return
        facts.seen(
            "missing-zero-grad",
            known.index,
            optimizer=known.index,
            parameters_checked=reuse.checked,
            parameters_reused=reuse.reused,
            parameter=self._parameters.name_of(reuse.parameter) if reuse.parameter is not None else None,
            previous_step=known.steps - 1,
            where=reuse.where,
        )


def _learn_divisions(known: Known, window: Window) -> None:
    """How many backward passes a step of `known` may have, and whether the loop divides its losses by that."""
    if window.backwards > 1 and window.losses and known.accumulates is None:
        divides = all(abs(loss.divided_by - window.backwards) < 1e-6 for loss in window.losses)
        known.accumulates = window.backwards if divides else 1
    if window.backwards not in known.passes and len(known.passes) < MOST_PASSES:
        known.passes = (*known.passes, window.backwards)
