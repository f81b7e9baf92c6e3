"""The published rules of other tools, written from their definitions, over the same run logs as our detectors.

What a rule needs and the log has not is listed in NOT_DECIDED. Where the log has another quantity than the rule (2-norms for means of
absolute values), the rule's docstring says how it was mapped, and doubts are settled so that fewer alarms are counted against it.
One row of the log is one step of the tool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from tests.accuracy.peers import deepchecker_loss, deepchecker_weights, sagemaker, spikes, umlaut
from tests.accuracy.peers.alarm import Alarm, Rule
from tests.accuracy.peers.not_decided import NOT_DECIDED
from tests.accuracy.peers.trace import Trace, trace_of, trace_of_chunks

__all__ = ["NOT_DECIDED", "RULES", "TOOLS", "Alarm", "Trace", "alarms_of", "trace_of", "trace_of_chunks"]


def _saving(rule: Callable[[Trace, sagemaker.Saved], list[Alarm]], saved: sagemaker.Saved, tool: str) -> Rule:
    return lambda trace: [replace(alarm, tool=tool) for alarm in rule(trace, saved)]


def _named(tool: str, rules: Iterable[Rule]) -> dict[str, Rule]:
    return {f"{tool}/{rule.__name__}": rule for rule in rules}


_BY_TOOL: dict[str, dict[str, Rule]] = {
    sagemaker.TOOL: {
        f"{sagemaker.TOOL}/{rule.__name__}": _saving(rule, sagemaker.every_logged_step, sagemaker.TOOL)
        for rule in sagemaker.RULES
    },
    sagemaker.AS_SHIPPED: {
        f"{sagemaker.AS_SHIPPED}/{rule.__name__}": _saving(rule, sagemaker.every_500th_step, sagemaker.AS_SHIPPED)
        for rule in sagemaker.RULES
        if rule is not sagemaker.weight_update_ratio  # over 500 steps, of which the log says nothing
    },
    deepchecker_loss.TOOL: _named(deepchecker_loss.TOOL, (*deepchecker_loss.RULES, *deepchecker_weights.RULES)),
    umlaut.TOOL: _named(umlaut.TOOL, umlaut.RULES),
    spikes.ZCLIP: _named(spikes.ZCLIP, (spikes.zclip,)),
    spikes.KILL_LOSS_SPIKE: _named(spikes.KILL_LOSS_SPIKE, (spikes.kill_loss_spike,)),
}

RULES: dict[str, Rule] = {name: rule for rules in _BY_TOOL.values() for name, rule in rules.items()}
"""Every rule, by TOOL/RULE."""
TOOLS: dict[str, list[str]] = {tool: list(rules) for tool, rules in _BY_TOOL.items()}
"""The names in RULES of each tool."""


def alarms_of(tool: str, trace: Trace) -> list[Alarm]:
    """What all rules of a tool say of a run, in the order of their steps."""
    return sorted((alarm for name in TOOLS[tool] for alarm in RULES[name](trace)), key=lambda alarm: alarm.step)
