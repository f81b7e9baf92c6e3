"""Local variables of a running frame by name, without `frame.f_locals`.

Before 3.13 `f_locals` of a function writes a snapshot into the frame, which keeps tensors alive and shows in the program's own
`locals()`. So 3.10 and 3.11 read the slots of the frame where they lie, 3.12 asks the interpreter for each name, and from 3.13 on
`f_locals` is a view that writes nothing. How a frame lies in memory is checked at first use; where it is another way, nothing is read.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import types
from collections.abc import Callable, Collection, Mapping
from typing import Any

Read = Callable[[types.FrameType, Collection[str] | None], dict[str, Any]]

_OPTIMIZED = 0x1  # CO_OPTIMIZED: variables are in slots, not in a dict
_POINTER = ctypes.sizeof(ctypes.c_void_p)
_CODE_3_10, _SLOTS_3_10 = 32, 352
"""Bytes into PyFrameObject: f_code, f_localsplus."""
_FRAME_3_11, _CODE_3_11, _SLOTS_3_11 = 24, 32, 72
"""Bytes into PyFrameObject: f_frame; into _PyInterpreterFrame: f_code, localsplus."""
_GLOBALS_3_12, _LOCALS_3_12 = 24, 40
"""Bytes into _PyInterpreterFrame: f_globals, f_locals."""

_reader: Read | None = None


def variables(frame: types.FrameType, names: Collection[str] | None = None) -> dict[str, Any]:
    """Variables bound in `frame` now, those of `names` or all; {} where they cannot be read without a trace.

    The values are the program's own: whoever calls this lets go of them before the callback ends.
    """
    code = frame.f_code
    if not code.co_flags & _OPTIMIZED:
        return _of_a_dict(frame, names)
    global _reader
    if _reader is None:
        _reader = _checked(_reader_of_this_python())
    return _reader(frame, names)


def _of_a_dict(frame: types.FrameType, names: Collection[str] | None) -> dict[str, Any]:
    """Of a module or of code that is run by exec(): nothing is copied there. A class body may copy its closure: not visible."""
    code = frame.f_code
    if (code.co_cellvars or code.co_freevars) and not _is_of_a_module(frame):
        return {}
    values = frame.f_locals
    if type(values) is dict:
        return _selected(values, names)
    if _is_of_a_module(frame):  # while it runs a comprehension: from 3.13 on f_locals are the variables of that alone
        return {**_selected(frame.f_globals, names), **_by_view(frame, names)}
    return {}  # exec() with a mapping of the program's, whose code would run


def _is_of_a_module(frame: types.FrameType) -> bool:
    """Whether the frame's own variables are its globals; from 3.12 on, where a module runs comprehensions in its own frame and has their
    cells. To ask for `f_locals` would be no help: in a class body it writes, and within a comprehension it hides them."""
    if not (3, 12) <= sys.version_info < (3, 15) or sys.implementation.name != "cpython" or _POINTER != 8:
        return False
    place = ctypes.c_void_p.from_address(id(frame) + _FRAME_3_11).value
    if not place:
        return False
    of_globals, of_locals = (ctypes.c_void_p.from_address(place + offset).value for offset in (_GLOBALS_3_12, _LOCALS_3_12))
    return of_globals == of_locals == id(frame.f_globals)


def _selected(values: Mapping[str, Any], names: Collection[str] | None) -> dict[str, Any]:
    if names is None:
        return dict(values)
    return {name: values[name] for name in names if name in values}


def _reader_of_this_python() -> Read:
    if sys.implementation.name != "cpython" or _POINTER != 8:
        return _not_visible
    if sys.version_info >= (3, 13):
        return _by_view
    if sys.version_info >= (3, 12):
        return _by_name
    return _by_slot


def _checked(read: Read) -> Read:
    """`read`, where it tells the variables of a frame of our own; else a reader of nothing."""

    def inner(argument: int, unused: object = None) -> tuple[dict[str, Any], dict[str, Any]]:
        number, text = 1.5, "text"
        gone = number
        del gone

        def closure() -> tuple[object, ...]:
            return argument, text

        known = {"argument": argument, "unused": unused, "number": number, "text": text, "closure": closure}
        return read(sys._getframe(), None), known

    try:
        found, known = inner(1, _checked)
    except Exception:  # whatever a strange interpreter answers: then the slots are elsewhere
        return _not_visible
    for ours in ("known", "read"):
        found.pop(ours, None)
    same = found.keys() == known.keys() and all(found[name] is known[name] for name in known)
    return read if same else _not_visible


def _not_visible(frame: types.FrameType, names: Collection[str] | None) -> dict[str, Any]:
    return {}


def _by_view(frame: types.FrameType, names: Collection[str] | None) -> dict[str, Any]:
    return _selected(frame.f_locals, names)


@functools.lru_cache(maxsize=1)
def _get_variable() -> Any:
    # A prototype of our own: that of ctypes.pythonapi is the program's.
    return ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.c_char_p)(("PyFrame_GetVarString", ctypes.pythonapi))


def _by_name(frame: types.FrameType, names: Collection[str] | None) -> dict[str, Any]:
    ask, code = _get_variable(), frame.f_code
    found = {}
    for name in dict.fromkeys(code.co_varnames + code.co_cellvars + code.co_freevars):
        if names is None or name in names:
            try:
                found[name] = ask(frame, name.encode())
            except NameError:  # not bound yet, or deleted
                continue
    return found


def _by_slot(frame: types.FrameType, names: Collection[str] | None) -> dict[str, Any]:
    code = frame.f_code
    slots = _slots(code)
    start = _start_of_slots(frame)
    if start is None:
        return {}
    # Which slots are empty is looked at first: reading an empty one as an object raises, and that is slow.
    pointers = (ctypes.c_void_p * len(slots)).from_address(start)[:]
    objects = (ctypes.py_object * len(slots)).from_address(start)
    found = {}
    for index, (name, may_be_cell) in enumerate(slots):
        if pointers[index] and (names is None or name in names):
            value: Any = objects[index]
            if may_be_cell and type(value) is types.CellType:
                try:
                    value = value.cell_contents
                except ValueError:  # an empty cell
                    continue
            found[name] = value
    return found


@functools.lru_cache(maxsize=64)
def _slots(code: types.CodeType) -> tuple[tuple[str, bool], ...]:
    """Names of the slots in their order, and whether a slot may hold a cell with the value in it."""
    cells = set(code.co_cellvars)
    names = [(name, name in cells) for name in code.co_varnames]
    # On 3.11 an argument that a closure takes has one slot; on 3.10 a second one, among the cells, and the first is empty.
    own = set(code.co_varnames) if sys.version_info >= (3, 11) else set()
    return (
        *names,
        *((name, True) for name in code.co_cellvars if name not in own),
        *((name, True) for name in code.co_freevars),
    )


def _start_of_slots(frame: types.FrameType) -> int | None:
    """Address of the first slot; None where the frame's code is not where it should be."""
    place, code_at, slots_at = id(frame), _CODE_3_10, _SLOTS_3_10
    if sys.version_info >= (3, 11):
        place = ctypes.c_void_p.from_address(place + _FRAME_3_11).value or 0
        code_at, slots_at = _CODE_3_11, _SLOTS_3_11
    if not place or ctypes.c_void_p.from_address(place + code_at).value != id(frame.f_code):
        return None
    return place + slots_at
