"""The subset that CI runs: one configuration of each fault and a few healthy ones of each family."""

from __future__ import annotations

from tests.accuracy.configurations import Configuration

HEALTHY_PER_FAMILY = 3
PER_FAULT = 1


def quick(configurations: list[Configuration]) -> list[Configuration]:
    """The first ones of each kind, in the order in which they are listed."""
    taken: dict[str, int] = {}
    chosen = []
    for configuration in configurations:
        fault = configuration.fault
        kind = f"healthy {configuration.setting.family}" if fault is None else fault.name
        taken[kind] = taken.get(kind, 0) + 1
        if taken[kind] <= (HEALTHY_PER_FAMILY if fault is None else PER_FAULT):
            chosen.append(configuration)
    return chosen
