"""`forgemon symptoms`: the symptom table, or one row of it explained."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from forgemon.symptoms import Symptom

NOT_YET = "This version does not detect it yet."


@click.command()
@click.argument("symptom", nargs=-1)
@click.option("--json", "json_", is_flag=True, help="Print JSON instead of text.")
def command(symptom: tuple[str, ...], json_: bool) -> None:
    """List the symptoms, or explain one: what a person sees, its causes and how to mend them, how forgemon knows, what it is not,
    and a small loop that has it beside the one that has not."""
    import json

    from forgemon.symptom_search import symptom_named
    from forgemon.symptoms import SYMPTOMS

    rows = [symptom_named(" ".join(symptom))] if symptom else list(SYMPTOMS.values())
    if json_:
        values = [_as_json(row) for row in rows]
        click.echo(json.dumps(values[0] if symptom else values, ensure_ascii=False, indent=1))
    else:
        click.echo("\n".join(_explained(rows[0]) if symptom else _table()))


def _as_json(row: Symptom) -> dict[str, Any]:
    from forgemon.demos import demo_showing
    from forgemon.detectors import DETECTED
    from forgemon.explanations import EXPLANATIONS

    explanation = EXPLANATIONS[row.id]
    return {
        "symptom": row.id,
        "section": row.section,
        "seen": row.seen,
        "level": row.level,
        "causes": [{"cause": cause.id, "fix": cause.fix} for cause in row.causes],
        "fix": row.fix,
        "detected": row.id in DETECTED,
        "evidence": explanation.evidence,
        "levels": explanation.levels,
        "near_miss": explanation.near_miss,
        "wrong": explanation.wrong,
        "right": explanation.right,
        "demo": demo_showing(row.id),
    }


def _table() -> Iterator[str]:
    from forgemon.detectors import DETECTED
    from forgemon.symptoms import SECTIONS, SYMPTOMS

    for section, title in SECTIONS.items():
        yield f"{section}. {title}"
        for row in SYMPTOMS.values():
            if row.section == section:
                mark = " " if row.id in DETECTED else "-"
                lines = textwrap.wrap(row.seen, 46, break_on_hyphens=False)
                yield f"  {mark} {row.id:28} {lines[0]}"
                yield from (f"{'':33}{line}" for line in lines[1:])
        yield ""
    yield "- not detected by this version yet. `forgemon symptoms ID` explains a row."


def _explained(row: Symptom) -> Iterator[str]:
    from forgemon.detectors import DETECTED

    level = {"alarm": "can be an alarm", "watch": "something to watch, never an alarm", "info": "worth knowing"}[row.level]
    yield f"{row.id}  ({level})"
    yield from _wrapped(row.seen, 2)
    if row.id not in DETECTED:
        yield f"  {NOT_YET}"
    named = [cause for cause in row.causes if cause.id != row.id]
    if named:
        yield ""
        yield "  Causes, most likely first:"
        for cause in named:
            yield f"    {cause.id}"
            yield from _wrapped(f"Fix: {cause.fix}", 6, hang=5)
        yield ""
        yield "  While the cause is unknown:"
    yield from _wrapped(f"Fix: {row.fix}", 4, hang=5)
    yield from _how_it_is_known(row)


def _how_it_is_known(row: Symptom) -> Iterator[str]:
    from forgemon.demos import command_for, demo_showing
    from forgemon.explanations import EXPLANATIONS

    explanation = EXPLANATIONS[row.id]
    if explanation.example:
        yield ""
        yield "  For example (- wrong, + right):"
        yield from (f"    {line}".rstrip() for line in explanation.example.strip("\n").splitlines())
    said = {"How forgemon knows": explanation.evidence, "Level": explanation.levels, "Not this": explanation.near_miss}
    for title, text in said.items():
        yield ""
        yield from _wrapped(f"{title}: {text}", 2, hang=2)
    demo = demo_showing(row.id)
    if demo is not None:
        yield ""
        yield f"  See it: {command_for(demo)}"


def _wrapped(text: str, indent: int, hang: int = 0) -> list[str]:
    first, rest = " " * indent, " " * (indent + hang)
    return textwrap.wrap(text, 80, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
