"""The healthy settings: drawn once and for all from what each family allows."""

from __future__ import annotations

import random
from dataclasses import replace

from tests.accuracy.setting import Setting

FAMILIES = ("mlp", "cnn", "transformer", "lstm", "regression", "vae", "gan", "policy")
PER_FAMILY = 28
OPTIMIZERS = ("sgd", "momentum", "adam", "adamw", "rmsprop")
SCHEDULES = ("constant", "constant", "warmup", "cosine", "restarts", "decay", "onecycle", "byhand")
ANY_TWIST = ("", "", "label noise", "fine-tuning", "loss window", "penalty", "moving average", "frozen layer")
CLASSIFIERS = (
    *("class-sorted", "curriculum", "frozen norm", "mc-dropout", "adversarial evaluation", "log_softmax"),
    *("train accuracy", "edge of stability"),
)
Twists = dict[str, tuple[str, ...]]
TWISTS: Twists = {
    "mlp": (*ANY_TWIST, *CLASSIFIERS, "edge of stability"),
    "cnn": (*ANY_TWIST, *CLASSIFIERS),
    "transformer": ANY_TWIST,
    "lstm": (*ANY_TWIST, "curriculum"),
    "regression": (*ANY_TWIST, "curriculum", "edge of stability", "edge of stability"),
    "vae": ("", "", "fine-tuning", "loss window", "penalty", "moving average"),
    "gan": ("", "loss window"),
    "policy": ("", "loss window"),
}
MORE_TWISTS: Twists = {
    "gan": (
        "",
        "loss window",
        "hinge loss",
        "more critic",
        "gradient penalty",
        "soft labels",
        "spectral norm",
        "moving average",
    ),
}
"""Of the halves in MORE_IN: the settings of the family were all but used."""
MORE_IN = ("second practice", "eighth", "ninth", "tenth", "eleventh", "twelfth")


LOOKED_AT = (
    "second",
    "third",
    "fourth",
    "practice",
    "fifth",
    "sixth",
    "seventh",
    "second practice",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
)
"""The halves that were frozen ones before, and two that were drawn for tuning alone; thresholds may be chosen on them."""
FROZEN = "twelfth"
"""Which one is in use. Once runs of a frozen half were looked at, its settings are for tuning too, and another one is drawn."""
MOST_DRAWS = 20_000
HALVES = ("tuning", *LOOKED_AT, "frozen")


def all_settings() -> dict[str, list[Setting]]:
    """The healthy settings of each half; none is in two. The faults of a setting are in the half that the setting is in."""
    halves = {"tuning": [s for family in FAMILIES for s in _drawn_of(family, "", PER_FAMILY, set(), TWISTS)]}
    drawn_before = {s.name for family in FAMILIES for s in _drawn_of(family, "", 2 * PER_FAMILY, set(), TWISTS)}
    for half in (*LOOKED_AT, FROZEN):
        twists = TWISTS | MORE_TWISTS if half in MORE_IN else TWISTS
        which = f"{half} frozen half"
        drawn = [s for family in FAMILIES for s in _drawn_of(family, which, PER_FAMILY // 2, drawn_before, twists)]
        halves["frozen" if half == FROZEN else half] = drawn
        drawn_before |= {s.name for s in drawn}
    return halves


def _drawn_of(family: str, which: str, count: int, others: set[str], twists: Twists) -> list[Setting]:
    """`count` settings that are not among `others`. ValueError where the family has no more of them."""
    draw = random.Random(f"forgemon accuracy {family} {which}".rstrip())
    found: dict[str, Setting] = {}
    for _ in range(MOST_DRAWS):
        setting = _sound(_drawn(family, draw, twists[family]))
        if setting.name not in others:
            found[setting.name] = setting
        if len(found) == count:
            return list(found.values())
    raise ValueError(f"all settings of the family {family} are used but {len(found)}: give it more before {which} is drawn")


def _drawn(family: str, draw: random.Random, twists: tuple[str, ...]) -> Setting:
    return Setting(
        family=family,
        optimizer=draw.choice(OPTIMIZERS),
        batch=draw.choice((0, 1, 8, 32, 32, 128)),
        schedule=draw.choice(SCHEDULES),
        norm=draw.random() < 0.35,
        dropout=draw.random() < 0.35,
        clip=draw.random() < 0.3,
        accumulate=4 if draw.random() < 0.2 else 1,
        amp=draw.choice(("", "", "", "bf16", "scaler")),
        style=draw.choice(("module", "fit", "functions", "trainer")),
        data=draw.choice(("loader", "loader", "loader", "permutation", "sampled", "fresh")),
        zero=draw.choice(("optimizer", "optimizer", "model", "none", "last")),
        loss=draw.choice(("functional", "criterion", "hand")),
        keep=draw.choice(("best", "best", "both", "memory", "nothing")),
        twist=draw.choice(twists),
    )


def _sound(s: Setting) -> Setting:
    """The drawn setting without what does not go together, so that no two names stand for one loop."""
    if s.family in ("gan", "policy"):
        s = replace(s, norm=False, dropout=False, accumulate=1, amp="", data="loader", keep="best")
        s = replace(s, style=s.style if s.style in ("module", "fit") else "fit", schedule=_rl_schedule(s))
        s = replace(s, batch=s.batch if s.batch in (32, 128) else 32 if s.batch else 128)
        s = replace(s, zero="optimizer" if s.family == "gan" else s.zero)
        s = replace(s, loss="functional" if s.loss == "criterion" else s.loss)
    if s.twist == "edge of stability":
        s = replace(s, batch=0, optimizer="sgd", schedule="constant", clip=False, dropout=False, accumulate=1, data="loader")
    if s.batch in (0, 1, 128) or s.data in ("sampled", "fresh"):
        s = replace(s, accumulate=1)
    if s.batch == 0:
        s = replace(s, data="loader")
    if s.batch == 1 or s.family == "transformer":
        s = replace(s, norm=False)
    if s.family in ("lstm", "regression", "vae") or (s.amp == "scaler" and s.accumulate > 1):
        s = replace(s, amp="")
    if s.family == "vae" and s.loss == "criterion":
        s = replace(s, loss="functional")
    if s.amp == "scaler" and s.family != "mlp" and s.batch not in (1, 8):
        s = replace(s, amp="")  # float16 is slow on a CPU
    return _with_twist_sound(s)


def _rl_schedule(s: Setting) -> str:
    return s.schedule if s.family == "policy" and s.schedule in ("constant", "warmup", "cosine") else "constant"


def _with_twist_sound(s: Setting) -> Setting:
    if s.twist == "class-sorted":
        s = replace(s, data="loader", batch=s.batch or 32)
    if s.twist == "frozen norm":
        s = replace(s, norm=s.batch != 1, twist=s.twist if s.batch != 1 else "")
    if s.twist == "mc-dropout":
        s = replace(s, dropout=True)
    if s.twist in ("log_softmax", "hinge loss", "soft labels"):
        s = replace(s, loss="functional")
    if s.twist == "adversarial evaluation":
        s = replace(s, amp="")
    if s.data in ("sampled", "fresh") or not s.validates:
        s = replace(s, style=s.style if s.style in ("module", "fit") else "fit")
    return s
