"""Whether a program can ever take something out of a container that it fills: read from its code, of which nothing is run."""

from __future__ import annotations

import dis
import types
from collections.abc import Iterator, Sequence
from typing import Any

from .frames import variables
from .loader_description import attributes

CUTTING = frozenset("pop popleft popitem clear remove discard".split())
MOST_ATTRIBUTES = 200
MOST_INSTRUCTIONS = 100_000


def only_grows(container: object, frames: Sequence[types.FrameType]) -> bool:
    """`frames`: the program's own, innermost first. True only where no instruction of their files could take anything out of any
    container, and none gives the variable that holds this one another value; False also where that cannot be told."""
    modules = [frame for frame in frames if frame.f_code.co_name == "<module>"]
    files = {frame.f_code.co_filename for frame in modules}
    names = {name for frame in frames for name in _names(container, frame)}
    if not names or any(frame.f_code.co_filename not in files for frame in frames):
        return False  # a part of the code is not on the stack
    read = 0
    codes = list({id(code): code for frame in modules for code in _within(frame.f_code)}.values())
    for code in codes:
        before = ""
        for instruction in dis.get_instructions(code):
            read += 1
            if _cuts(instruction, before) or read > MOST_INSTRUCTIONS:
                return False
            if _stores(instruction, names) and (_in_a_loop(code, instruction.offset) or not _runs_once(code, codes, frames)):
                return False
            before = instruction.opname
    return True


def _names(container: object, frame: types.FrameType) -> Iterator[str]:
    """Variables of the frame, and attributes of what stands in them, that hold the container."""
    for name, value in variables(frame).items():
        if value is container:
            yield name
            continue
        inside = attributes(value)
        if len(inside) <= MOST_ATTRIBUTES:
            yield from (key for key, held in inside.items() if held is container)


def _within(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _within(constant)


def _cuts(instruction: dis.Instruction, before: str) -> bool:
    name: Any = instruction.argval
    if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
        return name in CUTTING
    return instruction.opname in ("DELETE_SUBSCR", "STORE_SLICE") or (
        instruction.opname == "STORE_SUBSCR" and before == "BUILD_SLICE"
    )


def _stores(instruction: dis.Instruction, names: set[str]) -> bool:
    return instruction.opname.startswith(("STORE_", "DELETE_")) and instruction.argval in names


def _in_a_loop(code: types.CodeType, offset: int) -> bool:
    return any(
        type(jump.argval) is int and jump.argval <= offset <= jump.offset
        for jump in dis.get_instructions(code)
        if jump.opcode in dis.hasjrel or jump.opcode in dis.hasjabs
    )


def _runs_once(code: types.CodeType, codes: Sequence[types.CodeType], frames: Sequence[types.FrameType]) -> bool:
    """Whether the code is that of a module or an initialiser, or of a function that is running, was called outside all loops and is
    named nowhere else in `codes`."""
    if code.co_name in ("<module>", "__init__"):
        return True
    frame = next((frame for frame in frames if frame.f_code is code), None)
    caller = None if frame is None else frame.f_back
    if caller is None or caller not in frames or sum(_mentions(one, code.co_name) for one in codes) != 1:
        return False
    return not _in_a_loop(caller.f_code, caller.f_lasti) and _runs_once(caller.f_code, codes, frames)


def _mentions(code: types.CodeType, name: str) -> int:
    """How often the code asks for what has this name."""
    return sum(
        i.opname.startswith("LOAD_") and i.argval == name and i.opname != "LOAD_CONST" for i in dis.get_instructions(code)
    )
