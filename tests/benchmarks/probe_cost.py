"""What watching costs: `python -m tests.benchmarks.probe_cost` prints watched over plain step times, side by side from one process.

Each loop and condition is measured in a process of its own (see blocks.py for how), because wandb and TraceML leave things behind.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from tests.benchmarks import table
from tests.benchmarks.goals import goals
from tests.benchmarks.loops import LOOPS
from tests.benchmarks.machine import load, machine
from tests.benchmarks.measurement import CONDITIONS, Plan, Result, from_json

ROOT = Path(__file__).resolve().parents[2]
BETWEEN = "rare"
"""The condition that shows what the steps between observed ones cost; measured on the loop `tiny` alone."""


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.probe_cost", description="What watching costs.")
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=None, help="default: mlp cnn transformer tiny")
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=None, help="default: all")
    parser.add_argument("--seconds", type=float, default=None, help="for each loop and condition (default 90, --quick 4)")
    parser.add_argument("--quick", action="store_true", help="about a minute: our own conditions, and few blocks")
    parser.add_argument("--gpu", action="store_true", help="a GPT of 124 million parameters in bfloat16 on --device cuda")
    parser.add_argument("--device", default=None, help="default: cpu, with --gpu cuda")
    options = parser.parse_args(given)
    options.device = options.device or ("cuda" if options.gpu else "cpu")
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("torch finds no GPU here")
    options.loops = options.loops or (["gpt"] if options.gpu else ["mlp", "cnn", "transformer", "tiny"])
    options.conditions = options.conditions or (["default", "every", "rare"] if options.quick else list(CONDITIONS))
    options.seconds = options.seconds or (4.0 if options.quick else 90.0)
    return options


def main(given: Sequence[str] | None = None) -> int:
    """Exit code 1 when something that is installed could not be measured."""
    options = arguments(given)
    print(f"on {machine(options.device)}\nload average before: {load()}", flush=True)
    results: list[Result] = []
    failed = False
    for plan in plans(options):
        missing = CONDITIONS[plan.condition].needs
        if missing is not None and importlib.util.find_spec(missing) is None:
            print(f"{plan.loop}, {plan.condition}: {missing} is not installed", flush=True)
            continue
        found = measured(plan)
        print(f"{plan.loop}, {plan.condition}: {found if isinstance(found, str) else table.interval(found.ratio)}", flush=True)
        if isinstance(found, Result):
            results.append(found)
        else:
            failed = True
    print(f"load average after: {load()}\n")
    print("\n".join(report(results, on_gpu=options.device.startswith("cuda"))))
    return int(failed)


def plans(options: argparse.Namespace) -> list[Plan]:
    return [
        Plan(loop, condition, options.device, options.seconds)
        for loop in options.loops
        for condition in options.conditions
        if (loop == "tiny") == (condition == BETWEEN)
    ]


def measured(plan: Plan) -> Result | str:
    """What came out of it, or the last line of what went wrong."""
    with tempfile.TemporaryDirectory(prefix="probe-cost-") as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", "tests.benchmarks.measurement", json.dumps(asdict(plan)), str(result)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ, check=False)
        if done.returncode or not result.exists():
            return "failed: " + (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return from_json(result.read_text())


def report(results: Sequence[Result], on_gpu: bool) -> list[str]:
    loops = [r for r in results if r.condition != BETWEEN]
    tiny = [r for r in results if r.condition == BETWEEN]
    lines = []
    if loops:
        lines += [
            "Step time over that of the plain blocks beside, median over blocks; beside it blocks with nothing switched on",
            "",
        ]
        lines += [*table.ratios(loops), ""]
    if any(r.bursts for r in loops):
        lines += ["Observed steps, beside those next to them", "", *table.bursts(loops), ""]
    if any(r.written for r in loops):
        lines += ["The probes' own accounts", "", *table.own_accounts(loops), ""]
    if tiny:
        lines += ["Between observed steps", "", *table.between(tiny), ""]
    return [*lines, "Goals", "", *goals(results, on_gpu)]


if __name__ == "__main__":
    sys.exit(main())
