"""Which names somebody may have meant: by whole words of the names and of what is said of them, never by chance letters."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

ALIKE = 0.8
"""Likeness of two words, or of two whole names, above which one is the other mistyped."""
IN_NAME, IN_TEXT = 3.0, 1.0
SHORTEST = 3
MOST = 3
COMMON = frozenset(
    "and are but for from has have into its never not of off that the them then they this too was with without".split()
)


def suggestions(text: str, described: Mapping[str, str]) -> list[str]:
    """Names out of `described` (name to description), best first; none where no word fits."""
    wanted = [word for word in _words(text) if word not in COMMON]
    scores = {name: _score(wanted, name, description) for name, description in described.items()}
    for name in difflib.get_close_matches(_joined(text), [_joined(name) for name in described], n=1, cutoff=ALIKE):
        scores |= {one: score + 2 * IN_NAME for one, score in scores.items() if _joined(one) == name}
    best = max(scores.values(), default=0.0)
    close = [name for name, score in scores.items() if score > 0 and score >= 0.7 * best]
    return sorted(close, key=lambda name: -scores[name])[:MOST]


def _score(wanted: list[str], name: str, description: str) -> float:
    """Each word counts once, where it fits best; an equal word more than a likely one."""
    in_name, in_text = _words(name), _words(description)
    return sum(max(IN_NAME * _best(word, in_name), IN_TEXT * _best(word, in_text)) for word in wanted)


def _best(word: str, words: list[str]) -> float:
    return max((_likeness(word, other) for other in words), default=0.0)


def _likeness(one: str, other: str) -> float:
    """1 for the same word, less for its beginning or a mistyped one, 0 for another."""
    if one == other:
        return 1.0
    if min(len(one), len(other)) >= SHORTEST + 1 and (one.startswith(other) or other.startswith(one)):
        return 0.8
    ratio = difflib.SequenceMatcher(None, one, other).ratio()
    return 0.9 * ratio if ratio >= ALIKE else 0.0


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"[a-z]+|\d+", text.lower()) if len(word) >= SHORTEST or word == "lr"]


def _joined(text: str) -> str:
    return re.sub(r"[^a-z]", "", text.lower())
