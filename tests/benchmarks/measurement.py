"""One loop under one condition, measured in a process of its own: `python -m tests.benchmarks.measurement PLAN RESULT`, both JSON."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.blocks import Alternation, alternate, extra_of_most_s, extra_of_spared_s, extra_s, ratio, steps_for
from tests.benchmarks.bursts import Bursts, bursts, follow
from tests.benchmarks.conditions import Condition, EveryStep, Naive, Probes, RareSteps
from tests.benchmarks.loops import LOOPS
from tests.benchmarks.medians import Median
from tests.benchmarks.peers import TensorBoard, TraceML, WandbEvery, WandbHundredth
from tests.benchmarks.recorded import Written

CONDITIONS: dict[str, type[Condition]] = {
    "default": Probes,
    "every": EveryStep,
    "rare": RareSteps,
    "naive": Naive,
    "tensorboard": TensorBoard,
    "wandb-1": WandbEvery,
    "wandb-100": WandbHundredth,
    "traceml": TraceML,
}

BLOCK_S = 0.1
LONGEST_BLOCK_S = 2.5
SHARE_OF_BURSTS = 1.0
"""Of the time for the blocks."""
OBSERVED_IN_A_BLOCK = 10
"""Steps observed in full that a block should hold: with fewer, a median over blocks would pass over what they cost."""
FIRST_STEPS = 64
"""Steps after attach that are watched more closely than later ones."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long."""

    loop: str
    condition: str
    device: str
    seconds: float


@dataclass(frozen=True)
class Result:
    """Ratios and seconds a step of the watched blocks, and of those in which nothing was switched on."""

    loop: str
    condition: str
    parameters: int
    "Tensors."
    plain_s: float
    "Of a step."
    block_steps: int
    ratio: Median
    ratio_of_nothing: Median
    extra_s: Median
    extra_of_nothing_s: Median
    extra_of_most_s: Median
    "Of the middle step of each block."
    extra_of_most_of_nothing_s: Median
    extra_of_spared_s: Median
    "Of the steps at which nothing was looked at."
    extra_of_spared_of_nothing_s: Median
    written: Written | None
    "Of our own probes only."
    bursts: Bursts | None
    "Where most steps are not observed."


def measure(plan: Plan, folder: Path) -> Result:
    device = torch.device(plan.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(0)
    loop = LOOPS[plan.loop](device)
    _run(loop.step, loop.wait, least=10, seconds=0.05 * plan.seconds)
    condition = CONDITIONS[plan.condition](loop, folder)
    try:
        block_steps = _block_steps(condition, plan.seconds)
        done = alternate(condition, block_steps, plan.seconds)
        written = _accounts(condition, plan.seconds) if isinstance(condition, Probes) else None
        found = None
        if isinstance(condition, Probes) and plan.condition == "default" and device.type == "cpu":
            found = _bursts(condition, plan.seconds)  # on a GPU steps queue up, and single ones cannot be timed
    finally:
        condition.close()
    return _result(plan, len(list(loop.model.parameters())), done, written, found)


def _block_steps(condition: Condition, seconds: float) -> int:
    """How many steps make a block, after a while with the condition on."""
    condition.on()
    warm_s = min(2.0, 0.1 * seconds)
    _run(condition.step, condition.loop.wait, least=FIRST_STEPS, seconds=0)
    recorded = condition.recorded if isinstance(condition, Probes) else None
    if recorded is not None:
        recorded.since_last(0)
    steps, step_s = _run(condition.step, condition.loop.wait, least=5, seconds=warm_s)
    wanted_s = min(BLOCK_S, 0.05 * seconds)
    if recorded is not None and not isinstance(condition, RareSteps):
        apart_s = steps / max(1, recorded.since_last(steps).observed) * step_s
        wanted_s = max(wanted_s, min(LONGEST_BLOCK_S, 0.1 * seconds, OBSERVED_IN_A_BLOCK * apart_s))
    condition.off()
    return steps_for(wanted_s, step_s, condition.round_steps)


def _accounts(condition: Probes, seconds: float) -> Written:
    """What the probes write over a stretch without pauses, as a user's run has none."""
    condition.on()
    _run(condition.step, condition.loop.wait, least=FIRST_STEPS, seconds=0)
    condition.recorded.since_last(0)
    steps, _ = _run(condition.step, condition.loop.wait, least=FIRST_STEPS, seconds=0.15 * seconds)
    return condition.recorded.since_last(steps)


def _bursts(condition: Probes, seconds: float) -> Bursts | None:
    """Of another such stretch."""
    condition.on()
    asleep = condition.session.steps.slept
    before_s = asleep.spent_s
    steps = follow(condition, SHARE_OF_BURSTS * seconds)
    asleep.account()
    return bursts(steps, (asleep.spent_s - before_s) / sum(step.took_s for step in steps))


def _run(step: Callable[[], None], wait: Callable[[], None], least: int, seconds: float) -> tuple[int, float]:
    """Steps taken in about `seconds`, and what one took."""
    began, steps = time.monotonic(), 0
    while steps < least or time.monotonic() - began < seconds:
        step()
        steps += 1
    wait()
    return steps, (time.monotonic() - began) / steps


def _result(plan: Plan, parameters: int, done: Alternation, written: Written | None, found: Bursts | None) -> Result:
    return Result(
        loop=plan.loop,
        condition=plan.condition,
        parameters=parameters,
        plain_s=done.plain_s(),
        block_steps=done.steps,
        ratio=ratio(done.on),
        ratio_of_nothing=ratio(done.nothing),
        extra_s=extra_s(done.on),
        extra_of_nothing_s=extra_s(done.nothing),
        extra_of_most_s=extra_of_most_s(done.on),
        extra_of_most_of_nothing_s=extra_of_most_s(done.nothing),
        extra_of_spared_s=extra_of_spared_s(done.on),
        extra_of_spared_of_nothing_s=extra_of_spared_s(done.nothing),
        written=written,
        bursts=found,
    )


def from_json(text: str) -> Result:
    fields = json.loads(text)
    written = None if fields["written"] is None else Written(**fields["written"])
    found = None if fields["bursts"] is None else Bursts(**_medians(fields["bursts"]))
    return Result(**{**_medians(fields), "written": written, "bursts": found})


def _medians(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: Median(**value) if isinstance(value, dict) and "low" in value else value for name, value in fields.items()}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="probe-cost-") as directory:
        found = measure(Plan(**json.loads(sys.argv[1])), Path(directory))
        Path(sys.argv[2]).write_text(json.dumps(asdict(found)))
