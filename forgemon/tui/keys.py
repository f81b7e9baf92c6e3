"""Every key, once: the bindings, the key bar, the help screen and the command palette are made from this table."""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding, BindingType

from forgemon.tui.pages import PAGES


@dataclass(frozen=True)
class Key:
    """One thing a person can ask for."""

    id: str
    keys: str
    "As Textual names them, with commas between."
    label: str
    "As people write them."
    action: str
    name: str
    "One or two words, for the key bar."
    tooltip: str
    "A sentence, for the help screen and the command palette."
    group: str
    pages: tuple[str, ...] = ()
    "Pages on whose key bar it stands; empty for none."

    @property
    def binding(self) -> Binding:
        return Binding(self.keys, self.action, self.name, show=bool(self.pages), tooltip=self.tooltip, id=self.id)


_GROUPS: dict[str, tuple[tuple[str, str, str, str, str, str, tuple[str, ...]], ...]] = {
    "Time": (
        (
            "play",
            "space",
            "space",
            "move('toggle')",
            "play/pause",
            "Play, or hold the picture still while a run goes on.",
            PAGES,
        ),
        ("step-back", "left", "←", "move('by_steps', -1)", "step back", "Go one recorded step back.", ()),
        ("step-on", "right", "→", "move('by_steps', 1)", "step on", "Go one recorded step on.", ()),
        ("leap-back", "shift+left", "shift ←", "move('by_share', -1)", "1 % back", "Go back by 1 % of the recording.", ()),
        ("leap-on", "shift+right", "shift →", "move('by_share', 1)", "1 % on", "Go on by 1 % of the recording.", ()),
        ("faster", "plus,equals_sign", "+", "move('faster', 1)", "faster", "Play faster.", ()),
        ("slower", "minus", "-", "move('faster', -1)", "slower", "Play slower.", ()),
        ("next-finding", "n", "n", "move('to_finding', 1)", "next finding", "Go to where the next finding begins.", PAGES),
        (
            "previous-finding",
            "N",
            "N",
            "move('to_finding', -1)",
            "previous finding",
            "Go to where the finding before begins.",
            (),
        ),
        ("go", "g", "g", "go_to_step", "go to step", "Type a step and go there.", ("overview",)),
        ("start", "home", "Home", "move('to_start')", "start", "Go to the first step.", ()),
        ("end", "end", "End", "move('to_end')", "end", "Go to the newest step; on a live run, follow it again.", PAGES),
    ),
    "Pages": tuple(
        (f"page-{p}", str(i), str(i), f"page('{p}')", p, f"Open the page “{p}”.", ()) for i, p in enumerate(PAGES, 1)
    ),
    "Panels": (
        ("next-panel", "tab", "Tab", "app.focus_next", "next panel", "Give ↑ and ↓ to the next list.", ()),
        ("up", "up", "↑", "scroll(-1)", "up", "One row up in the list with the bright border.", ()),
        ("down", "down", "↓", "scroll(1)", "down", "One row down.", ()),
        ("page-up", "pageup", "PgUp", "scroll(-20)", "page up", "Twenty rows up.", ()),
        ("page-down", "pagedown", "PgDn", "scroll(20)", "page down", "Twenty rows down.", ()),
        (
            "details",
            "enter",
            "Enter",
            "details",
            "details",
            "All about the chosen finding, with its source.",
            ("overview", "findings"),
        ),
        ("log", "l", "l", "toggle_log", "log/linear", "Draw the loss on a logarithmic or a linear scale.", ("overview",)),
        (
            "window",
            "w",
            "w",
            "next_window",
            "window",
            "Draw the loss of all steps, the last 10,000, 1,000 or 100.",
            ("overview",),
        ),
        ("sort", "s", "s", "next_sort", "sort", "Sort the gradients by model, norm, change or name.", ("gradients",)),
        ("filter", "slash", "/", "filter", "filter", "Show only parameters whose name contains a text.", ("gradients",)),
        ("heatmap", "m", "m", "toggle_heatmap", "heatmap", "Show the gradients as a heatmap, or as a table.", ("gradients",)),
    ),
    "forgemon": (
        ("help", "question_mark,h", "?", "help", "help", "Show all keys.", PAGES),
        ("palette", "ctrl+p", "Ctrl+P", "command_palette", "commands", "Find a command by typing.", ()),
        ("quit", "q,ctrl+c", "q", "quit", "quit", "Leave the dashboard. Training and recording go on.", PAGES),
    ),
}

KEYS = tuple(Key(*values[:6], group, values[6]) for group, keys in _GROUPS.items() for values in keys)
"""In the order of the help screen; the key bar shows those of a page in BAR_ORDER."""

BAR_ORDER = ("help", "quit", "play", "next-finding", "details", "sort", "filter", "heatmap", "log", "window", "end", "go")


def bindings() -> list[BindingType]:
    """Ctrl+C must leave from anywhere, so it and it alone goes before what has the focus."""
    made: list[BindingType] = [k.binding for k in KEYS if k.id not in ("palette", "quit")]
    leave = next(k for k in KEYS if k.id == "quit")
    return [
        *made,
        Binding("q", leave.action, leave.name, tooltip=leave.tooltip, id="quit"),
        Binding("ctrl+c", leave.action, leave.name, show=False, tooltip=leave.tooltip, id="quit-at-once", priority=True),
    ]


def shown_keys(page: str) -> list[Key]:
    """For the key bar, the most important first."""
    shown = {k.id: k for k in KEYS if page in k.pages}
    return [shown[i] for i in BAR_ORDER if i in shown]
