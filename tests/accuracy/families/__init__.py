"""What is trained: data, model and loss of each family."""

from __future__ import annotations

from collections.abc import Callable

from tests.accuracy.families.classifiers import cnn, mlp
from tests.accuracy.families.gan import gan
from tests.accuracy.families.numbers import regression, vae
from tests.accuracy.families.policy import policy
from tests.accuracy.families.sequences import lstm, transformer
from tests.accuracy.script import Script
from tests.accuracy.setting import Setting
from tests.accuracy.twists import twisted

FAMILIES: dict[str, Callable[[Setting], Script]] = {
    "mlp": mlp,
    "cnn": cnn,
    "transformer": transformer,
    "lstm": lstm,
    "regression": regression,
    "vae": vae,
    "gan": gan,
    "policy": policy,
}


def healthy_script(setting: Setting) -> Script:
    """The loop as it should be."""
    return twisted(FAMILIES[setting.family](setting))
