"""Every configuration: a healthy setting, or one with a fault in it; each in the tuning half or in the frozen one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from tests.accuracy.families import healthy_script
from tests.accuracy.faults import FAULTS, Fault
from tests.accuracy.script import Lines, Script
from tests.accuracy.setting import Setting
from tests.accuracy.settings import LOOKED_AT, all_settings

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

    def source(self, seed: int) -> str:
        script = healthy_script(self.setting)
        if self.fault is not None:
            self.fault.apply(script)
        return script.text(seed)

    def source_before(self, seed: int) -> str | None:
        """A run that must come first, to leave the weights that this one starts from."""
        if self.setting.twist != "fine-tuning" or self.fault is not None:
            return None
        script: Script = healthy_script(replace(self.setting, twist="", schedule="constant"))
        saved: Lines = ['torch.save(model.state_dict(), "pretrained.pt")']
        script.parts["end"] = saved
        return script.text(seed)


def all_configurations() -> list[Configuration]:
    settings = all_settings()
    # Healthy ones are for tuning once they were looked at; the faults there stay those of the first draw, however many halves follow.
    healthy = [Configuration(s, _half(half), None, _seeds(s.name, HEALTHY_SEEDS)) for s, half in settings]
    settings = [(s, half) for s, half in settings if half != LOOKED_AT]
    return [*healthy, *(c for fault in FAULTS.values() for c in _of_fault(fault, settings))]


def _half(half: str) -> str:
    return "tuning" if half == LOOKED_AT else half


@lru_cache
def _by_name() -> dict[str, Configuration]:
    return {configuration.name: configuration for configuration in all_configurations()}


def configuration_named(name: str) -> Configuration:
    """KeyError where there is none."""
    return _by_name()[name]


def _of_fault(fault: Fault, settings: list[tuple[Setting, str]]) -> list[Configuration]:
    """In each half, the settings that can show the fault, the families in turn; a half never sees a setting of the other."""
    found: dict[str, Configuration] = {}
    of_half = {"tuning": 0, "frozen": 0}
    by_hash = sorted(settings, key=lambda s: _digest(fault.name + s[0].name))
    for setting, half in _in_turn(by_hash):
        adapted = fault.adapt(setting)
        if adapted is None or of_half[half] == PER_FAULT:
            continue
        configuration = Configuration(adapted, half, fault, _seeds(adapted.name + fault.name, 1))
        if configuration.name not in found:
            found[configuration.name] = configuration
            of_half[half] += 1
    return list(found.values())


def _in_turn(settings: list[tuple[Setting, str]]) -> list[tuple[Setting, str]]:
    """One of each family and half, then a second one of each …"""
    place: dict[tuple[str, str], int] = {}
    ordered = []
    for setting, half in settings:
        key = (setting.family, half)
        place[key] = place.get(key, -1) + 1
        ordered.append((place[key], setting, half))
    return [(setting, half) for _, setting, half in sorted(ordered, key=lambda entry: entry[0])]


def _seeds(name: str, count: int) -> tuple[int, ...]:
    return tuple(int(_digest(name)[:6], 16) % 10_000 + i for i in range(count))


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
