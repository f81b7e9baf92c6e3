"""Whether a program can ever take something out of a container that it fills: read from its code, of which nothing is run."""

from __future__ import annotations

import dis
import types
from collections.abc import Sequence
from typing import Any

from .keeping import names_of
from .program import codes_of

CUTTING = frozenset("pop popleft popitem clear remove discard".split())


def only_grows(container: object, frames: Sequence[types.FrameType]) -> bool:
    """`frames`: the program's own, innermost first. True only where no instruction of their files could take anything out of any
    container, and none gives the variable that holds this one another value; False also where that cannot be told."""
    modules = [frame for frame in frames if frame.f_code.co_name == "<module>"]
    files = {frame.f_code.co_filename for frame in modules}
    names = {name for frame in frames for name in names_of(container, frame)}
    if not names or any(frame.f_code.co_filename not in files for frame in frames):
        return False  # a part of the code is not on the stack
    codes = codes_of(modules)
    for code in codes:
        before = ""
        for instruction in dis.get_instructions(code):
            if _cuts(instruction, before):
                return False
            if _stores(instruction, names) and (_in_a_loop(code, instruction.offset) or not _runs_once(code, codes, frames)):
                return False
            before = instruction.opname
    return bool(codes)


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
