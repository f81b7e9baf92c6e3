"""A function's bytecode of CPython 3.10 and 3.11 as a list of instructions that more can be put into, and back.

Jumps, exception handlers and source positions refer to instructions and not to offsets, so that they stay right whatever is put in
between. How each is laid out is in CPython: Lib/dis.py for the instructions, Objects/exception_handling_notes.txt and
Objects/locations.md of 3.11, Objects/lnotab_notes.txt of 3.10.
"""

from __future__ import annotations

import dis
import functools
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

UNIT = 2
"""Bytes of an instruction without its extensions and caches."""
_CACHES: list[int] = list(getattr(dis, "_inline_cache_entries", ())) or [0] * 256
"""Of each instruction, units that the interpreter keeps behind it; 3.10 has none."""
_RELATIVE, _ABSOLUTE = frozenset(dis.hasjrel), frozenset(dis.hasjabs)
_BACKWARD = frozenset(opcode for opcode in _RELATIVE if "BACKWARD" in dis.opname[opcode])
_NO_POSITION, _NO_COLUMNS, _LONG = 15, 13, 14
"""Kinds of entries of the table of positions of 3.11."""
_MOST_UNITS = 8
"""That one such entry covers."""
_NO_LINE, _MOST_BYTES, _MOST_LINES = -128, 254, 127
"""Of an entry of the table of lines of 3.10."""

Position = tuple[Any, ...]
"""Of 3.11: first line, last line, first column, last column, each of them None where unknown; of 3.10: the line."""


class Instruction:
    """One instruction; its argument is worked out anew where it is a jump."""

    __slots__ = ("argument", "opcode", "position", "target")

    def __init__(self, opcode: int, argument: int, position: Position, target: Instruction | None = None) -> None:
        self.opcode = opcode
        self.argument = argument
        self.position = position
        self.target = target


class Handler(NamedTuple):
    """From `first` until before `end`, an exception goes to `target`; `depth` is that of the stack, and whether the instruction's offset
    is pushed."""

    first: Instruction
    end: Instruction | None
    target: Instruction
    depth: int


def read(code: types.CodeType) -> tuple[list[Instruction], list[Handler]]:
    """Instructions in their order, and exception handlers (none before 3.11, where instructions push them)."""
    at: dict[int, Instruction] = {}
    jumps: list[tuple[Instruction, int]] = []
    found: list[Instruction] = []
    begins: list[int] = []
    extension, positions, raw = 0, list(_positions(code)), code.co_code
    offset = 0
    while offset < len(raw):
        opcode, argument = raw[offset], raw[offset + 1] | extension
        begins.append(offset)
        offset += UNIT
        if opcode == dis.EXTENDED_ARG:
            extension = argument << 8
            continue
        instruction = Instruction(opcode, argument, positions[offset // UNIT - 1])
        at.update(dict.fromkeys(begins, instruction))
        offset += UNIT * _CACHES[opcode]
        if opcode in _ABSOLUTE:
            jumps.append((instruction, UNIT * argument))
        elif opcode in _RELATIVE:
            jumps.append((instruction, offset + UNIT * (-argument if opcode in _BACKWARD else argument)))
        found.append(instruction)
        begins, extension = [], 0
    for instruction, goal in jumps:
        instruction.target = at[goal]
    return found, [Handler(at[first], at.get(end), at[target], depth) for first, end, target, depth in _handlers(code)]


def written(code: types.CodeType, instructions: list[Instruction], handlers: list[Handler], **changes: Any) -> types.CodeType:
    """`code` with these instructions; `changes` of other fields as in `CodeType.replace`."""
    extensions = _extensions(instructions)
    begins, length = _offsets(instructions, extensions)
    raw = bytearray()
    for instruction, more in zip(instructions, extensions, strict=True):
        argument = _argument(instruction, begins, more)
        for shift in range(more, 0, -1):
            raw += bytes((dis.EXTENDED_ARG, argument >> 8 * shift & 0xFF))
        raw += bytes((instruction.opcode, argument & 0xFF))
        raw += bytes(UNIT * _CACHES[instruction.opcode])
    sizes = [(1 + more + _CACHES[i.opcode], i.position) for i, more in zip(instructions, extensions, strict=True)]
    if sys.version_info >= (3, 11):
        changes["co_exceptiontable"] = b"".join(_handler_entries(handlers, begins, length))
        changes["co_linetable"] = b"".join(_position_entries(sizes, code.co_firstlineno))
    else:
        changes["co_linetable"] = bytes(_line_entries(sizes, code.co_firstlineno))
    return code.replace(co_code=bytes(raw), **changes)


def _extensions(instructions: list[Instruction]) -> list[int]:
    """How many extensions each argument needs. A jump over others that grow may grow itself; none ever shrinks, so that this ends."""
    extensions = [_units_of(instruction.argument) if instruction.target is None else 0 for instruction in instructions]
    jumps = [(index, instruction) for index, instruction in enumerate(instructions) if instruction.target is not None]
    grown = True
    while grown:
        begins, _ = _offsets(instructions, extensions)
        grown = False
        for index, instruction in jumps:
            needed = _units_of(_argument(instruction, begins, extensions[index]))
            if needed > extensions[index]:
                extensions[index], grown = needed, True
    return extensions


def _units_of(argument: int) -> int:
    """How many units an argument needs beside that of its instruction."""
    return (argument.bit_length() - 1) // 8 if argument else 0


def _offsets(instructions: list[Instruction], extensions: list[int]) -> tuple[dict[Instruction, int], int]:
    """Where each begins, with its extensions, and where all end, in units."""
    begins, at = {}, 0
    for instruction, more in zip(instructions, extensions, strict=True):
        begins[instruction] = at
        at += more + 1 + _CACHES[instruction.opcode]
    return begins, at


def _argument(instruction: Instruction, begins: dict[Instruction, int], extensions: int) -> int:
    if instruction.target is None:
        return instruction.argument
    goal = begins[instruction.target]
    if instruction.opcode in _ABSOLUTE:
        return goal
    after = begins[instruction] + extensions + 1 + _CACHES[instruction.opcode]
    return after - goal if instruction.opcode in _BACKWARD else goal - after


def _positions(code: types.CodeType) -> Iterator[Position]:
    """Of each unit of the bytecode."""
    if sys.version_info >= (3, 11):
        yield from code.co_positions()
    else:
        for start, end, line in code.co_lines():
            for _ in range(start, end, UNIT):
                yield (line,)


def _handlers(code: types.CodeType) -> Iterator[tuple[int, int, int, int]]:
    """First, end and target in bytes, and the depth: four numbers an entry, the most significant six bits first."""
    table = iter(getattr(code, "co_exceptiontable", b""))
    numbers: list[int] = []
    for byte in table:
        value = byte & 63
        while byte & 64:
            byte = next(table)
            value = value << 6 | byte & 63
        numbers.append(value)
    for first, count, target, depth in zip(*[iter(numbers)] * 4, strict=True):
        yield UNIT * first, UNIT * (first + count), UNIT * target, depth


def _handler_entries(handlers: list[Handler], begins: dict[Instruction, int], length: int) -> Iterator[bytes]:
    for first, end, target, depth in handlers:
        start = begins[first]
        count = (length if end is None else begins[end]) - start
        entry = b"".join(map(_big_endian, (start, count, begins[target], depth)))
        yield bytes((entry[0] | 128,)) + entry[1:]


def _big_endian(value: int) -> bytes:
    chunks = [value & 63]
    while value := value >> 6:
        chunks.append(value & 63 | 64)
    return bytes(reversed(chunks))


def _position_entries(sizes: Iterable[tuple[int, Position]], line_before: int) -> Iterator[bytes]:
    for units, (line, last_line, column, last_column) in sizes:
        for done in range(0, units, _MOST_UNITS):
            count = min(_MOST_UNITS, units - done) - 1
            if line is None:
                yield bytes((128 | _NO_POSITION << 3 | count,))
                continue
            moved, line_before = _signed(line - line_before), line
            if last_line is None or column is None or last_column is None:
                yield bytes((128 | _NO_COLUMNS << 3 | count,)) + moved
            else:
                place = (last_line - line, column + 1, last_column + 1)
                yield bytes((128 | _LONG << 3 | count,)) + moved + b"".join(map(_little_endian, place))


def _signed(value: int) -> bytes:
    return _little_endian(-value << 1 | 1 if value < 0 else value << 1)


@functools.lru_cache(maxsize=256)
def _little_endian(value: int) -> bytes:
    chunks = bytearray()
    while value >= 64:
        chunks.append(value & 63 | 64)
        value >>= 6
    chunks.append(value)
    return bytes(chunks)


def _line_entries(sizes: Iterable[tuple[int, Position]], line_before: int) -> Iterator[int]:
    for units, (line,) in sizes:
        left = UNIT * units
        moved = _NO_LINE if line is None else line - line_before
        while line is not None and abs(moved) > _MOST_LINES:
            step = _MOST_LINES if moved > 0 else -_MOST_LINES
            yield from (0, step & 0xFF)
            moved -= step
        while left:
            now = min(left, _MOST_BYTES)
            yield from (now, moved & 0xFF)
            left -= now
            moved = _NO_LINE if line is None else 0
        line_before = line_before if line is None else line
