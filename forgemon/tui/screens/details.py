"""One finding in full: why, the evidence, the source lines, what would refute it, how to mend it."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from forgemon.findings import Finding, Where
from forgemon.tui import text
from forgemon.tui.ink import Ink, ink_of
from forgemon.tui.widgets.findings import LEVELS


def _source(where: Where, ink: Ink, body: Text) -> None:
    body.append(f"{text.plain(where.location)}", ink.key)
    if where.function:
        body.append(f"  in {text.plain(where.function)}", ink.muted)
    body.append("\n")
    for number, line in enumerate(where.source, where.source_first_line):
        here = number == where.line
        body.append(f" {'→' if here else ' '} {number:>5}  ", ink.key if here else ink.faint)
        body.append(text.plain(line.expandtabs(4)) + "\n", ink.strong if here else ink.muted)
    if not where.source:
        body.append("   the source could not be read\n", ink.muted)


def body_of(finding: Finding, ink: Ink) -> Text:
    """The whole finding as one text; nothing in it is markup."""
    body = Text()
    body.append(f" {LEVELS[finding.level]} ", ink.badge(finding.level))
    body.append(f"  {text.plain(finding.symptom)}\n", ink.level(finding.level))
    body.append("cause   ", ink.muted).append(f"{text.plain(finding.cause)}\n", ink.strong)
    body.append("steps   ", ink.muted)
    body.append(f"{text.count(finding.first_step)} – {text.count(finding.last_step)}\n\n", ink.text)
    body.append(f"{text.plain(finding.summary)}\n\n", ink.text)
    if finding.where is not None:
        _source(finding.where, ink, body)
        body.append("\n")
    body.append("How to mend it\n", ink.good).append(f"{text.plain(finding.fix)}\n\n", ink.text)
    body.append("Evidence\n", ink.info)
    longest = max((len(k) for k in finding.evidence), default=0)
    for key, value in finding.evidence.items():
        shown = text.number(value) if isinstance(value, float) else text.plain(str(value))
        body.append(f"  {text.plain(key):<{longest}}  ", ink.muted).append(f"{shown}\n", ink.text)
    body.append("\nWhat would refute it\n", ink.info).append(text.plain(finding.refute), ink.text)
    return body


class Details(ModalScreen[None]):
    """Closed by Escape, Enter or q."""

    BINDINGS = [  # noqa: RUF012
        Binding("escape,enter,q", "dismiss", "Close", id="close", tooltip="Back to the dashboard."),
    ]
    DEFAULT_CSS = """
    Details { align: center middle; }
    Details VerticalScroll {
        width: 90%; max-width: 110; height: auto; max-height: 90%;
        border: round $accent; border-title-color: $accent; border-subtitle-color: $title;
        padding: 1 2; background: $surface;
    }
    """

    def __init__(self, finding: Finding) -> None:
        super().__init__()
        self.finding = finding

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_title, box.border_subtitle = "finding", "Esc closes"
            yield Static(body_of(self.finding, ink_of(self.app.theme_variables, self.app.no_color)), markup=False)

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()
