"""Ways to save beside torch.save and safetensors: torch.distributed.checkpoint, Lightning, the HF Trainer's state file."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .checkpoints import path_of
from .observe import parameter_names

if TYPE_CHECKING:
    from .instruments import Instruments

LIGHTNING = ("lightning.fabric.utilities.cloud_io", "lightning_fabric.utilities.cloud_io")
DISTRIBUTED = "torch.distributed.checkpoint.state_dict_saver"
TRAINER_STATE = "transformers.trainer_callback"
MOST_UNDER_WAY = 64


class SaveCalls:
    """Calls `instruments.checkpoint(function, path, saved)` for each."""

    def __init__(self) -> None:
        self._observed: set[str] = set()
        self._under_way: deque[str] = deque(maxlen=MOST_UNDER_WAY)
        "Paths that async_save() writes from a thread of its own; they were told of when it was called."

    def observe(self, instruments: Instruments) -> None:
        """Those of the modules imported by now that are not observed yet."""
        begins, checkpoint = instruments.save_begins, instruments.checkpoint
        for name in LIGHTNING:
            if (save := self._new(name, "_atomic_save")) is not None:
                # It goes to a buffer by torch.save, and from there to the file.
                instruments.always(
                    save, lambda values: begins(values[1]), lambda values, _: checkpoint("lightning", values[1], values[0])
                )
        if (state := self._new(TRAINER_STATE, "TrainerState")) is not None:
            instruments.always(
                state.save_to_json,
                lambda values: begins(values[1]),
                lambda values, _: checkpoint("transformers", values[1], _numbers(values[0])),
            )
        if (save := self._new(DISTRIBUTED, "save")) is not None:
            self._observe_distributed(instruments, save)

    def _new(self, module_name: str, name: str) -> Any:
        """`name` of a module, once, when its import has come to its end."""
        module = sys.modules.get(module_name)
        if (
            module is None
            or module_name in self._observed
            or getattr(getattr(module, "__spec__", None), "_initializing", False)
        ):
            return None
        self._observed.add(module_name)
        return getattr(module, name, None)

    def _observe_distributed(self, instruments: Instruments, save: Any) -> None:
        def ended(values: tuple[Any, ...], _: Any) -> None:
            path = target(values)
            if path is None:
                return
            if path in self._under_way:
                self._under_way.remove(path)
            else:
                instruments.checkpoint("torch.distributed.checkpoint.save", path, values[0])

        target = _target_of(save)
        instruments.always(save, lambda values: instruments.save_begins(target(values)), ended)
        async_save = getattr(sys.modules[DISTRIBUTED], "async_save", None)
        if async_save is None:
            return
        target_async = _target_of(async_save)

        def began(values: tuple[Any, ...]) -> None:
            path = target_async(values)
            if path is not None:
                self._under_way.append(path)
                instruments.checkpoint("torch.distributed.checkpoint.async_save", path, values[0])

        instruments.always(async_save, began)


def _target_of(function: Any) -> Callable[[tuple[Any, ...]], str | None]:
    names = parameter_names(function)

    def target(values: tuple[Any, ...]) -> str | None:
        given = dict(zip(names, values, strict=False))
        identity = given.get("checkpoint_id")
        return path_of(identity if identity is not None else getattr(given.get("storage_writer"), "path", None))

    return target


def _numbers(state: Any) -> dict[str, Any]:
    """What a TrainerState, a plain dataclass of transformers', tells of the weights beside it."""
    return {name: getattr(state, name, None) for name in ("global_step", "epoch", "best_metric")}
