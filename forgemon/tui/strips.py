"""Lines of styled text for `render_line`: parts side by side, spread to both edges, centred; and the canvas of a chart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from forgemon.tui.raster import Columns, Scale, cells, draw
from forgemon.tui.text import fit

Part = tuple[str, Style]


def strip(parts: Iterable[Part], width: int) -> Strip:
    """The parts in a row, cut or padded to `width` cells."""
    return Strip([Segment(text, style) for text, style in parts if text]).adjust_cell_length(width).simplify()


def width_of(parts: Iterable[Part]) -> int:
    return sum(cell_len(text) for text, _ in parts)


def spread(left: Sequence[Part], right: Sequence[Part], width: int, base: Style) -> Strip:
    """`left` at the left edge and `right` at the right one; `right` is left out where both do not fit."""
    room = width - width_of(left) - width_of(right)
    return strip(left, width) if room < 1 else strip([*left, (" " * room, base), *right], width)


def joined(groups: Iterable[Sequence[Part]], separator: Part, width: int) -> list[Part]:
    """The first group, and of the others as many as fit in `width`, in order, with the separator between them."""
    parts: list[Part] = []
    for group in groups:
        if not group:
            continue
        candidate = [*parts, separator, *group] if parts else list(group)
        if not parts or width_of(candidate) <= width:
            parts = candidate
    return parts


def centred(lines: Sequence[Part], width: int, height: int) -> list[Strip]:
    """The lines in the middle of a `width` x `height` area."""
    above = max((height - len(lines)) // 2, 0)
    blank = Strip.blank(width)
    middle = [strip([(fit(" " * max((width - cell_len(text)) // 2, 0) + text, width), style)], width) for text, style in lines]
    return ([blank] * above + middle + [blank] * height)[:height]


@lru_cache(maxsize=65536)
def meta(style: Style, action: str) -> Style:
    """`style` that runs `action` when clicked."""
    return style + Style(meta={"@click": action})


def runs(chars: npt.NDArray[np.uint32], owners: npt.NDArray[np.int16], styles: Sequence[Style]) -> list[Segment]:
    """One row of characters as segments, one for each run of the same owner."""
    text = chars.astype("<u4").tobytes().decode("utf-32-le")
    cuts = (np.flatnonzero(np.diff(owners)) + 1).tolist()
    return [
        Segment(text[begin:end], styles[int(owners[begin])]) for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)
    ]


class Canvas:
    """`width` x `height` cells of braille curves and single marks. A later curve covers an earlier one cell by cell."""

    def __init__(self, width: int, height: int, base: Style) -> None:
        self.width, self.height = max(width, 1), max(height, 1)
        self._chars = np.full((self.height, self.width), ord(" "), dtype=np.uint32)
        self._owners = np.zeros((self.height, self.width), dtype=np.int16)
        self._styles = [base]

    def _owner(self, style: Style) -> int:
        self._styles.append(style)
        return len(self._styles) - 1

    def curve(self, columns: Columns, scale: Scale, style: Style) -> None:
        dots = np.zeros((self.height * 4, self.width * 2), dtype=np.bool_)
        draw(dots, columns, scale)
        bits = cells(dots)
        drawn = bits > 0
        self._chars[drawn] = 0x2800 + bits[drawn]
        self._owners[drawn] = self._owner(style)

    def points(self, columns: Columns, scale: Scale, glyph: str, style: Style) -> None:
        """One glyph in each cell that holds the last value of a pixel column."""
        seen = np.flatnonzero(np.isfinite(columns.last))
        row = ((1 - scale.fraction(columns.last[seen])) * (self.height * 4 - 1)).round().astype(np.intp) // 4
        self._chars[row, seen // 2] = ord(glyph)
        self._owners[row, seen // 2] = self._owner(style)

    def column(self, column: int, glyph: str, style: Style) -> None:
        """A vertical line of `glyph` through the empty cells of a column."""
        empty = self._chars[:, column] == ord(" ")
        self._chars[empty, column] = ord(glyph)
        self._owners[empty, column] = self._owner(style)

    def row(self, row: int, columns: npt.NDArray[np.intp], glyph: str, style: Style) -> None:
        self._chars[row, columns] = ord(glyph)
        self._owners[row, columns] = self._owner(style)

    def segments(self, row: int) -> list[Segment]:
        return runs(self._chars[row], self._owners[row], self._styles)
