"""Every configuration: a healthy setting, or one with a fault in it; each in one of the halves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from tests.accuracy.families import healthy_script
from tests.accuracy.faults import FAULTS, Fault
from tests.accuracy.script import Lines, Script
from tests.accuracy.setting import Setting
from tests.accuracy.settings import all_settings

PER_FAULT = 10
"""Configurations of a fault in each half."""
HEALTHY_SEEDS = 3


@dataclass(frozen=True)
class Configuration:
    """What is run once for each seed."""

    setting: Setting
    half: str
    fault: Fault | None
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.setting.name if self.fault is None else f"{self.setting.name}@{self.fault.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process looks it up by its name: a fault is functions, which do not travel."""
        return configuration_named, (self.name,)

    def script(self) -> Script:
        script = healthy_script(self.setting)
        if self.fault is not None:
            self.fault.apply(script)
        return script

    def source(self, seed: int) -> str:
        return self.script().text(seed)

    def source_before(self, seed: int) -> str | None:
        """A run that must come first, to leave the weights that this one starts from."""
        if self.setting.twist != "fine-tuning" or self.fault is not None:
            return None
        script: Script = healthy_script(replace(self.setting, twist="", schedule="constant"))
        saved: Lines = ['torch.save(model.state_dict(), "pretrained.pt")']
        script.parts["end"] = saved
        return script.text(seed)


def all_configurations() -> list[Configuration]:
    halves = all_settings()
    healthy = [
        Configuration(s, half, None, _seeds(s.name, HEALTHY_SEEDS)) for half, settings in halves.items() for s in settings
    ]
    return [*healthy, *(c for fault in FAULTS.values() for c in _of_fault(fault, halves))]


@lru_cache
def _by_name() -> dict[str, Configuration]:
    return {configuration.name: configuration for configuration in all_configurations()}


def configuration_named(name: str) -> Configuration:
    """KeyError where there is none."""
    return _by_name()[name]


def _of_fault(fault: Fault, halves: dict[str, list[Setting]]) -> list[Configuration]:
    """In each half, the settings that can show the fault, the families in turn; a half never sees a setting of one before it."""
    found: dict[str, Configuration] = {}
    for half, settings in halves.items():
        by_hash = sorted(settings, key=lambda s: _digest(fault.name + s.name))
        adapted = [a for s in _in_turn(by_hash) if (a := fault.adapt(s)) is not None]
        of_half = {(c := Configuration(a, half, fault, _seeds(a.name + fault.name, 1))).name: c for a in adapted}
        new = [c for name, c in of_half.items() if name not in found]
        found |= {c.name: c for c in new[:PER_FAULT]}
    return list(found.values())


def _in_turn(settings: list[Setting]) -> list[Setting]:
    """One of each family, then a second one of each …"""
    place: dict[str, int] = {}
    ordered = []
    for setting in settings:
        place[setting.family] = place.get(setting.family, -1) + 1
        ordered.append((place[setting.family], setting))
    return [setting for _, setting in sorted(ordered, key=lambda entry: entry[0])]


def _seeds(name: str, count: int) -> tuple[int, ...]:
    return tuple(int(_digest(name)[:6], 16) % 10_000 + i for i in range(count))


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
