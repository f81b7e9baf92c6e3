"""Texts and numbers as they may stand on the screen: no control characters, one width, formats a person can read."""

from __future__ import annotations

import math
import time
import unicodedata
from functools import lru_cache

from rich.cells import cell_len, set_cell_size

REPLACEMENT = "�"
UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that could move the cursor, hide text, turn its direction or fail to encode."""


@lru_cache(maxsize=8192)
def plain(text: str) -> str:
    """`text` with any blank as a space and every other unprintable character shown as a replacement character."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(c) for c in text[:20_000])


def _shown(character: str) -> str:
    category = unicodedata.category(character)
    if character == "\t" or category == "Zs":
        return " "
    return REPLACEMENT if category in UNPRINTABLE else character


def fit(text: str, width: int, align: str = "left") -> str:
    """`text` in exactly `width` cells: cut with an ellipsis, or padded on the side away from `align`."""
    if width <= 0:
        return ""
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…"
    padding = " " * (width - length)
    return padding + text if align == "right" else text + padding


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` cells, its middle left out: both ends of a parameter's name or a path say most."""
    if cell_len(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    tail = (width - 1) * 2 // 3
    head = width - 1 - tail
    end = text[-tail:] if tail else ""
    while cell_len(end) > tail:
        end = end[1:]
    return set_cell_size(text, head).rstrip() + "…" + end


def wrap(text: str, width: int, lines: int | None = None) -> list[str]:
    """`text` broken at spaces into lines of at most `width` cells; past `lines` the last one ends in an ellipsis."""
    wrapped: list[str] = []
    line = ""
    for word in text.split():
        while cell_len(word) > width:
            if line:
                wrapped.append(line)
                line = ""
            wrapped.append(set_cell_size(word, width).rstrip())
            word = word[len(wrapped[-1]) :]
        candidate = f"{line} {word}" if line else word
        if cell_len(candidate) > width:
            wrapped.append(line)
            candidate = word
        line = candidate
    if line:
        wrapped.append(line)
    if lines is not None and len(wrapped) > lines:
        wrapped = wrapped[:lines]
        wrapped[-1] = fit(wrapped[-1] + " …", width).rstrip() if lines else ""
    return wrapped


def number(value: float | None, digits: int = 4) -> str:
    """`value` with `digits` significant digits, fewer where zeros lead; `–` for missing, the word for inf."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent >= 6 or exponent < 1 - max(digits, 3):  # where no more than one digit would be left behind the zeros
        mantissa, _, power = f"{value:.{max(digits - 2, 0)}e}".partition("e")
        return f"{mantissa}e{int(power)}"
    return f"{value:.{max(digits - 1 - max(exponent, 0), 0)}f}" if exponent >= 0 else f"{value:.{digits}f}"


def learning_rate(value: float) -> str:
    """A learning rate as people write it: 3e-4, 0.01."""
    if math.isnan(value) or math.isinf(value) or value == 0 or 1e-3 <= abs(value) < 1e4:
        return number(value) if not math.isfinite(value) else f"{value:.3g}"
    mantissa, _, power = f"{value:.2e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"


def count(value: float) -> str:
    return f"{int(value):,}"


def size(value: float) -> str:
    """Bytes as a memory size."""
    if not math.isfinite(value):
        return "–"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 999.5 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit in ("B", "KiB") or abs(value) >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def ratio(value: float) -> str:
    """How many times its usual size."""
    if not math.isfinite(value):
        return "–"
    if value >= 1000 or 0 < value < 0.01:
        return f"{value:.0e}×".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
    return f"{value:.0f}×" if value >= 100 else f"{value:.1f}×" if value >= 10 else f"{value:.2f}×"


def percent(share: float) -> str:
    value = share * 100
    return "–" if not math.isfinite(value) else f"{value:.0f} %" if value >= 10 else f"{value:.1f} %"


def rate(per_second: float) -> str:
    """Steps per second, or seconds per step where a step takes long."""
    if not math.isfinite(per_second) or per_second <= 0:
        return "– steps/s"
    if per_second < 0.5:
        return f"{1 / per_second:.1f} s/step"
    return f"{per_second:.0f} steps/s" if per_second >= 100 else f"{per_second:.1f} steps/s"


def duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "–"
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def clock(unix_time: float) -> str:
    """Local time of day; empty for a time that no clock shows."""
    try:
        return time.strftime("%H:%M:%S", time.localtime(unix_time))
    except (OverflowError, ValueError, OSError):
        return ""
