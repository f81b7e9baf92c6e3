"""The styles that panels draw with, taken from the theme: one colour per meaning, always the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from rich.color import Color as RichColor
from rich.style import Style
from textual.color import Color

from forgemon.findings import Answer, Level

NONE = Style()
FALLBACK = {
    "foreground": "#d8dee9",
    "background": "#14171c",
    "primary": "#7aa2c9",
    "secondary": "#6fbfa8",
    "accent": "#f2a65a",
    "error": "#ef6b6b",
    "warning": "#e5c07b",
    "success": "#8fbf7f",
}


@dataclass(frozen=True)
class Ink:
    """Styles by meaning. Without colour they still differ in weight, and words or glyphs carry the meaning."""

    text: Style
    muted: Style
    faint: Style
    strong: Style
    train: Style
    smooth: Style
    validation: Style
    good: Style
    alarm: Style
    watch: Style
    info: Style
    key: Style
    selected: Style
    badge_alarm: Style
    badge_watch: Style
    badge_info: Style
    badge_good: Style
    badge_plain: Style
    monochrome: bool = False

    def level(self, level: Level) -> Style:
        return {"alarm": self.alarm, "watch": self.watch, "info": self.info}[level]

    def badge(self, level: Level) -> Style:
        return {"alarm": self.badge_alarm, "watch": self.badge_watch, "info": self.badge_info}[level]

    def answer(self, answer: Answer) -> Style:
        return {"yes": self.good, "no": self.alarm, "not visible": self.muted}[answer]


GLYPHS: Mapping[str, str] = {"yes": "✓", "no": "✗", "not visible": "?"}


def _colour(variables: Mapping[str, str], name: str) -> Color:
    try:
        return Color.parse(variables.get(name) or FALLBACK[name])
    except Exception:  # a theme may hold `ansi_default` or an `auto` colour that has no value of its own
        return Color.parse(FALLBACK[name])


def _style(colour: Color, bold: bool | None = None, dim: bool | None = None) -> Style:
    return Style(color=RichColor.from_rgb(*colour.rgb), bold=bold, dim=dim)


def _badge(colour: Color) -> Style:
    contrast = Color(16, 18, 22) if colour.brightness > 0.45 else Color(245, 245, 245)
    return Style(color=RichColor.from_rgb(*contrast.rgb), bgcolor=RichColor.from_rgb(*colour.rgb), bold=True)


@lru_cache(maxsize=16)
def _ink(items: tuple[tuple[str, str], ...], monochrome: bool) -> Ink:
    variables = dict(items)
    c = {name: _colour(variables, name) for name in FALLBACK}
    text, ground = c["foreground"], c["background"]
    highlight = Style(bgcolor=RichColor.from_rgb(*ground.blend(c["primary"], 0.22).rgb), bold=monochrome)
    if monochrome:
        highlight = Style(reverse=True)
    return Ink(
        text=_style(text),
        muted=_style(text.blend(ground, 0.38), dim=monochrome),
        faint=_style(text.blend(ground, 0.68), dim=monochrome),
        strong=_style(text, bold=True),
        train=_style(c["primary"].blend(ground, 0.25), dim=monochrome),
        smooth=_style(c["accent"], bold=monochrome),
        validation=_style(c["secondary"], bold=True),
        good=_style(c["success"]),
        alarm=_style(c["error"], bold=True),
        watch=_style(c["warning"], bold=monochrome),
        info=_style(c["primary"]),
        key=_style(c["accent"], bold=True),
        selected=highlight,
        badge_alarm=Style(reverse=True, bold=True) if monochrome else _badge(c["error"]),
        badge_watch=Style(reverse=True) if monochrome else _badge(c["warning"]),
        badge_info=Style(bold=True) if monochrome else _badge(c["primary"]),
        badge_good=Style(bold=True) if monochrome else _badge(c["success"]),
        badge_plain=Style(bold=True) if monochrome else _badge(text.blend(ground, 0.5)),
        monochrome=monochrome,
    )


def ink_of(variables: Mapping[str, str], monochrome: bool = False) -> Ink:
    """The ink of a theme, given its CSS variables."""
    return _ink(tuple((name, variables.get(name, "")) for name in FALLBACK), monochrome)
