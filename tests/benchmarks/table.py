"""Measurements as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.measurement import CONDITIONS, Result
from tests.benchmarks.medians import Median

Rows = Sequence[Sequence[str]]


def aligned(head: Sequence[str], rows: Rows) -> list[str]:
    """Columns under their heads: the first two left, the others right."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]


def interval(found: Median, digits: int = 4, scale: float = 1.0) -> str:
    """`1.0020 [1.0010, 1.0031]`."""
    value, low, high = (f"{scale * number:.{digits}f}" for number in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"


def ratios(results: Sequence[Result]) -> list[str]:
    head = "loop|condition|tensors|plain ms|ratio [95 %]|nothing on [95 %]|extra µs|blocks x steps".split("|")
    rows = [
        (
            r.loop,
            CONDITIONS[r.condition].title,
            str(r.parameters),
            f"{1e3 * r.plain_s:.3f}",
            interval(r.ratio),
            interval(r.ratio_of_nothing),
            f"{1e6 * r.extra_s.value:+.1f}",
            f"{r.ratio.count} x {r.block_steps}",
        )
        for r in results
    ]
    notes = {condition.title: condition.note for condition in (CONDITIONS[r.condition] for r in results) if condition.note}
    return [*aligned(head, rows), *(f"  {title}: {note}" for title, note in notes.items())]


def own_accounts(results: Sequence[Result]) -> list[str]:
    """What the probes wrote in a stretch without pauses, and what they say they cost, beside what was measured."""
    head = "loop|condition|observed 1 in|own estimate %|measured % [95 %]|bytes/observed step|4 x tensors + 200|event bytes/step|lost rows"
    rows = []
    for r in results:
        if r.written is None:
            continue
        per_row = r.written.bytes / r.written.observed if r.written.observed else float("nan")
        rows.append(
            (
                r.loop,
                CONDITIONS[r.condition].title,
                f"{r.written.steps / r.written.observed:.1f}" if r.written.observed else "never",
                f"{100 * r.written.own_estimate:.2f}",
                interval(cost_share(r), 2, 100),
                f"{per_row:.0f}",
                str(bytes_allowed(r)),
                f"{r.written.event_bytes / r.written.steps:.2f}",
                str(r.written.lost),
            )
        )
    return aligned(head.split("|"), rows) if rows else []


def bursts(results: Sequence[Result]) -> list[str]:
    """Where most steps are not observed: the others beside their neighbours."""
    head = "loop|condition|bursts|extra µs of one [95 %]|nothing on [95 %]|for each second of our clock [95 %]|ratio of the whole [95 %]"
    rows = [
        (
            r.loop,
            CONDITIONS[r.condition].title,
            str(r.bursts.factor.count),
            interval(r.bursts.extra_s, 0, 1e6),
            interval(r.bursts.nothing_s, 0, 1e6),
            interval(r.bursts.factor, 2),
            interval(r.bursts.ratio),
        )
        for r in results
        if r.bursts is not None
    ]
    return aligned(head.split("|"), rows) if rows else []


def between(results: Sequence[Result]) -> list[str]:
    """Microseconds a step between observed ones."""
    lines = []
    for r in results:
        lines += [
            f"loop {r.loop}: {1 / r.plain_s:,.0f} steps a second, blocks of {r.block_steps} steps, "
            f"microseconds a step more than plain [95 %]:",
            f"  mean of those between    {interval(r.extra_of_spared_s, 2, 1e6)}",
            f"    with nothing on        {interval(r.extra_of_spared_of_nothing_s, 2, 1e6)}",
            f"  mean, observed ones too  {interval(r.extra_s, 2, 1e6)}",
            f"    with nothing on        {interval(r.extra_of_nothing_s, 2, 1e6)}",
            f"  middle step of a block   {interval(r.extra_of_most_s, 2, 1e6)}",
            f"    with nothing on        {interval(r.extra_of_most_of_nothing_s, 2, 1e6)}",
            *(
                [f"  by our own clock {1e6 * r.written.own_estimate * r.plain_s:.2f}, the few observed ones included"]
                if r.written
                else []
            ),
        ]
    return lines


def cost_share(result: Result) -> Median:
    """Measured cost as a share of the watched step, as the probes themselves give theirs."""
    value, low, high = (1 - 1 / bound for bound in (result.ratio.value, result.ratio.low, result.ratio.high))
    return Median(value, low, high, result.ratio.count)


def bytes_allowed(result: Result) -> int:
    return 4 * result.parameters + 200
