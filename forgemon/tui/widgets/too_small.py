"""What stands alone on a terminal too small for anything else."""

from __future__ import annotations

from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from forgemon.tui.pages import SMALLEST
from forgemon.tui.strips import centred


class TooSmall(Widget):
    def render_line(self, y: int) -> Strip:
        width, height = self.size
        words = (f"Terminal too small: {width}x{height},", f"needs {SMALLEST[0]}x{SMALLEST[1]}")
        one = " ".join(words)
        lines = (one,) if len(one) <= width or height < 2 else words
        return centred([(line, Style()) for line in lines], width, height)[y].apply_style(self.visual_style.rich_style)
