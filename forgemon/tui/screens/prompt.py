"""One line to type in, at the bottom of the screen."""

from __future__ import annotations

from collections.abc import Callable

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.screen import ModalScreen
from textual.widgets import Input, Static


class Prompt(ModalScreen[str | None]):
    """Answers with what was typed, None when left with Escape. `changed` hears of every change."""

    BINDINGS = [Binding("escape", "leave", "Cancel", id="cancel", tooltip="Leave without a change.")]  # noqa: RUF012
    DEFAULT_CSS = """
    Prompt { align: left bottom; background: transparent; }
    Prompt Horizontal { height: 1; background: $panel; }
    Prompt Static { width: auto; padding: 0 1; color: $accent; text-style: bold; }
    Prompt Input { border: none; height: 1; padding: 0; width: 1fr; background: $panel; }
    Prompt Input:focus { border: none; }
    """

    def __init__(
        self,
        label: str,
        placeholder: str,
        value: str = "",
        *,
        integer: bool = False,
        changed: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self._label, self._placeholder, self._value = label, placeholder, value
        self._integer, self._changed = integer, changed

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Static(self._label, markup=False)
            yield Input(
                self._value, placeholder=self._placeholder, restrict=r"[0-9,_]*" if self._integer else None, max_length=200
            )

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        if self._changed is not None:
            self._changed(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)

    def action_leave(self) -> None:
        if self._changed is not None:
            self._changed(self._value)
        self.dismiss(None)
