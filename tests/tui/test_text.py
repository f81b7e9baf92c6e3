"""Texts from a log can do nothing to the terminal, and keep to their width."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from forgemon.tui import text

HOSTILE = "\x1b[31mred\x1b]0;title\x07 [bold]x[/] \r\n\u202eabc\ud800\x9b2J"


@given(st.text())
def test_plain_text_is_printable_and_encodes(value: str) -> None:
    shown = text.plain(value)
    assert all(c == " " or c.isprintable() or c == text.REPLACEMENT for c in shown)
    shown.encode("utf-8")


def test_plain_keeps_what_can_be_seen() -> None:
    assert text.plain("blöcke.0/重み 🙂") == "blöcke.0/重み 🙂"
    assert "\x1b" not in text.plain(HOSTILE) and "[bold]x[/]" in text.plain(HOSTILE)


@given(st.text(alphabet=st.characters(blacklist_categories=["Cc", "Cf", "Cs", "Mn", "Me", "Lo"])), st.integers(1, 40))
def test_fit_is_as_wide_as_asked(value: str, width: int) -> None:
    assert cell_len(text.fit(text.plain(value), width)) == width
    assert cell_len(text.fit(text.plain(value), width, "right")) == width


@given(st.text(alphabet="abc重🙂.", max_size=60), st.integers(1, 40))
def test_shorten_never_exceeds_its_width_and_keeps_short_texts(value: str, width: int) -> None:
    shown = text.shorten(value, width)
    assert cell_len(shown) <= width
    assert shown == value or "…" in shown


def test_shorten_keeps_both_ends() -> None:
    shown = text.shorten("encoder.layers.11.attention.self.query.weight", 24)
    assert shown.startswith("encoder") and shown.endswith("query.weight") and len(shown) == 24


@given(st.text(alphabet="abc 重", max_size=200), st.integers(2, 30))
def test_wrapped_lines_fit_and_lose_no_word(value: str, width: int) -> None:
    lines = text.wrap(value, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == value.replace(" ", "")


def test_wrap_says_when_something_was_left_out() -> None:
    assert text.wrap("one two three four", 9, 1) == ["one two …"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (0.34211, "0.3421"),
        (12.3456, "12.35"),
        (123456.0, "123456"),
        (1.5e-7, "1.50e-7"),
        (2.5e9, "2.50e9"),
        (math.nan, "–"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (None, "–"),
        (0.00123, "0.0012"),
        (0.000234, "2.34e-4"),
    ],
)
def test_numbers(value: float | None, shown: str) -> None:
    assert text.number(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(0.0456, "0.046"), (0.0019, "1.9e-3"), (0.0004, "4.0e-4"), (1.5, "1.50")])
def test_short_numbers_keep_two_digits(value: float, shown: str) -> None:
    assert text.number(value, 3) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(3e-4, "3e-4"), (0.01, "0.01"), (1.25e-5, "1.25e-5"), (math.nan, "–"), (0.0, "0")]
)
def test_learning_rates(value: float, shown: str) -> None:
    assert text.learning_rate(value) == shown


@pytest.mark.parametrize(
    ("bytes_", "shown"), [(0, "0 B"), (1536, "2 KiB"), (3 << 20, "3.0 MiB"), (85 << 30, "85.0 GiB"), (math.nan, "–")]
)
def test_memory_sizes(bytes_: float, shown: str) -> None:
    assert text.size(bytes_) == shown


@pytest.mark.parametrize(
    ("rate", "shown"), [(152.3, "152 steps/s"), (2.54, "2.5 steps/s"), (0.1, "10.0 s/step"), (math.nan, "– steps/s")]
)
def test_rates(rate: float, shown: str) -> None:
    assert text.rate(rate) == shown


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_no_number_of_a_log_breaks_a_format(value: float) -> None:
    for form in (text.number, text.learning_rate, text.size, text.ratio, text.percent, text.rate, text.duration, text.clock):
        assert isinstance(form(value), str)
