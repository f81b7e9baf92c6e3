"""Optimizer steps: a row for each observed one, gradient norms as the optimizer uses them, and gradients it uses twice."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING

import torch

from . import discover
from .expected import ExpectedPass
from .gradients import gradient_norms
from .guard import ASLEEP, AWAKE, LOSS
from .known import Known, Observation
from .modules import parameters
from .pace import Pace
from .parameters import Parameters
from .schedule import BURST
from .step_rows import StepRows
from .validation import Validation
from .window import NAN, Window

if TYPE_CHECKING:
    from .session import Session


class Steps:
    """All optimizers of the process."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._step = 0
        self._expected = ExpectedPass()
        self.pace = Pace(session, self._expected)
        self.slept = self.pace.slept
        self.parameters = Parameters(session)
        self.validation = Validation(session, self._expected)
        self._rows = StepRows(session, self.parameters, self.validation)
        self._optimizers = session.optimizers
        self._newest: Known | None = None
        "Whose step ended last while awake."
        self.root_is_the_loss = True
        "Whether backward() gets the loss as it is, neither scaled nor divided."
        self.ends_a_step_begun_before_us = False
        "The hooks came in between those of a step: its end is not to be counted, its own count may have risen already."

    def calibrate(self) -> None:
        """Measure what sleeping costs on this machine."""
        self.slept.calibrate()

    @property
    def step(self) -> int:
        """The count of the optimizer that stepped most; from any thread."""
        slept = self.slept
        return self._step if slept.main is slept else max(self._step, slept.step)

    def know(self, optimizer: torch.optim.Optimizer) -> Known:
        """With its count as it is now: that stands still while the optimizer is slept through."""
        has_new_weights = not self._optimizers.knows(optimizer) and self._session.models.steps_first(optimizer)
        known = self._optimizers.know(optimizer, self.step, has_new_weights)
        known.steps = self.count_of(known)
        self._step = max(self._step, known.steps)
        return known

    def count_of(self, known: Known) -> int:
        """Its steps, also while it is slept through."""
        return self.slept.step if known is self.slept.main else known.steps

    def main_root(self) -> torch.nn.Module | None:
        """The root module that holds the parameters of the main optimizer; before any has stepped the only one that is known."""
        if self.pace.main is not None:
            return self.root_of(self.pace.main)
        roots = self._session.roots()
        return roots[0] if len(roots) == 1 else None

    def root_of(self, known: Known) -> torch.nn.Module | None:
        """The root module that holds parameters of `known`; None where it was not met yet."""
        root = known.root()
        if root is None and not known.has_no_root:
            wanted = set(known.identities)
            root = next((r for r in self._session.roots() if any(id(p) in wanted for p in parameters(r))), None)
            known.has_no_root = root is None  # to look for it at each step would take long in a large model
            if root is not None:
                known.root = weakref.ref(root)
        return root

    def new_roots(self) -> None:
        """Other models than before are known."""
        for known in self._optimizers.everyone():
            known.has_no_root = False

    def training_mode_of(self, known: Known) -> bool | None:
        """The mode of its model; None where that was not met yet."""
        root = self.root_of(known)
        return None if root is None else root.training

    def training_mode(self) -> bool | None:
        """The mode of the model that is trained; None where it was not met yet, or of several whose modes differ."""
        trained = {id(known): known for known in (self.pace.main, self._newest) if known is not None}
        modes = {self.training_mode_of(known) for known in trained.values() if not self._session.models.has_rested(known)}
        if self.pace.main is None:
            root = self.main_root()
            modes = {None if root is None else root.training}
        return modes.pop() if len(modes) == 1 else None

    # A step

    def wakes_us(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether this step, which came while asleep, ends the sleep."""
        slept, known = self.slept, self._optimizers.by_id.get(id(optimizer))
        if known is not None and known is slept.main:
            return True  # the last of those to be slept through
        if known is not None:
            known.steps += 1
            self._step = max(self._step, known.steps)
        if slept.main is slept or (known is None and self.pace.newcomer_wakes_us()):
            return True
        slept.other_stepped(id(optimizer))
        rests = self.pace.main_rests
        if known is None and not rests:  # else it is met now, and counted there
            self._step = self.step + 1
        return rests

    def begins(self, optimizer: torch.optim.Optimizer) -> None:
        """Pre-hook of a step while awake."""
        known = self.know(optimizer)
        if self.pace.main is None:
            self._session.first_step()
            self.pace.main = known
            self.parameters.look_for_names(known)
        known.now = now = Observation()
        if not self._session.loop.window.complete:
            return
        whole = self._session.loop.new_window()
        now.window = whole.of(known.identities)
        known.counts_last = None if now.window is whole else now.window.backwards
        if now.window.training is None:
            now.window.training = self.training_mode_of(known)
        now.reuse = known.reuse.at_step()
        now.learning_rate = discover.learning_rate(optimizer)
        now.indices, now.norms = gradient_norms(known.parameters)
        self._session.probes.tell("step_begins", known)
        known.began = time.perf_counter()

    def ends(self, optimizer: torch.optim.Optimizer) -> None:
        """Post-hook of a step while not asleep; a step that was observed from its start has a window."""
        end = time.perf_counter()
        if self.slept.main is not self.slept:
            self._end_sleep()  # an error of ours came between waking and this
        known = self._optimizers.by_id.get(id(optimizer)) or self.know(optimizer)
        if self.ends_a_step_begun_before_us:
            self.ends_a_step_begun_before_us = False
            known.recount(optimizer)
            known.last_end = end
            return
        known.steps += 1
        self._newest = known
        self._step = max(self._step, known.steps)
        self._session.guard.step = self._step
        self.validation.stepped()
        now, known.now = known.now, Observation()
        inner = self._session.loop.new_window()
        began, known.last_end = known.last_end, end
        loss_only = self._session.guard.mode == LOSS
        was_roused = now.window is None and not loss_only
        self.pace.elect(known, 0.0 if was_roused else BURST)
        if loss_only:
            self._rows.submit_loss(self._step, known, inner, end - began - inner.evaluation_s)
        elif now.window is not None:
            if inner.backwards:
                self._take_from_closure(known, now, now.window, inner)
            self._observed(known, now, now.window, end - began - now.window.evaluation_s, end)
        self._session.transfer.poll()
        self._session.signals.say()
        if known is self.pace.main:
            self._plan_next(known, end, loss_only, now.window)
        if self._session.guard.mode == AWAKE:
            known.reuse.stepped()
        else:
            known.reuse.unknown()

    def _take_from_closure(self, known: Known, now: Observation, window: Window, inner: Window) -> None:
        """The step called a closure that went backward (LBFGS, Lightning): its gradients are those the step used last."""
        known.evaluates_again = not window.backwards and inner.backwards > 1
        window.take(inner)
        now.closure = True
        now.reuse = known.reuse.at_step()
        now.indices, now.norms = gradient_norms(known.parameters)

    def _observed(self, known: Known, now: Observation, window: Window, step_s: float, end: float) -> None:
        """All that is known of a step that was seen from its beginning to its end."""
        if now.reuse is not None:
            self._rows.report_reuse(known, now.reuse)
        self._session.probes.tell("step_ended", known)
        self.parameters.enter(known, self._optimizers.everyone())
        numbers = {"step_s": step_s, "optimizer_s": end - known.began, "probe_s": self.pace.cost_of_row(known, end)}
        self._rows.queue(self._step, known, now, window, {**numbers, **self._session.probes.columns()})
        self._rows.note_signals(window, now)
        if known is self.pace.main:
            self.root_is_the_loss = all(loss.is_plain for loss in window.losses)
            self._session.instruments.watch_late_modules()

    def _plan_next(self, known: Known, end: float, loss_only: bool, window: Window | None) -> None:
        """Decide what is looked at after this step; `window` is that of this one if it was observed."""
        schedule = self.pace.schedule
        after = schedule.after_loss if loss_only else schedule.after_roused if window is None else schedule.after_observed
        plan = self.pace.plan(end, after, self._step)
        if plan.asleep:
            self.slept.begin(plan, known)
            self._session.attention.sleep()
        elif plan.loss_only != loss_only or window is None:
            self._wake(plan.loss_only)

    def awakes(self, optimizer: torch.optim.Optimizer) -> None:
        """Post-hook of the last step of those to be slept through, or of an optimizer that came meanwhile."""
        rests = self.pace.main_rests
        self._end_sleep()
        is_new = id(optimizer) not in self._optimizers.by_id
        known = self.know(optimizer)
        known.steps += is_new and known.counted is None
        self._step = max(self._step, known.steps)
        known.last_end = end = time.perf_counter()
        if rests:
            self.pace.becomes_main(known)
            plan = self.pace.plan(end, self.pace.schedule.after_rest, self._step)
            if plan.asleep:
                self.slept.begin(plan, known)
            else:
                self._wake(plan.loss_only)
        else:
            if is_new and self.pace.knows_many:
                self.pace.becomes_main(known)
            self.pace.elect(known)
            self._wake(self.slept.then_loss_only)
        self._session.transfer.poll()

    def _end_sleep(self) -> None:
        self._step = self.step
        self.slept.wakes()

    def _wake(self, loss_only: bool) -> None:
        self._session.loop.awoke()
        self._session.loop.new_window()
        self._session.attention.wake(loss_only)
        if not loss_only:
            for known in self._optimizers.everyone():
                known.reuse.unknown()
            self._session.probes.tell("awoke")

    def roused(self) -> None:
        """Woken in the middle of a step by a rare call, or asleep still and put in again after a pause."""
        if self._session.guard.mode == ASLEEP:
            self.slept.account()
        else:
            self._end_sleep()
        for known in self._optimizers.everyone():
            known.last_end = NAN
            known.reuse.unknown()

    def wake_blind(self) -> None:
        """No step has come for long."""
        if self._session.guard.mode == ASLEEP:
            self._session.attention.wake()
            self._session.roused(blind=True)

    def resumed(self) -> None:
        """After a pause of the session."""
        self.pace.begin_anew()
        self._session.roused(blind=True)
