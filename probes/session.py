"""One watched process: puts the probes in, turns what they see into rows and events, and takes every probe out again."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from . import discover
from .attention import Attention
from .drivers import Drivers
from .evaluations import Batch, EvaluationPass
from .facts import Facts
from .guard import Guard
from .held_names import hold_names_if_profiled
from .instruments import Instruments
from .leaving import Leaving
from .looks import Looks
from .loop import Loop
from .moment import Moment
from .new_models import NewModels
from .observe import new_observer
from .optimizers import Optimizers
from .period import Period
from .probe import Probes
from .probe_list import new_probes
from .record import METRIC_COLUMNS, STEP_COLUMNS, rank_directory
from .roots import Roots
from .run_folder import RunFolder
from .run_info import rank, run_info, world_size
from .signals import Signals
from .step_hooks import StepHooks
from .steps import Steps
from .torch_modes import out_of_modes
from .transfer import Transfer
from .uncaught import Uncaught
from .where import OncePerCall, UserLines, describe
from .writer import Writer, event

TWO_TRAIN = "two threads train at once: gradients cannot be read safely while another thread writes some"


class Session:
    """Everything of ours that lives in the process. Built and ended on the main thread."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.rank = rank()
        self.active = False
        self.guard = Guard(self._failed, lambda: self.request_detach("too many errors of its own"))
        self.guard.when_two_train = lambda: self.request_detach(TWO_TRAIN)
        self.guard.after_capture = lambda: self.roused(blind=True)
        self._moment = Moment(self.guard, self._arm_moment, self._disarm_moment)
        period = Period(self, self._moment)
        self.lines = UserLines(os.path.dirname(os.path.abspath(config["probes_dir"] + "/x")), os.path.dirname(torch.__file__))
        # The user's line that led to the call under way, and the one that called the model whose forward is under way.
        self.user_line = OncePerCall(self.guard, self.lines.here)
        self.line_of_forward = OncePerCall(self.guard, self.lines.of_module_call)
        self.drivers = Drivers(self.lines)
        self.driver = self.drivers.here
        path: str = config["run_dir"]
        self.writer = Writer(rank_directory(path, self.rank), self._prepare, period.passes, self._writer_failed)
        self.folder = RunFolder(path, self.rank, self.writer, self._run_info)
        self.writer.declare("steps", STEP_COLUMNS)
        self.writer.declare("metrics", METRIC_COLUMNS)
        self.transfer = Transfer()
        self.facts = Facts(self.emit, self.step_now)
        self.loop = Loop(self, self.transfer)
        self.optimizers = Optimizers(self)
        self.steps = Steps(self)
        self.step_hooks = StepHooks(self.steps, self.guard)
        self.looks = Looks(self.guard)
        self.taken_out: list[Callable[[], object]] = []
        "What takes out that which a probe put in itself."
        self.observer = new_observer()
        self.attention = Attention(self.guard, self.observer, self.roused, self.step_now)
        self.models = NewModels(self)
        self.probes = Probes([self.models, *new_probes(self)], self.guard.swallow_ours)
        self.signals = Signals(self.probes, self.emit)
        self.instruments = Instruments(self)
        self._roots = Roots(lambda root: self.instruments.observe_forward(self.observer, root))
        self.roots, self.is_root = self._roots.living, self._roots.has
        self.uncaught = Uncaught(self)
        self._leaving = Leaving(self, self._moment)
        self.leave, self.request_detach = self._leaving.leave, self._leaving.ask

    # Coming and going

    def enter(self) -> None:
        """Find optimizers and models, put every probe in, and say so in the run directory. Whatever fails, none stays in."""
        try:
            with out_of_modes():
                self._enter()
        except BaseException:
            self._leaving.take_out()
            self.writer.stop(timeout_s=0.0)
            raise

    def _enter(self) -> None:
        began = time.perf_counter()
        if self.config.get("mode") != "run":
            self.writer.start()
        optimizers, roots = discover.live_objects()
        for optimizer in optimizers:
            self.steps.know(optimizer)
        self.know_roots(roots)
        self.guard.calibrate(self.observer)
        self.steps.calibrate()
        with self.guard.undisturbed():
            self._put_in()
            scan_s = time.perf_counter() - began
            if optimizers:
                self.folder.write_info()
            self.emit(
                "attached",
                pid=self.config.get("host_pid", os.getpid()),
                mode=self.config.get("mode"),
                python=sys.version.split()[0],
                torch=torch.__version__,
                rank=self.rank,
                world_size=world_size(),
                scan_s=scan_s,
                optimizers=len(optimizers),
                models=[type(root).__name__ for root in roots][:20],
                signals=self.signals.all(),
            )
            self.guard.protected(hold_names_if_profiled)  # what has loaded us is gone in a moment

    def _put_in(self) -> None:
        self.active = self.guard.active = True
        self.instruments.install()
        self._moment.when_no_step_runs(self.step_hooks.put_in)
        self.uncaught.put_in()
        self._leaving.when_interpreter_ends()

    def first_step(self) -> None:
        """An optimizer steps: this is a process to record. Others under `forgemon run` import torch too and write nothing."""
        self.folder.claim()
        self.folder.write_info()

    def _run_info(self, path: str) -> dict[str, Any]:
        return run_info({**self.config, "run_dir": path}, self.optimizers.living(), self.roots())

    def _arm_moment(self) -> None:
        """Observe what every step calls between its hooks; only while something waits for that."""
        self.attention.always(torch.optim.Optimizer._optimizer_step_code, lambda values: self._moment.run_deferred())

    def _disarm_moment(self) -> None:
        self.attention.forget(torch.optim.Optimizer._optimizer_step_code)

    def roused(self, blind: bool = False) -> None:
        """Woken in the middle of a step: by a rare call, or `blind` because no step came for long."""
        self.loop.awoke()
        self.loop.roused(blind)
        self.steps.roused()
        self.probes.tell("awoke")

    def pause(self) -> None:
        """Take everything out of the loop's way; budget and what is known stay. Not from inside an optimizer step."""
        self.active = self.guard.active = False
        for remove in self.step_hooks.removals():
            remove()
        self.attention.leave_all()

    def resume(self) -> None:
        """Put everything in again after `pause()`."""
        self.active = self.guard.active = True
        self.step_hooks.put_in()
        self.attention.resume_all()
        self.steps.resumed()

    # What the probes see

    def know_roots(self, roots: list[torch.nn.Module]) -> None:
        """`roots`: all that live."""
        self.instruments.leave_forwards_but_of([*self.roots(), *roots])
        self._roots.know(roots)
        self.steps.new_roots()
        self.steps.parameters.name(roots)

    def look_again(self) -> None:
        """Models appear after their optimizer did, or are wrapped anew."""
        found = self.looks.live_objects()
        if found is not None:
            self.know_roots(found[1])

    def training_mode(self) -> bool | None:
        """The mode of the model that is trained; None when none is known, or another one may be at work."""
        return None if self.models.is_awaited else self.steps.training_mode()

    def evaluations_ended(self, results: Sequence[EvaluationPass]) -> None:
        self.steps.validation.ended(results)

    def evaluated(self, finished: EvaluationPass, value: float) -> None:
        metric = self.steps.validation.evaluated(finished, value)
        self.probes.tell("evaluated", finished, metric, value)

    def evaluated_as(self, finished: EvaluationPass, metric: str, value: float) -> None:
        self.probes.tell("evaluated", finished, metric, value)

    def evaluation_batch(self, batch: Batch) -> None:
        self.probes.tell("evaluation_batch", batch)

    def epoch(self) -> int | None:
        return self.steps.validation.epoch()

    def step_now(self) -> int:
        return self.steps.step

    def emit(self, kind: str, **fields: Any) -> None:
        """Queue an event of this step, or of the one given as `at_step`."""
        self.writer.event(event(kind, fields.pop("at_step", self.steps.step), fields))

    # On the writer's thread

    def _prepare(self, fields: dict[str, Any]) -> dict[str, Any]:
        if "where" in fields:
            fields["where"] = describe(fields["where"])
        if fields["kind"] == "checkpoint" and fields.get("path"):
            try:
                fields["bytes"] = os.stat(fields["path"]).st_size
            except OSError:
                fields["bytes"] = None
        return fields

    def _writer_failed(self, error: Exception) -> None:
        self.guard.swallow("Writer", error)

    def _failed(self, place: str, error: str) -> None:
        self.emit("probe_error", where_in_probe=place, error=error)
