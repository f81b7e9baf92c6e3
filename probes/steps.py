"""Optimizer steps: a row for each observed one, gradient norms as the optimizer uses them, and gradients it uses twice."""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from . import discover
from .gradients import gradient_norms
from .known import Known, Observation, layout_of
from .loop import NAN, Window
from .parameters import Parameters
from .reuse import Reuse
from .rows import Row
from .schedule import Schedule
from .validation import Validation

if TYPE_CHECKING:
    from .session import Session

MOST_STEPS_OF_OTHERS = 50
"""Steps of other optimizers in a row after which the main one is taken to rest."""


class Steps:
    """All optimizers of the process. `step` is the count of the one that stepped most."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.step = 0
        self.schedule = Schedule(float(session.config.get("budget", 0.01)))
        self.parameters = Parameters(session)
        self.validation = Validation(session)
        self._known: weakref.WeakKeyDictionary[torch.optim.Optimizer, Known] = weakref.WeakKeyDictionary()
        self._count = 0
        self._main: Known | None = None
        self._root: weakref.ref[torch.nn.Module] | None = None
        self._steps_since_row = 0
        self._root_is_the_loss = True
        "Between observed steps a criterion is not noted, so the loss shows only where backward() gets it as it is."
        self._spent_at_row = 0.0
        self._spent_at_step = 0.0
        self._steps_of_others = 0
        self.ends_a_step_begun_before_us = False
        "The hooks came in between those of a step: its end is not to be counted, its own count may have risen already."

    # Optimizers and parameters

    def know(self, optimizer: torch.optim.Optimizer) -> Known:
        known = self._known.get(optimizer)
        if known is None:
            known = self._known[optimizer] = Known(self._count, optimizer, self.step)
            self._count += 1
            self.step = max(self.step, known.steps)
            self._session.emit(
                "optimizer",
                index=known.index,
                **{"class": type(optimizer).__name__},
                learning_rate=discover.learning_rate(optimizer),
                hyperparameters=discover.hyperparameters(optimizer),
                parameters=len(known.parameters),
                counted_from="the optimizer's own count" if known.counted is not None else "attach",
            )
        elif known.layout != layout_of(optimizer):
            known.refresh(optimizer)
        return known

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return list(self._known)

    def main_root(self) -> torch.nn.Module | None:
        """The root module that holds the first stepped parameter, else the first known root."""
        root = self._root() if self._root is not None else None
        if root is None:
            root = self._find_root()
            self._root = None if root is None else weakref.ref(root)
        return root

    def _find_root(self) -> torch.nn.Module | None:
        roots = self._session.roots()
        wanted = {id(p) for p in self._main.parameters} if self._main is not None else set()
        return next((r for r in roots if any(id(p) in wanted for p in r.parameters())), roots[0] if roots else None)

    # Between steps

    def backward_begins(self) -> None:
        for known in self._known.values():
            known.reuse.backward_begins(self._session.user_line)

    def backward_ended(self) -> None:
        for known in self._known.values():
            known.reuse.backward_ended()

    def cleared(self, optimizer: Any) -> None:
        """zero_grad() of one optimizer, or of a module (None), which may reach any of them."""
        for known in self._known.values() if optimizer is None else filter(None, [self._known.get(optimizer)]):
            known.reuse.cleared()

    def rewritten(self) -> None:
        for known in self._known.values():
            known.reuse.rewritten()

    # A step

    def begins(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        known = self.know(optimizer)
        if self._main is None:
            self._main = known
            self.parameters.look_for_names(known)
            self._session.first_step()
        known.now = now = Observation()
        now.window = self._session.loop.new_window()
        if now.window.training is None:
            now.window.training = self._session.training_mode()
        now.reuse = known.reuse.at_step()
        with torch.no_grad():
            now.indices, now.norms = gradient_norms(known.parameters)
        self._session.probes.tell("step_begins", known)
        known.began = time.perf_counter()

    def ends(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Post-hook of every step; a step that was observed from its start has a window."""
        end = time.perf_counter()
        known = self._known.get(optimizer) or self.know(optimizer)
        if self.ends_a_step_begun_before_us:
            self.ends_a_step_begun_before_us = False
            known.recount(optimizer)
            known.last_end = end
            return
        known.steps += 1
        self.step = max(self.step, known.steps)
        self.validation.stepped()
        now, known.now = known.now, Observation()
        window = now.window
        evaluation_s = (window if window is not None else self._session.loop.window).evaluation_s
        step_s = end - known.last_end - evaluation_s
        known.last_end = end
        self._elect(known)
        if window is None:
            self._submit_loss(known, step_s, optimizer)
        else:
            if now.reuse is not None:
                self._report_reuse(known, now.reuse)
            self._session.probes.tell("step_ended", known)
            probe_s = (self._session.guard.spent_s - self._spent_at_row) / max(1, self._steps_since_row)
            self.parameters.enter(known, list(self._known.values()))
            times = {"step_s": step_s, "optimizer_s": end - known.began, "probe_s": probe_s}
            self._queue(known, now, window, times, optimizer)
            self._note_signals(window, now)
        self._session.transfer.poll()
        if known is self._main:
            self._plan_next(step_s, window)
        if self._session.guard.full:
            known.reuse.stepped()
        else:
            known.reuse.unknown()

    def _elect(self, known: Known) -> None:
        """The main optimizer paces the schedule; when it is gone or rests, the one that steps takes over."""
        if known is not self._main:
            self._steps_of_others += 1
            if self._main is not None and self._main.optimizer() is not None and self._steps_of_others < MOST_STEPS_OF_OTHERS:
                return
            self._main = known
        self._steps_of_others = 0
        self._steps_since_row += 1

    def _plan_next(self, step_s: float, window: Window | None) -> None:
        """Decide what is looked at in the next step; `window` is that of this one if it was observed."""
        guard, loop = self._session.guard, self._session.loop
        cost = guard.spent_s - self._spent_at_step
        was_full = guard.full
        if step_s == step_s:
            guard.full = self.schedule.next_is_observed(step_s, cost, window is not None)
            if window is None and loop.wants_loss:
                self.schedule.loss_row_took(cost)
        if window is not None:
            self._root_is_the_loss = all(loss.is_plain for loss in window.losses)
            self._spent_at_row = guard.spent_s
            self._steps_since_row = 0
            self._session.say_signals()
            self._session.instruments.watch_late_modules(self._session.observer)
        loop.wants_loss = not guard.full and self._root_is_the_loss and self.schedule.wants_loss()
        if guard.full != was_full:
            loop.new_window()
        self._spent_at_step = guard.spent_s

    def _submit_loss(self, known: Known, step_s: float, optimizer: torch.optim.Optimizer) -> None:
        """Queue a row with the loss alone, of a step that was not observed otherwise."""
        loop = self._session.loop
        if not (loop.wants_loss and loop.window.losses):
            loop.window.evaluation_s = 0.0
            return
        window = loop.new_window()
        window.training = self._session.training_mode()
        self._queue(known, Observation(), window, {"step_s": step_s}, optimizer)

    def _queue(
        self, known: Known, now: Observation, window: Window, times: Mapping[str, float], optimizer: torch.optim.Optimizer
    ) -> None:
        """Send for the numbers of a row; those on a GPU come some steps later."""
        row = Row(self.step, time.time(), known.index, discover.learning_rate(optimizer), window, now.reuse, times)
        gradients = (known.columns, self.parameters.count, f"gradients-{self.parameters.table}") if now.indices else None

        def deliver(values: list[float]) -> None:
            norms = values[: len(now.norms)]
            self.validation.trained(row.loss(values[len(norms) :]))
            writer = self._session.writer
            if gradients is not None:
                columns, count, table = gradients
                by_column = [NAN] * count
                for index, norm in zip(now.indices, norms, strict=True):
                    by_column[columns[index]] = norm
                writer.row(table, [row.step, *by_column])
            writer.row("steps", row.values(norms, values[len(norms) :]))

        if not self._session.transfer.submit([*now.norms, *row.scalars], deliver):
            self._session.writer.lose_row()

    def _note_signals(self, window: Window, now: Observation) -> None:
        visible = {
            "loss": bool(window.losses),
            "learning rate": True,
            "gradients": bool(now.norms),
            "gradient reuse": now.reuse is not None,
            "gradient clipping": window.clipped_norm is not None,
            "training mode": window.training is not None,
            "batch size": window.samples == window.samples,
            "data time": window.data_s == window.data_s,
            "forward time": window.forward_s == window.forward_s,
            "backward time": window.backwards > 0,
            "optimizer time": True,
        }
        for signal, is_visible in visible.items():
            if is_visible:
                self._session.signals[signal] = "seen"

    def _report_reuse(self, known: Known, reuse: Reuse) -> None:
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
            parameter=self.parameters.name_of(reuse.parameter) if reuse.parameter is not None else None,
            previous_step=known.steps - 1,
            where=reuse.where,
        )
