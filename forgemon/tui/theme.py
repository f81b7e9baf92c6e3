"""The look forgemon starts with: dark, quiet, one warm accent. Any other theme of the palette works as well."""

from __future__ import annotations

from textual.theme import Theme

FORGE = Theme(
    name="forge",
    primary="#7aa2c9",
    secondary="#6fc2a8",
    accent="#f2a65a",
    warning="#e5c07b",
    error="#ef6b6b",
    success="#8fbf7f",
    foreground="#d8dee9",
    background="#14171c",
    surface="#1b1f26",
    panel="#242a33",
    dark=True,
    variables={"frame": "#39424f", "title": "#9aa5b5"},
)


def more_variables(theme: Theme) -> dict[str, str]:
    """`$frame` and `$title` for themes that do not know them."""
    return {"frame": "#6a7280", "title": "#7f8896"} if "frame" not in theme.variables else {}
