"""Two calls put into a function's code: one where it begins, one where it returns. For CPython 3.10 and 3.11.

Nothing else of the function changes: it has no frame more, its signature, lines and variables are its own, and what it is given is not
held any longer than it holds it.
"""

from __future__ import annotations

import dis
import functools
import sys
import types
from collections.abc import Callable
from typing import Any

from .bytecode import Instruction, Position, read, written

SINCE_3_11 = sys.version_info >= (3, 11)
"""How a call is made, and where a parameter lies that a closure uses, differs from 3.10."""
_PUSHED = 4
"""By a call at most, beside the function's parameters."""


class Call(functools.partial):  # type: ignore[type-arg]
    """A callback as a constant of the program's code."""

    _torchdynamo_disable = True

    def __reduce__(self) -> tuple[Any, ...]:
        # Where code is sent to another process (cloudpickle), what can be called with anything stands there in its place: slice.
        return type, (slice(None),)


def parameters(code: types.CodeType) -> tuple[str, ...]:
    """Names of a function's parameters: those by position, by keyword, *args, **kwargs."""
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
    return code.co_varnames[:count]


def with_calls(
    code: types.CodeType, on_start: Callable[..., object] | None, on_return: Callable[..., object] | None
) -> types.CodeType:
    """`code` that calls `on_start(values)` and `on_return(values, result)`, where `values` are the parameters as they stand then; one that
    the function deletes is None at its return. Not for generators."""
    instructions, handlers = read(code)
    pieces = _Pieces(code, instructions)
    if on_return is not None:
        call = Call(on_return)
        instructions = [piece for i in instructions for piece in _before_return(i, pieces, call)]
    if on_start is not None:
        first = _first(instructions)
        # At the line of what comes after, so that whoever traces lines sees none more.
        instructions[first:first] = pieces.call_at_start(Call(on_start), instructions[first].position)
    depth = code.co_stacksize + len(parameters(code)) + _PUSHED
    return written(code, instructions, handlers, co_consts=tuple(pieces.constants), co_stacksize=depth)


def _first(instructions: list[Instruction]) -> int:
    """The index of what the function does first; on 3.11 its cells are made before."""
    return next((i + 1 for i, found in enumerate(instructions) if dis.opname[found.opcode] == "RESUME"), 0)


def _before_return(instruction: Instruction, pieces: _Pieces, call: Call) -> list[Instruction]:
    """The instruction, behind a call if it returns. Who jumps to it is to come to the call, so that the first of that takes its place."""
    if dis.opname[instruction.opcode] != "RETURN_VALUE":
        return [instruction]
    returns = Instruction(instruction.opcode, instruction.argument, instruction.position)
    first, *others = pieces.call_at_return(call, instruction.position)
    instruction.opcode, instruction.argument = first.opcode, first.argument
    return [instruction, *others, returns]


class _Pieces:
    """Makes the instructions of calls; adds the constants that they need."""

    def __init__(self, code: types.CodeType, instructions: list[Instruction]) -> None:
        self.constants: list[Any] = list(code.co_consts)
        self._code = code
        self._deleted = {(dis.opname[i.opcode], i.argument) for i in instructions if dis.opname[i.opcode].startswith("DELETE_")}

    def call_at_start(self, call: Call, position: Position) -> list[Instruction]:
        if SINCE_3_11:
            names = [("PUSH_NULL", 0), self._constant(call), *self._values(), ("PRECALL", 1), ("CALL", 1)]
        else:
            names = [self._constant(call), *self._values(), ("CALL_FUNCTION", 1)]
        return _instructions([*names, ("POP_TOP", 0)], position)

    def call_at_return(self, call: Call, position: Position) -> list[Instruction]:
        """The result is on the stack, and stays."""
        values = self._values(at_return=True)
        if SINCE_3_11:
            names = [("PUSH_NULL", 0), self._constant(call), *values, ("COPY", 4), ("PRECALL", 2), ("CALL", 2)]
        else:
            names = [("DUP_TOP", 0), self._constant(call), ("ROT_TWO", 0), *values, ("ROT_TWO", 0), ("CALL_FUNCTION", 2)]
        return _instructions([*names, ("POP_TOP", 0)], position)

    def _values(self, at_return: bool = False) -> list[tuple[str, int]]:
        """Of the parameters, in a tuple."""
        names = parameters(self._code)
        loads = [self._load(index, name, at_return) for index, name in enumerate(names)]
        return [*loads, ("BUILD_TUPLE", len(names))]

    def _load(self, index: int, name: str, may_be_gone: bool) -> tuple[str, int]:
        kind = "FAST"
        if name in self._code.co_cellvars:
            kind = "DEREF"
            index = index if SINCE_3_11 else self._code.co_cellvars.index(name)
        if may_be_gone and (f"DELETE_{kind}", index) in self._deleted:
            return self._constant(None)
        return f"LOAD_{kind}", index

    def _constant(self, value: object) -> tuple[str, int]:
        for index, constant in enumerate(self.constants):
            if constant is value:
                return "LOAD_CONST", index
        self.constants.append(value)
        return "LOAD_CONST", len(self.constants) - 1


def _instructions(named: list[tuple[str, int]], position: Position) -> list[Instruction]:
    return [Instruction(dis.opmap[name], argument, position) for name, argument in named]
