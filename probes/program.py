"""The program's own code, as the interpreter holds it: read, never run."""

from __future__ import annotations

import dis
import types
from collections.abc import Callable, Iterable, Iterator, Sequence

from .where import Line

MOST_INSTRUCTIONS = 100_000


def within(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code and that of all functions and classes in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from within(constant)


def codes_of(frames: Sequence[types.FrameType]) -> list[types.CodeType]:
    """All that the code of the frames holds, each once: with that of a module its functions too. Nothing of a program so large that
    to read it would take long."""
    codes = {id(code): code for frame in frames for code in within(frame.f_code)}.values()
    return list(codes) if sum(len(code.co_code) // 2 for code in codes) <= MOST_INSTRUCTIONS else []


def by_line(code: types.CodeType) -> Iterable[tuple[int, list[dis.Instruction]]]:
    """The instructions of each stretch of one line, in their order; a line that is gone back to comes again."""
    starts = dict(dis.findlinestarts(code))
    stretches: list[tuple[int, list[dis.Instruction]]] = []
    for instruction in dis.get_instructions(code):
        number = starts.get(instruction.offset)
        if not stretches or (number is not None and number != stretches[-1][0]):
            stretches.append((number or (stretches[-1][0] if stretches else code.co_firstlineno), []))
        stretches[-1][1].append(instruction)
    return stretches


def only_line(frames: Sequence[types.FrameType], matches: Callable[[Sequence[dis.Instruction]], bool]) -> Line | None:
    """The only line whose instructions match, in all that the code of the frames holds; None where there is none or are several."""
    found = {
        Line(code.co_filename, number, code.co_name)
        for code in codes_of(frames)
        for number, instructions in by_line(code)
        if matches(instructions)
    }
    return found.pop() if len(found) == 1 else None
