"""What the loop logs to TensorBoard, wandb and mlflow or by its framework, and the losses and metrics that it keeps in variables."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .directions import is_validation, words
from .evaluations import Batch, EvaluationPass
from .guard import AWAKE
from .kept import Kept
from .known import Known
from .probe import Probe
from .scalars import host_number, is_scalar_tensor
from .series import AllSeries

if TYPE_CHECKING:
    from .instruments import Instruments
    from .session import Session

FIRST_LOOKS = 64
STEPS_A_LOOK = 4
LATER = ((192, 32), (160, 16))
"""Variables are looked at before each of the first observed steps, then before one in four; where backward() shows the loss, after so
many looks before one in so many. And whenever a mode changes or a validation pass was seen."""

MOST_DEEP = 3
MOST_IN_ONE_CALL = 200

_CONNECTOR = "trainer.connectors.logger_connector.logger_connector"
FUNCTIONS = (
    # module, function, source, position of its name (None: names are the keys), position of the value or the dict of values
    ("torch.utils.tensorboard.writer", "SummaryWriter.add_scalar", "tensorboard", 1, 2),
    ("torch.utils.tensorboard.writer", "SummaryWriter.add_scalars", "tensorboard", 1, 2),
    ("tensorboardX.writer", "SummaryWriter.add_scalar", "tensorboard", 1, 2),
    ("tensorboardX.writer", "SummaryWriter.add_scalars", "tensorboard", 1, 2),
    ("wandb.sdk.wandb_run", "Run.log", "wandb", None, 1),
    ("mlflow.tracking.fluent", "log_metric", "mlflow", 0, 1),
    ("mlflow.tracking.fluent", "log_metrics", "mlflow", None, 0),
    ("transformers.trainer", "Trainer.log", "transformers", None, 1),
    *(
        (f"{name}.{_CONNECTOR}", "_LoggerConnector.log_metrics", "lightning", None, 1)
        for name in ("lightning.pytorch", "pytorch_lightning")
    ),
)
OF_FRAMEWORKS = frozenset({"transformers", "lightning"})
"""Of whose numbers the results of validation alone are wanted: training is measured here as well."""
OF_SPEED = frozenset({"runtime", "second"})
"""With one of these words it is how long the validation took."""
SEPARATORS = {"tensorboard": "/", "wandb": ".", "mlflow": "/", "transformers": "/", "lightning": "/"}
"""Between the names of nested values, as each shows them itself."""


class Logged(Probe):
    """The calls are observed at every step: a number logged once an epoch is never missed. Variables, at observed steps."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.series = AllSeries(session)
        self._kept = Kept(session, self.series)
        self._waiting = list(FUNCTIONS)
        self._looks = 0
        self._next_look = 0
        "The step at which the variables are looked at next."

    def install(self, instruments: Instruments) -> None:
        self.late_modules(instruments)

    def late_modules(self, instruments: Instruments) -> None:
        for entry in list(self._waiting):
            module = sys.modules.get(entry[0])
            if module is not None and not getattr(vars(module).get("__spec__"), "_initializing", False):
                self._waiting.remove(entry)
                function: Any = module
                for part in entry[1].split("."):
                    function = getattr(function, part, None)
                if function is not None:
                    instruments.always(function, self._taker(*entry[2:]))

    # Logged

    def _taker(self, source: str, name_at: int | None, value_at: int) -> Callable[[tuple[Any, ...]], None]:
        known, offer, guard, steps = self.series.of(source), self.series.offer, self.session.guard, self.session.steps

        def called(values: tuple[Any, ...]) -> None:
            name, value = values[name_at] if name_at is not None else "", values[value_at]
            if type(name) is not str:
                return
            series = known.get(name) if type(value) is float else None
            if series is not None and not series.is_result:  # what every step may log: kept short
                offer(series, value, steps.step, guard.mode == AWAKE)
            else:
                self._take(source, name, value, 0)

        return called

    def _take(self, source: str, name: str, value: Any, depth: int) -> None:
        if type(value) is dict and depth < MOST_DEEP:
            start = name + SEPARATORS[source] if name else ""
            for key, inner in list(value.items())[:MOST_IN_ONE_CALL]:
                if type(key) is str:
                    self._take(source, start + key, inner, depth + 1)
            return
        if source in OF_FRAMEWORKS and (not is_validation(name) or not OF_SPEED.isdisjoint(words(name))):
            return
        is_tensor = is_scalar_tensor(value)
        number = None if is_tensor and value.device.type != "cpu" else host_number(value)
        if number is None and not is_tensor:
            return
        series = self.series.find(source, name)
        if series is None:
            return
        step, every = self.session.step_now(), self.session.guard.mode == AWAKE
        if number is None:
            self.series.offer_tensor(series, value, step, every)
            return
        self.series.offer(series, number, step, every)
        if series.is_result:
            self.series.result(series, number, step, self.session.user_line(), self.session.epoch())

    # Kept

    def step_begins(self, known: Known) -> None:
        step = known.steps + 1
        if step >= self._next_look and step > self.session.step_now():  # not for each of several optimizers
            self._looks += 1
            self._next_look = step + self._steps_a_look(known)
            self._kept.look(step)

    def _steps_a_look(self, known: Known) -> int:
        if self._looks < FIRST_LOOKS:
            return 1
        if known.now.window is None or not known.now.window.losses:
            return STEPS_A_LOOK
        return next((steps for looks, steps in LATER if self._looks >= looks), STEPS_A_LOOK)

    def mode_changed(self, root: Any, training: bool) -> None:
        self._next_look = 0  # a result may come to stand in a variable at any step now
        if training:
            self._kept.look(self.session.step_now())
        else:
            self._kept.validation_begins()

    def saved(self, function: str, path: str, saved: Any, event: dict[str, Any]) -> None:
        self._kept.look(self.session.step_now())
        event.update(self.session.steps.validation.standing)

    # Passes that a criterion shows

    def criterion(self, name: str, reduction: str, values: tuple[Any, ...], output: Any) -> None:
        self.series.criterion()

    def backward_begins(self, root: Any) -> None:
        self.series.backward_begins()

    def evaluation_batch(self, batch: Batch) -> None:
        self._next_look = 0
        self.series.evaluation_batch(batch)

    def evaluated(self, finished: EvaluationPass, metric: str, value: float) -> None:
        self.series.say(metric, "criterion", "lower", finished.where)
        self.series.evaluated(finished, metric)

    def exiting(self) -> None:
        self._kept.look_at_module(sys.modules.get("__main__"))
        self.series.flush()
