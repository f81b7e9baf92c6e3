"""Other tools, as their own manuals say to use them, each installed or passed over."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.benchmarks.conditions import Condition
from tests.benchmarks.loops import TrainingLoop

SERVE_S = 30.0


class Wandb(Condition):
    """Histograms of gradients go out with the next `log`, so a number is logged each step, in the plain blocks too."""

    needs = "wandb"
    note = "both sides log one number a step to an offline run"
    log_freq = 1

    def __init__(self, loop: TrainingLoop, folder: Path) -> None:
        super().__init__(loop, folder)
        os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true")
        self._run: Any = import_module("wandb").init(project="cost", dir=str(folder))
        self._steps = 0
        self._is_on = False

    def plain_step(self) -> None:
        self.loop.step()
        self._run.log({"batch": self._steps})
        self._steps += 1

    step = plain_step

    def on(self) -> None:
        self._run.watch(self.loop.model, log_freq=self.log_freq, idx=0)  # else each watch names all its charts anew
        self._is_on = True

    def off(self) -> None:
        if self._is_on:
            self._run.unwatch(self.loop.model)
            self._is_on = False

    def close(self) -> None:
        self._run.finish()


class WandbEvery(Wandb):
    title = "wandb.watch log_freq 1"


class WandbHundredth(Wandb):
    title = "wandb.watch log_freq 100"
    log_freq = round_steps = 100


class TensorBoard(Condition):
    title = "TensorBoard, each norm"
    needs = "tensorboard"

    def __init__(self, loop: TrainingLoop, folder: Path) -> None:
        super().__init__(loop, folder)
        self._writer: Any = import_module("torch.utils.tensorboard").SummaryWriter(str(folder))
        self._steps = 0

    def step(self) -> None:
        self.loop.step()
        for name, parameter in self.loop.model.named_parameters():
            if parameter.grad is not None:
                self._writer.add_scalar(name, parameter.grad.norm(), self._steps)
        self._steps += 1

    def close(self) -> None:
        self._writer.close()


class TraceML(Condition):
    """Its automatic patches stay in when it is off and then hand through, so the plain side carries a little of its cost."""

    title = "TraceML, automatic"
    needs = "traceml_ai"
    note = "its patches cannot be taken out: the plain side runs through them"

    def __init__(self, loop: TrainingLoop, folder: Path) -> None:
        super().__init__(loop, folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        where = ["--logs-dir", str(folder), "--run-name", "cost", "--aggregator-port", str(port)]
        self._serving = subprocess.Popen(
            [sys.executable, "-m", "traceml_ai.launcher.cli", "serve", *where],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        traceml: Any = import_module("traceml_ai")
        settings = {"aggregator_port": port, "logs_dir": str(folder), "session_id": "cost", "connect_timeout_sec": SERVE_S}
        try:
            traceml.init(mode="auto", **settings)
        except BaseException:
            self.close()
            raise
        self._trace_step = traceml.trace_step

    def step(self) -> None:
        with self._trace_step(self.loop.model):
            self.loop.step()

    def close(self) -> None:
        self._serving.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._serving.wait(10)
            return
        self._serving.kill()
