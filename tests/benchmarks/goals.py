"""What watching may cost, and whether it did: one line for each goal that the measurements reach."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.measurement import Result
from tests.benchmarks.medians import Median
from tests.benchmarks.table import bytes_allowed, cost_share

DEFAULT_RATIO = 1.01
GPU_RATIO = 1.005
EVERY_STEP_RATIO = 1.05
"""At 10 ms a step."""
ESTIMATE_FACTOR = 1.5
PART_OF_WANDB = 20
BETWEEN_US = 2.0
BETWEEN_STEPS_PER_S = 3000


def goals(results: Sequence[Result], on_gpu: bool) -> list[str]:
    found = {(r.loop, r.condition): r for r in results}
    lines: list[str] = []
    for (loop, condition), r in found.items():
        if condition == "default":
            most = GPU_RATIO if on_gpu else DEFAULT_RATIO
            lines.append(_line(f"{loop}, default budget: ratio", r.ratio, most, 4))
            if r.bursts is not None:
                lines.append(_line(f"{loop}, default budget: ratio by neighbouring steps", r.bursts.ratio, most, 4))
                lines.append(_line(f"{loop}, default: seconds for each of our clock", r.bursts.factor, ESTIMATE_FACTOR, 2))
        if condition == "every" and loop == "cnn":
            lines.append(_line(f"{loop}, every step: ratio", r.ratio, EVERY_STEP_RATIO, 4))
        if condition in ("default", "every"):
            lines += _estimate(r)
            lines += _bytes(r)
        if condition == "every" and (loop, "wandb-1") in found:
            limit = 1e6 * found[loop, "wandb-1"].extra_s.value / PART_OF_WANDB
            lines.append(_line(f"{loop}, every step: extra µs, 1/{PART_OF_WANDB} of wandb.watch", _us(r.extra_s), limit, 1))
        if condition == "rare":
            lines.append(_line(f"{loop}: µs a step between observed ones", _us(r.extra_of_spared_s), BETWEEN_US, 2))
            if r.plain_s > 1 / BETWEEN_STEPS_PER_S:
                lines.append(
                    f"{loop}: slower than {BETWEEN_STEPS_PER_S} steps a second here, so it does not show what they cost"
                )
    return lines


def _line(what: str, found: Median | float, most: float, digits: int) -> str:
    value = found.value if isinstance(found, Median) else found
    verdict = "met" if value <= most else "NOT MET"
    if isinstance(found, Median) and found.low <= most < found.high:
        verdict += f", but within the noise of this run [{found.low:.{digits}f}, {found.high:.{digits}f}]"
    return f"{what} {value:.{digits}f}, at most {most:.{digits}f}: {verdict}"


def _us(found: Median) -> Median:
    return Median(1e6 * found.value, 1e6 * found.low, 1e6 * found.high, found.count)


def _estimate(r: Result) -> list[str]:
    """The probes' own figure against what was measured, where that is more than noise."""
    if r.written is None or not r.written.own_estimate > 0:
        return []
    what, measured = f"{r.loop}, {r.condition}: own estimate {100 * r.written.own_estimate:.2f} %", cost_share(r)
    if measured.low <= 0:
        return [f"{what}, measured {100 * measured.value:.2f} %: too near to the noise to compare"]
    factor = max(r.written.own_estimate / measured.value, measured.value / r.written.own_estimate)
    return [_line(f"{what}, measured {100 * measured.value:.2f} %: factor", factor, ESTIMATE_FACTOR, 2)]


def _bytes(r: Result) -> list[str]:
    # Between observed steps rows with the loss alone are written too; where every step is observed there are none.
    if r.condition != "every" or r.written is None or not r.written.observed:
        return []
    return [_line(f"{r.loop}: bytes an observed step", r.written.bytes / r.written.observed, bytes_allowed(r), 0)]
