"""Which functions of torch are observed, and what is done when each is called."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch.utils.data.dataloader import _BaseDataLoaderIter

from . import checkpoints, dynamo
from .batch_data import summed_items
from .compilers import READ_BY_COMPILERS, frame_compiler, is_of_a_loop
from .losses import CRITERIA, GRAD_SCALER, note_loss, plain_tensor
from .modules import parameters
from .observe import Observer, forward_of, parameter_names, unwrap
from .probe import MODULES_EVERY

if TYPE_CHECKING:
    from .session import Session


class Instruments:
    """The observers of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._forwards: set[types.FunctionType] = set()
        self._safetensors = self._compiles = self._sees_compiler = False
        self._modules = self._looks_at_modules = 0

    def watch(self, function: Any, start: Callable[..., None] | None = None, end: Callable[..., None] | None = None) -> bool:
        """Observe `function`: `start(values)`, `end(values, result)`; `values` are its arguments in their order.

        Between observed steps a call wakes the probes if it is rare; one that every step makes is not seen then.
        """
        return self._session.attention.watch(function, start, end)

    def always(self, function: Any, start: Callable[..., None] | None = None, end: Callable[..., None] | None = None) -> bool:
        """Observe `function` at every step, without waking: for calls that are rare by nature."""
        return self._session.attention.always(function, start, end)

    def install(self) -> None:
        session, loop = self._session, self._session.loop
        guard = session.guard

        watch, always, tell = self.watch, self.always, session.probes.tell
        watched = session.attention.watch
        began, ended, light = self._backward_began, self._backward_ended, (self._backward_lightly, None)
        watched(torch.autograd.backward, began, ended, light, trains=True)
        watch(_BaseDataLoaderIter.__next__, lambda values: loop.fetch_began(), self._fetched)
        watch(torch.utils.data.DataLoader.__iter__, None, lambda values, result: tell("loader_began", result))
        for context in (torch.no_grad, torch.inference_mode):
            watch(context.__enter__, lambda values: None)  # a validation pass may begin with it alone
        watch(torch.optim.Optimizer.zero_grad, self._zeroed)
        watch(torch.nn.Module.zero_grad, self._module_zeroed)
        watch(torch.nn.Module.train, self._mode_changed)
        watch(torch.nn.utils.clip_grad_norm_, None, self._clipped)
        watch(torch.nn.utils.clip_grad_value_, None, self._clipped_by_value)
        always(torch.save, lambda values: self.save_begins(values[1]), self._saved)
        always(torch.optim.Optimizer.add_param_group, None, lambda values, result: self._optimizer_is_built())
        always(torch.compile, lambda values: self._compiler_comes(not isinstance(values[0], torch.nn.Module)))
        if hasattr(torch, "export"):
            always(torch.export.export, lambda values: self._compiler_comes(of_a_loop=True))
        watched(GRAD_SCALER.scale, None, self._scaled, light=(None, self._scaled_lightly))
        watch(GRAD_SCALER.unscale_, None, self._unscaled)
        for name in CRITERIA:
            function = getattr(F, name, None)
            if function is not None:
                returned, lightly = self._criterion(name, function)
                watched(function, None, returned, light=(None, lightly))
        for probe in session.probes.all:
            guard.protected(probe.install, self)
        self.watch_late_modules()

    def watch_late_modules(self) -> None:
        """Modules that a program imports when it first needs them."""
        count = len(sys.modules)
        self._looks_at_modules += 1
        if count == self._modules and self._looks_at_modules % MODULES_EVERY:
            return
        self._modules = count
        self._session.probes.tell("late_modules", self)
        save_file = getattr(sys.modules.get("safetensors.torch"), "save_file", None)
        if save_file is not None and not self._safetensors:
            self._safetensors = True
            self.always(save_file, lambda values: self.save_begins(values[1]), self._safetensors_saved)
        compiler = frame_compiler()
        if compiler is not None and not self._sees_compiler:  # of what was to be compiled before we came, much is read only now
            self._sees_compiler = True
            self.always(compiler, lambda values: self._compiler_comes(is_of_a_loop(values)))

    def observe_forward(self, observer: Observer, root: torch.nn.Module) -> None:
        """Observe the forward of a root's class; not where a compiler has read or will read its code."""
        session, loop = self._session, self._session.loop
        forward: Any = forward_of(type(root))
        if _is_compiled(root):
            forward = type(root).__call__
        elif self._compiles or getattr(root, "_compiled_call_impl", None) is not None or dynamo.has_compiled_frames():
            return

        def began(values: tuple[Any, ...]) -> None:
            if session.is_root(values[0]):
                loop.forward_began(values[1:])
                session.probes.tell("forward_began", values[0], values[1:])

        def ended(values: tuple[Any, ...], output: Any) -> None:
            if session.is_root(values[0]):
                loop.forward_ended(values[0].training, output)
                session.probes.tell("forward_ended", values[0], output)

        found = unwrap(forward)
        if found is not None and self.watch(found, began, ended):
            self._forwards.add(found)

    def _compiler_comes(self, of_a_loop: bool) -> None:
        """It reads code: what it finds shall be the program's own. `of_a_loop`: of a part of the loop, and what that calls is read with
        it."""
        self._compiles = True
        self._leave_forwards(self._forwards)
        for function in READ_BY_COMPILERS if of_a_loop else ():
            self._session.attention.forget(unwrap(function))

    def _optimizer_is_built(self) -> None:
        """Its model is there by now, and the first forward yet to come. Where a compiler will read code, the first step is early enough."""
        if not self._compiles and not self._session.roots():
            self._session.look_again()

    def leave_forwards_but_of(self, roots: list[torch.nn.Module]) -> None:
        """Keep no class alive that was made for models that are gone."""
        needed = {unwrap(type(root).__call__ if _is_compiled(root) else forward_of(type(root))) for root in roots}
        self._leave_forwards(self._forwards - needed)

    def _leave_forwards(self, forwards: Collection[types.FunctionType]) -> None:
        for forward in list(forwards):
            self._session.attention.forget(forward)
            self._forwards.discard(forward)

    def _backward_began(self, values: tuple[Any, ...]) -> None:
        self._session.loop.backward_began(values[0])
        self._session.optimizers.backward_begins()
        self._session.probes.tell("backward_begins", values[0])

    def _backward_lightly(self, values: tuple[Any, ...]) -> None:
        self._session.loop.note_loss(values[0])

    def _backward_ended(self, values: tuple[Any, ...], _: Any) -> None:
        self._session.loop.backward_ended()
        self._session.optimizers.backward_ended()
        self._session.probes.tell("backward_ended", values[0])

    def _fetched(self, values: tuple[Any, ...], batch: Any) -> None:
        before = self._session.loop.training_data.passes
        self._session.loop.fetch_ended(values[0], batch)
        self._note_epoch(before)
        self._session.probes.tell("batch_fetched", values[0], batch)

    def _note_epoch(self, before: int) -> None:
        if self._session.loop.training_data.passes != before:
            self._session.steps.validation.epoch_began()

    def _zeroed(self, values: tuple[Any, ...]) -> None:
        self._session.optimizers.cleared(values[0])
        self._session.loop.cleared(lambda: frozenset(id(p) for group in values[0].param_groups for p in group["params"]))
        self._session.probes.tell("zeroed", values[0], None)

    def _module_zeroed(self, values: tuple[Any, ...]) -> None:
        # By None the gradients vanish, which shows by itself; zeroed in place they may stay the same tensors.
        if len(values) > 1 and values[1] is False:
            self._session.optimizers.cleared(None)
        self._session.loop.cleared(lambda: frozenset(map(id, parameters(values[0]))))
        self._session.probes.tell("zeroed", None, values[0])

    def _mode_changed(self, values: tuple[Any, ...]) -> None:
        session = self._session
        if not session.is_root(values[0]):
            return
        # A default of `mode` is there as its value, True.
        training = bool(values[1]) if len(values) > 1 else True
        session.signals.seen("training mode")
        session.loop.mode_set(training)
        if values[0].training != training:
            if training:
                session.loop.end_evaluation()
            else:
                session.drivers.search_anew()
            session.emit("mode", training=training, where=session.user_line())
        session.probes.tell("mode_changed", values[0], training)

    def _clipped(self, values: tuple[Any, ...], norm: Any) -> None:
        norm = getattr(norm, "_local_tensor", norm)  # DTensor: that of the local shards
        # Other norms cannot stand beside those of the gradients.
        self._session.loop.window.clipped(norm if values[2] == 2 else None)
        self._session.optimizers.rewritten()
        self._session.probes.tell("clipped", values[0], values[1], norm)

    def _clipped_by_value(self, values: tuple[Any, ...], _: Any) -> None:
        self._session.loop.window.clipped(None)
        self._session.optimizers.rewritten()
        self._session.probes.tell("clipped", values[0], values[1], None)

    def _scaled(self, values: tuple[Any, ...], result: Any) -> None:
        self._session.loop.scaled(values[1], result)
        self._session.probes.tell("scaled", values[0], values[1], result)

    def _unscaled(self, values: tuple[Any, ...], _: Any) -> None:
        self._session.optimizers.rewritten()
        self._session.probes.tell("unscaled", values[0], values[1])

    def _scaled_lightly(self, values: tuple[Any, ...], result: Any) -> None:
        self._session.loop.scaled(values[1], result)

    def _criterion(self, name: str, function: Any) -> tuple[Callable[..., None], Callable[..., None]]:
        """What is called when the criterion returns, and what in a step of which the loss alone is wanted."""
        names = parameter_names(function)
        position = names.index("reduction") if "reduction" in names else -1
        ignored_at = names.index("ignore_index") if "ignore_index" in names else -1
        session = self._session

        def returned(values: tuple[Any, ...], output: Any) -> None:
            reduction = values[position] if position >= 0 else "mean"
            ignored = values[ignored_at] if ignored_at >= 0 else None
            session.loop.criterion(name, reduction, values, output, ignored)
            session.probes.tell("criterion", name, reduction, values, output)

        def lightly(values: tuple[Any, ...], output: Any) -> None:
            if not session.steps.root_is_the_loss and plain_tensor(output) and output.numel() == 1:
                reduction = values[position] if position >= 0 else "mean"
                note_loss(output, summed_items(name, reduction, values))

        return returned, lightly

    def _saved(self, values: tuple[Any, ...], _: Any) -> None:
        self.checkpoint("torch.save", values[1], values[0])

    def _safetensors_saved(self, values: tuple[Any, ...], _: Any) -> None:
        self.checkpoint("safetensors.torch.save_file", values[1], values[0])

    def save_begins(self, target: object) -> None:
        """A save to the file `target` begins. It has to wait for what is on a GPU, so that a validation result that is sent for now is
        here when it has ended."""
        if checkpoints.path_of(target) is not None:
            self._session.loop.end_evaluation()
            self._session.loop.tell_of_passes()

    def checkpoint(self, function: str, target: object, saved: object) -> None:
        """`function` wrote `saved` to the file `target`."""
        path = checkpoints.path_of(target)
        session = self._session
        if path is None:
            session.probes.tell("buffered", saved)
            return
        session.loop.end_evaluation()
        session.loop.tell_of_passes()
        session.transfer.poll()
        session.signals.seen("checkpoints")
        event = {
            "path": path,
            "function": function,
            **checkpoints.contents_of(saved),
            "where": session.user_line(),
            **session.steps.validation.standing,
        }
        session.probes.tell("saved", function, path, saved, event)
        session.emit("checkpoint", **event)


def _is_compiled(root: torch.nn.Module) -> bool:
    compiled = sys.modules.get("torch._dynamo.eval_frame")
    optimized = getattr(compiled, "OptimizedModule", None)  # not there yet while the module is being imported
    return optimized is not None and isinstance(root, optimized)
