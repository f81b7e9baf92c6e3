"""Every fix that was followed by hand."""

from __future__ import annotations

from tests.demo_loops.followed_calls import CALLS, MACHINE
from tests.demo_loops.followed_curves import CURVES
from tests.demo_loops.mending import Followed

FOLLOWED: tuple[Followed, ...] = (*CURVES, *CALLS, *MACHINE)


def words_followed(demo: str) -> str:
    """What the finding of a demo must say."""
    (words,) = {followed.fix for followed in FOLLOWED if followed.demo == demo}
    return words
