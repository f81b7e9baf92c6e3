"""Which panels are on the screen, by page and size. Pure decisions; how large each is stands in dashboard.tcss."""

from __future__ import annotations

from typing import Literal

SizeClass = Literal["tiny", "narrow", "tall", "wide", "huge"]

PAGES = ("overview", "gradients", "memory", "evaluations", "findings", "output")
SMALLEST = (60, 16)
PANELS = ("verdict", "loss", "evaluations", "output", "gradients", "heatmap", "findings", "note", "checklist", "best", "memory")
CONTAINERS = {
    "plots": ("loss", "evaluations", "output"),
    "weights": ("gradients", "heatmap"),
    "left": ("loss", "evaluations", "output", "gradients", "heatmap"),
    "right": ("findings", "note", "checklist", "best", "memory"),
}
"""Container -> the panels in it; one without a visible panel is hidden."""


def size_class(width: int, height: int) -> SizeClass:
    if width < SMALLEST[0] or height < SMALLEST[1]:
        return "tiny"
    if width >= 170 and height >= 44:
        return "huge"
    if width >= 110 and height >= 30:
        return "wide"
    return "tall" if height >= 40 else "narrow"


def pages(has_output: bool) -> tuple[str, ...]:
    return PAGES if has_output else PAGES[:-1]


_OVERVIEW: dict[SizeClass, tuple[str, ...]] = {
    "tiny": (),
    "narrow": ("verdict", "loss", "checklist"),
    "tall": ("loss", "gradients", "findings", "checklist"),
    "wide": ("loss", "gradients", "findings", "checklist", "best", "memory"),
    "huge": ("loss", "evaluations", "gradients", "heatmap", "findings", "checklist", "best", "memory", "output"),
}


def visible(page: str, size: SizeClass, has_output: bool, heatmap: bool) -> frozenset[str]:
    """The panels to show. `heatmap`: rather the heatmap than the table, where there is not room for both."""
    if size == "tiny":
        return frozenset()
    if page == "overview":
        chosen = set(_OVERVIEW[size])
        if heatmap and size != "huge" and "gradients" in chosen:
            chosen = chosen - {"gradients"} | {"heatmap"}
    elif page == "gradients":
        both = size != "narrow" and not heatmap
        chosen = {"verdict", "gradients", "heatmap"} if both else {"verdict", "heatmap" if heatmap else "gradients"}
    elif page == "evaluations":
        chosen = {"verdict", "evaluations", "best"}
    elif page == "findings":
        chosen = {"findings", "checklist"} | (set() if size == "narrow" else {"note"})
    else:
        chosen = {"verdict", page}
    return frozenset(chosen if has_output else chosen - {"output"})
