"""A training script in named parts, so that a fault can take one out, move it or change it; and its text."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.accuracy.setting import STEPS, Setting

MARK = "  # FAULT"
"""Stands on the line that a finding should name."""

Lines = list[str]


@dataclass
class Script:
    """The parts by name, and in which order a batch and an optimizer step run them."""

    setting: Setting
    parts: dict[str, Lines]
    "Parts that are not there are empty."
    batch: list[str] = field(default_factory=lambda: ["prepare", "zero", "forward", "backward"])
    "Parts that each batch runs."
    step: list[str] = field(default_factory=lambda: ["unscale", "clip", "step", "schedule_step", "count"])
    "Parts that each optimizer step runs, after one batch or several."
    settings: dict[str, str] = field(default_factory=dict)
    "Constants at the top of the script that differ from those of the setting."

    def lines(self, names: list[str]) -> Lines:
        return [line for name in names for line in self.parts.get(name, [])]

    def mark(self, part: str, text: str = "") -> None:
        """Mark the first line of the part that contains `text`."""
        lines = self.parts[part]
        index = next(i for i, line in enumerate(lines) if text in line)
        self.parts[part] = [*lines[:index], lines[index] + MARK, *lines[index + 1 :]]

    def replace(self, part: str, old: str, new: str) -> None:
        """Raises ValueError where the part does not contain `old`: a fault that changes nothing is none."""
        if old not in "\n".join(self.parts.get(part, [])):
            raise ValueError(f"{self.setting.name}: no {old!r} in {part}")
        self.parts[part] = [line.replace(old, new) for line in self.parts[part]]

    def text(self, seed: int) -> str:
        top = [
            '"""A small training script."""',
            "import collections, copy, math",
            "import torch",
            "from torch import nn",
            "import torch.nn.functional as F",
            "from torch.utils.data import DataLoader, TensorDataset",
            "",
            f"torch.manual_seed({seed})",
            "torch.set_num_threads(1)",
            *self._constants(),
        ]
        names = ["data", "loaders", "model", "pretrained", "optimizer", "schedule", "criterion", "before"]
        body = [
            *top,
            *self.lines(names),
            "step = 0",
            'best_val_loss, best_state = float("inf"), None',
            *self._loop(),
            *self.lines(["end"]),
        ]
        return "\n".join(body) + "\n"

    def _constants(self) -> Lines:
        setting = self.setting
        values = {
            "STEPS": str(STEPS),
            "EPOCHS": str(setting.epochs),
            "EVERY": str(setting.evaluated_every),
            "BATCH": str(setting.batch or setting.samples),
            "ACCUMULATE": str(setting.accumulate),
            "SAMPLES": str(setting.samples),
        }
        return [f"{name} = {value}" for name, value in (values | self.settings).items()]

    def _loop(self) -> Lines:
        style = {"module": self._flat, "fit": self._fit, "functions": self._functions, "trainer": self._trainer}
        return style[self.setting.style]()

    def _batches(self) -> Lines:
        """The innermost loop, over the batches of an epoch or over steps."""
        step = self.lines(self.step)
        if self.setting.accumulate > 1:
            step = ["if (index + 1) % ACCUMULATE == 0:", *indented(step)]
        return [self.parts["batches"][0], *indented([*self.parts["batches"][1:], *self.lines(self.batch), *step])]

    def _evaluation(self) -> Lines:
        inner = ["total, count = 0.0, 0", *self.parts["val_batches"], *indented(self.parts["eval_step"])]
        inner += ["val_loss = total / count"]
        guard = self.parts.get("no_grad", [])
        return [*self.lines(["eval_mode"]), *guard, *(indented(inner) if guard else inner), *self.lines(["eval_end"])]

    def _flat(self) -> Lines:
        evaluation = [*self._evaluation(), *self.lines(["keep"])] if self.setting.validates else self.lines(["report"])
        if self.setting.by_steps:
            every = ["if (step % EVERY) == 0:", *indented([*evaluation, *self.lines(["train_mode_again"])])]
            start = self.lines(["train_mode_once", "train_mode", "epoch_start"])
            return [*start, *self._batches(), *indented(every)]
        every = ["if (epoch + 1) % EVERY == 0:", *indented(evaluation)]
        epoch = [*self.lines(["train_mode", "epoch_start"]), *self._batches(), *self.lines(["epoch_end"]), *every]
        return [*self.lines(["train_mode_once"]), "for epoch in range(EPOCHS):", *indented(epoch)]

    def _fit(self) -> Lines:
        return ["def fit():", *indented(["global step, best_val_loss, best_state", *self._flat()]), "fit()"]

    def _functions(self) -> Lines:
        if self.setting.by_steps or not self.setting.validates:
            return self._fit()
        train = [*self.lines(["train_mode", "epoch_start"]), *self._batches(), *self.lines(["epoch_end"])]
        evaluation = [*self._evaluation(), "return val_loss"]
        main = ["train_epoch(epoch)", "if (epoch + 1) % EVERY == 0:"]
        main += indented(["val_loss = evaluate()", *self.lines(["keep"])])
        return [
            *("def train_epoch(epoch):", *indented(["global step", *train])),
            *("def evaluate():", *indented(evaluation)),
            *self.lines(["train_mode_once"]),
            *("for epoch in range(EPOCHS):", *indented(main)),
        ]

    def _trainer(self) -> Lines:
        if self.setting.by_steps or not self.setting.validates:
            return self._fit()
        mine = "model, optimizer = self.model, self.optimizer"
        train = [*self.lines(["train_mode", "epoch_start"]), *self._batches(), *self.lines(["epoch_end"])]
        fit = ["for epoch in range(EPOCHS):", *indented(["self.train_epoch(epoch)", "if (epoch + 1) % EVERY == 0:"])]
        fit += indented(indented(["val_loss = self.evaluate()", *self.lines(["keep"])]))
        methods = [
            *("def __init__(self, model, optimizer):", "    self.model, self.optimizer = model, optimizer"),
            *("def train_epoch(self, epoch):", *indented(["global step", mine, *train])),
            *("def evaluate(self):", *indented([mine, *self._evaluation(), "return val_loss"])),
            *("def fit(self):", *indented(["global best_val_loss, best_state", mine, *self.lines(["train_mode_once"]), *fit])),
        ]
        return ["class Trainer:", *indented(methods), "Trainer(model, optimizer).fit()"]


def indented(lines: Lines) -> Lines:
    return ["    " + line if line else line for line in lines]
