"""A model that maps x to y, a loss between the two, and a validation pass."""

from __future__ import annotations

from dataclasses import dataclass

from tests.accuracy.loop_parts import arranged, common_parts, under_autocast
from tests.accuracy.script import Lines, Script
from tests.accuracy.setting import Setting


@dataclass(frozen=True)
class Loss:
    """One loss in the three ways people write it; each an expression of `output` and `y`."""

    functional: str
    criterion: str
    "The module."
    hand: str
    output: str = "output"
    "What the loss is given of the model's output."
    target: str = "y"

    def training(self, style: str) -> str:
        if style == "criterion":
            return f"criterion({self.output}, {self.target})"
        return self.hand if style == "hand" else f"{self.functional}({self.output}, {self.target})"


CROSS_ENTROPY = Loss("F.cross_entropy", "nn.CrossEntropyLoss()", "-F.log_softmax(output, 1).gather(1, y[:, None]).mean()")
SQUARED = Loss("F.mse_loss", "nn.MSELoss()", "((output - y) ** 2).mean()")


def supervised(setting: Setting, draw: Lines, model: Lines, loss: Loss) -> Script:
    """A script of the usual kind. `draw` defines draw(count) -> x, y; `model` ends in `model = …`."""
    data = [*draw, "train_x, train_y = draw(SAMPLES)", "val_x, val_y = draw(512)"]
    if setting.twist == "class-sorted":
        data.append("train_y, order = train_y.sort(); train_x = train_x[order]")
    parts = common_parts(setting)
    forward = ["output = model(x)", f"loss = {loss.training(setting.loss)}"]
    if setting.loss == "criterion":
        parts["criterion"] = [*parts.get("criterion", []), f"criterion = {loss.criterion}"]
    evaluated = ["output = model(x)", f"total += {loss.training(setting.loss)}.item() * len(x)", "count += len(x)"]
    parts |= {"data": data, "model": model, "forward": under_autocast(setting, forward), "eval_step": evaluated}
    return arranged(Script(setting, parts))
