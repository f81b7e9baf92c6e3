"""All keys with what they do, made from the table of keys."""

from __future__ import annotations

from itertools import groupby

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from forgemon.tui.ink import Ink, ink_of
from forgemon.tui.keys import KEYS


def body_of(ink: Ink) -> Table:
    """Keys on the left, what they do on the right, under the name of their group."""
    table = Table.grid(padding=(0, 2))
    for group, keys in groupby(KEYS, key=lambda k: k.group):
        table.add_row(Text(group, ink.info))
        for key in keys:
            table.add_row(Text(f"  {key.label}", ink.key), Text(key.tooltip, ink.text))
        table.add_row()
    table.add_row(
        Text("  mouse", ink.key),
        Text("Pages, keys and findings can be clicked, the timeline dragged, lists scrolled.", ink.text),
    )
    return table


class Help(ModalScreen[None]):
    """Closed by Escape or the key that opened it."""

    BINDINGS = [  # noqa: RUF012
        Binding("escape,question_mark,h,q,enter", "dismiss", "Close", id="close", tooltip="Back to the dashboard."),
    ]
    DEFAULT_CSS = """
    Help { align: center middle; }
    Help VerticalScroll {
        width: 90%; max-width: 96; height: auto; max-height: 92%;
        border: round $accent; border-title-color: $accent; border-subtitle-color: $title;
        padding: 1 2; background: $surface;
    }
    """

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_title, box.border_subtitle = "keys", "Esc closes"
            yield Static(body_of(ink_of(self.app.theme_variables, self.app.no_color)), markup=False)

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()
