"""Optimizer steps: a row for each observed one, gradient norms as the optimizer uses them, and gradients it uses twice."""

from __future__ import annotations

import math
import sys
import time
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from . import discover
from .evaluations import EvaluationPass
from .gradients import ParameterTables, gradient_norms
from .loop import NAN, Window
from .losses import loss_value
from .record import gradient_columns, write_json_once
from .reuse import GradientReuse, Reuse
from .schedule import Schedule

if TYPE_CHECKING:
    from .session import Session

Parameters = list[torch.Tensor]


class Known:
    """One optimizer we have met."""

    def __init__(self, index: int, optimizer: torch.optim.Optimizer) -> None:
        self.index = index
        self.optimizer = weakref.ref(optimizer)
        self.counted = discover.own_step_count(optimizer)
        self.steps = self.counted or 0
        self.last_end = NAN
        self.began = 0.0
        self.reuse_seen = 0
        self.now = Observation()
        self.refresh(optimizer)

    def refresh(self, optimizer: torch.optim.Optimizer) -> None:
        self.layout = _layout(optimizer)
        self.parameters: Parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.reuse = GradientReuse(self.parameters)
        self.columns: tuple[int, ...] = ()


class Observation:
    """What the pre-hook of one step measured."""

    __slots__ = ("indices", "norms", "reuse", "window")

    def __init__(self) -> None:
        self.window: Window | None = None
        self.reuse: Reuse | None = None
        self.indices: list[int] = []
        self.norms: list[torch.Tensor] = []


def _layout(optimizer: torch.optim.Optimizer) -> tuple[tuple[int, int], ...]:
    return tuple((id(group["params"]), len(group["params"])) for group in optimizer.param_groups)


class Steps:
    """All optimizers of the process. `step` is the count of the one that stepped most."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.step = 0
        self.schedule = Schedule(float(session.config.get("budget", 0.01)))
        self.last_evaluation: dict[str, Any] = {"metric": None, "value": None, "evaluation_step": None}
        self._known: weakref.WeakKeyDictionary[torch.optim.Optimizer, Known] = weakref.WeakKeyDictionary()
        self._count = 0
        self._main: Known | None = None
        self._tables = ParameterTables()
        self._names: dict[int, str] = {}
        self._looked_at = -1
        self._root: weakref.ref[torch.nn.Module] | None = None
        self._steps_since_row = 0
        self._spent_at_row = 0.0
        self._spent_at_step = 0.0
        self._train_sum, self._train_count = 0.0, 0
        self._passes_since_step = 0

    # Optimizers and parameters

    def know(self, optimizer: torch.optim.Optimizer) -> Known:
        known = self._known.get(optimizer)
        if known is None:
            known = self._known[optimizer] = Known(self._count, optimizer)
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
        elif known.layout != _layout(optimizer):
            known.refresh(optimizer)
        return known

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return list(self._known)

    def name_parameters(self, roots: list[torch.nn.Module]) -> None:
        self._names.update(discover.parameter_names(roots))

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
            self._look_for_names(known)
            self._session.first_step()
        known.now = now = Observation()
        now.window = self._session.loop.new_window()
        if now.window.training is None:
            now.window.training = self._session.training_mode()
        now.reuse = known.reuse.at_step()
        with torch.no_grad():
            now.indices, now.norms = gradient_norms(known.parameters)
        known.began = time.perf_counter()

    def ends(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Post-hook of every step; a step that was observed from its start has a window."""
        end = time.perf_counter()
        known = self._known.get(optimizer) or self.know(optimizer)
        known.steps += 1
        self.step = max(self.step, known.steps)
        self._passes_since_step = 0
        now, known.now = known.now, Observation()
        window = now.window
        evaluation_s = (window if window is not None else self._session.loop.window).evaluation_s
        step_s = end - known.last_end - evaluation_s
        known.last_end = end
        if known is self._main or self._main is None:
            self._steps_since_row += 1
        if window is None:
            self._session.loop.window.evaluation_s = 0.0
        else:
            if now.reuse is not None:
                self._report_reuse(known, now.reuse)
            probe_s = (self._session.guard.spent_s - self._spent_at_row) / max(1, self._steps_since_row)
            self._submit(known, now, window, step_s, end - known.began, probe_s, optimizer)
            self._session.transfer.poll()
        if known is self._main:
            self._plan_next(step_s, window is not None)
        if self._session.guard.full:
            known.reuse.stepped()
        else:
            known.reuse.unknown()

    def _plan_next(self, step_s: float, observed: bool) -> None:
        guard = self._session.guard
        cost = guard.spent_s - self._spent_at_step
        was_full = guard.full
        if step_s == step_s:
            guard.full = self.schedule.next_is_observed(step_s, cost, observed)
        if guard.full and not was_full:
            self._session.loop.new_window()
        if observed:
            self._spent_at_row = guard.spent_s
            self._steps_since_row = 0
            self._session.say_signals()
            self._session.instruments.watch_late_modules(self._session.observer)
        self._spent_at_step = guard.spent_s

    def _submit(
        self,
        known: Known,
        now: Observation,
        window: Window,
        step_s: float,
        optimizer_s: float,
        probe_s: float,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Queue the row; numbers that are still on a GPU follow when they arrive."""
        table = self._table_of(known)
        columns, count, step, when = known.columns, self._tables.count, self.step, time.time()
        losses = [
            tensor for loss in window.losses for tensor in (loss.root, loss.root if loss.criterion is None else loss.criterion)
        ]
        clipped = window.clipped_norm
        clip = [clipped] if isinstance(clipped, torch.Tensor) and clipped.dim() == 0 else []
        rate = discover.learning_rate(optimizer)
        reuse = now.reuse

        def deliver(values: list[float]) -> None:
            norms = values[: len(now.norms)]
            pairs = values[len(now.norms) : len(now.norms) + len(losses)]
            loss = _mean_loss(pairs)
            if math.isfinite(loss):
                self._train_sum += loss
                self._train_count += 1
            row = [NAN] * count
            for index, norm in zip(now.indices, norms, strict=True):
                row[columns[index]] = norm
            writer = self._session.writer
            writer.row(f"gradients-{table}", [step, *row])
            writer.row(
                "steps",
                [
                    step,
                    when,
                    known.index,
                    loss,
                    rate,
                    window.loss_scale,
                    math.hypot(*norms) if norms else NAN,
                    values[-1] if clip else NAN,
                    window.samples,
                    float(window.backwards) if window.backwards else NAN,
                    NAN if window.training is None else float(window.training),
                    reuse.reused / reuse.checked if reuse is not None and reuse.checked else NAN,
                    step_s,
                    window.data_s,
                    window.forward_s,
                    window.backward_s if window.backwards else NAN,
                    optimizer_s,
                    probe_s,
                ],
            )

        self._note_signals(window, now, bool(clip))
        self._session.transfer.submit([*now.norms, *losses, *clip], deliver)

    def _note_signals(self, window: Window, now: Observation, clipped: bool) -> None:
        visible = {
            "loss": bool(window.losses),
            "learning rate": True,
            "gradients": bool(now.norms),
            "gradient reuse": now.reuse is not None,
            "gradient clipping": clipped,
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

    # Parameter tables

    def _table_of(self, known: Known) -> int:
        if known.columns and self._tables.columns_of(known.index, known.parameters)[0] == known.columns:
            return self._tables.table
        self._look_for_names(known)
        known.columns, new = self._tables.columns_of(known.index, known.parameters)
        if new:
            self._write_table()
        return self._tables.table

    def _look_for_names(self, known: Known) -> None:
        if self._looked_at != self._count and any(id(p) not in self._names for p in known.parameters):
            self._looked_at = self._count
            self._session.look_again()

    def _write_table(self) -> None:
        by_index = {known.index: known for known in self._known.values()}
        table, step = self._tables.table, self.step
        described = []
        for index, known in sorted(by_index.items()):
            columns = self._tables.columns_of(index, known.parameters)[0] if self._is_in_table(index) else ()
            known.columns = columns
            if columns:
                described += self._describe(known)
        content = {"table": table, "first_step": step, "parameters": described}
        writer = self._session.writer
        writer.declare(f"gradients-{table}", gradient_columns(len(described)))
        writer.file(f"parameters-{table}.json", lambda path: write_json_once(path, content))
        self._session.emit("table", table=table, parameters=len(described))

    def _is_in_table(self, index: int) -> bool:
        return any(optimizer == index for optimizer, _ in self._tables.order)

    def _describe(self, known: Known) -> list[dict[str, Any]]:
        optimizer = known.optimizer()
        groups = [len(group["params"]) for group in optimizer.param_groups] if optimizer is not None else []
        group_of = [number for number, size in enumerate(groups) for _ in range(size)]
        return [
            {
                "name": self.name_of(parameter) or f"optimizer{known.index}.group{group}.{position}",
                "shape": list(parameter.shape),
                "dtype": str(parameter.dtype).replace("torch.", ""),
                "optimizer": known.index,
                "group": group,
            }
            for position, (parameter, group) in enumerate(zip(known.parameters, group_of, strict=True))
        ]

    def name_of(self, parameter: torch.Tensor) -> str | None:
        return self._names.get(id(parameter))

    # Facts, evaluations, epochs

    def _report_reuse(self, known: Known, reuse: Reuse) -> None:
        if reuse.checked == 0 or 2 * reuse.reused < reuse.checked:
            return
        known.reuse_seen += 1
        if known.reuse_seen & (known.reuse_seen - 1):  # at the 1st, 2nd, 4th, 8th … time
            return
        self._session.emit(
            "fact",
            fact="missing-zero-grad",
            optimizer=known.index,
            parameters_checked=reuse.checked,
            parameters_reused=reuse.reused,
            parameter=self.name_of(reuse.parameter) if reuse.parameter is not None else None,
            previous_step=known.steps - 1,
            times=known.reuse_seen,
            where=reuse.where,
        )

    def evaluated(self, finished: EvaluationPass, value: float) -> None:
        session = self._session
        on_training_data = finished.loader is not None and finished.loader == session.loop.training_loader
        metric = finished.metric
        if on_training_data:
            metric += " (training data)"
        else:
            self._passes_since_step += 1
            if self._passes_since_step > 1:
                metric += f" #{self._passes_since_step}"
        train_loss = self._train_sum / self._train_count if self._train_count else None
        session.seen("validation loss")
        session.writer.metric(metric, [finished.step, time.time(), value])
        session.emit(
            "evaluation",
            at_step=finished.step,
            metric=metric,
            value=value,
            batches=finished.batches,
            samples=finished.items,
            training=finished.any_training,
            grad_enabled=finished.any_grad,
            duration_s=finished.ended - finished.began,
            epoch=finished.epoch,
            train_loss=train_loss,
            where=finished.where,
        )
        if not on_training_data and metric == finished.metric:
            self._train_sum, self._train_count = 0.0, 0
            self.last_evaluation = {"metric": metric, "value": value, "evaluation_step": finished.step}

    def epoch(self) -> int | None:
        """The main module's `epoch`, else the passes over the training loader after the first, when watched from the start."""
        named = getattr(sys.modules.get("__main__"), "epoch", None)
        if type(named) is int:
            return named
        passes = self._session.loop.passes_over_training_data
        return passes if self._session.config.get("mode") != "attach" else None

    def epoch_began(self) -> None:
        self._session.seen("epochs")
        self._session.emit("epoch", epoch=self.epoch())


def _mean_loss(pairs: Sequence[float]) -> float:
    """Mean over the micro-batches; a NaN in any of them shows."""
    losses = [loss_value(root, criterion) for root, criterion in zip(pairs[::2], pairs[1::2], strict=True)]
    return sum(losses) / len(losses) if losses else NAN
