"""The demo loops: their scripts, and which symptom each shows."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

from forgemon.errors import UserError
from forgemon.symptom import SECTIONS
from forgemon.symptoms import SYMPTOMS

DEMO_LOOPS = Path(__file__).resolve().parents[1] / "demo_loops"
HEALTHY = "healthy-"
SHOWN: Mapping[str, str] = {
    "goes-nan": "loss-nonfinite",
    "oscillates": "loss-oscillates",
    "overfits": "train-val-divergence",
}
"""Of the demos that are called otherwise than the symptom they show."""
EVERY_STEP = ("exploding-gradients", "gradient-spike")
"""Demos that show their symptom on few steps of thousands: it is seen for sure only where each step is looked at."""
GROUPS: Mapping[str, str] = {
    "A": f"A. {SECTIONS['A']}",
    "B": f"B. {SECTIONS['B']}",
    "healthy": "Healthy, though most of them look like a fault",
}


def demos() -> dict[str, Path]:
    """Name, as it is written on the command line, and script of every demo loop."""
    scripts = sorted(DEMO_LOOPS.glob("[!_]*.py"))
    if not scripts:
        raise UserError("the demo loops are not installed; reinstall forgemon with pip")
    return {script.stem.replace("_", "-"): script for script in scripts}


def symptom_shown(demo: str) -> str | None:
    """The id of the symptom that a demo shows; None for a healthy one."""
    return None if demo.startswith(HEALTHY) else SHOWN.get(demo, demo)


def demo_showing(symptom: str) -> str | None:
    """The demo that shows a symptom, if there is one."""
    return next((demo for demo in demos() if symptom_shown(demo) == symptom), None)


def command_for(demo: str) -> str:
    """What to write to see it."""
    return f"forgemon demo {demo}{' --budget 0' if demo in EVERY_STEP else ''}"


def find_demo(name: str) -> Path:
    """The script of a demo, by its name or by the symptom it shows."""
    known = demos()
    wanted = name.replace("_", "-").removesuffix(".py").lower()
    found = wanted if wanted in known else demo_showing(wanted)
    if found is None:
        raise UserError(f"there is no demo {name}; `forgemon demo --list` names them all, by group")
    return known[found]


def grouped() -> dict[str, list[str]]:
    """Names of the demos by group, in the order of the symptom table."""
    groups: dict[str, list[str]] = {group: [] for group in GROUPS}
    order = list(SYMPTOMS)
    for demo in sorted(demos(), key=lambda demo: order.index(symptom_shown(demo) or order[0])):
        symptom = symptom_shown(demo)
        groups["healthy" if symptom is None else SYMPTOMS[symptom].section].append(demo)
    return groups


def first_line(script: Path) -> str:
    """What a demo says of itself in one line."""
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]
