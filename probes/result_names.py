"""What the results of passes between two training steps are called: by their criterion, and where there are several, by what tells
them apart. Which of those is the validation loss is never guessed."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from .directions import is_whole_validation_loss, side
from .drivers import Site, Variable, parting
from .evaluations import EvaluationPass
from .kept_results import KeptResult, name_of_result

NOTE = "name"
ON_TRAINING_DATA = " (training data)"
PART = " (part of the loss)"
"""Of a criterion beside others of which the loop makes its loss: their weights, and so the validation loss, are not known. Likewise of
one to which training adds what torch does not show, where the loop keeps a validation loss that is another number."""
SHARE = " (share of this rank)"
"""Of a criterion's mean over what one of several ranks read, where the loop keeps another number, of all of them."""
MOST_WITHOUT_OWN = 2
"""Passes in a row after which a number that never changes is none of theirs: a cell that ran before left it."""
SAME_LOSS = 0.02
"""Relative difference of a mean over items and one over batches."""
MOST_OF_A_NAME = 16
"""Results of one name without a training step between them that are told apart."""
MOST_KNOWN = 256

Key = tuple[str | None, tuple[Site, ...], str | None]


class Name(NamedTuple):
    metric: str
    stands: bool
    "Whether it is the validation loss of the step."
    is_doubtful: bool
    "Whether it may be the validation loss, or what stands beside it."


class _Suffix(NamedTuple):
    text: str
    is_line: bool = False
    "A line tells it apart from others, but not what it is."


class _Naming(NamedTuple):
    """What is known of a result's name before its value."""

    group: _Group
    key: Key
    suffix: _Suffix | None
    "None where the name under which the loop keeps the value shall tell."
    line: str
    of_loss: int
    "How many criteria of its pass training meets too."
    is_of_loss: bool
    "Whether its own is one of those."
    ending: str
    "Of its name if the loop keeps another number as its validation loss; empty where that would say nothing."


class _Group:
    """The results between two training steps."""

    def __init__(self) -> None:
        self.kept: list[KeptResult] = []
        self.splits: dict[Variable, set[str]] = {}
        self.named: dict[str, int] = {}
        self.stood = False


class ResultNames:
    """Remembers the names that it gave, so that the results of one line stay one series."""

    def __init__(self) -> None:
        self._group = _Group()
        self._varying: set[Variable] = set()
        "Variables that named several splits between two training steps: what is left in others says nothing."
        self._known: dict[Key, _Suffix] = {}
        self._parts: dict[Key, int] = {}
        "Of what is another number than the validation loss that the loop keeps: passes since that one came anew."

    def stepped(self) -> None:
        # Also where no result came, as from a device whose numbers cannot be had without waiting.
        if self._group.named or self._group.kept or self._group.splits:
            self._group = _Group()

    def tell_apart(
        self,
        results: Sequence[EvaluationPass],
        of_training_data: Callable[[EvaluationPass], bool],
        kept: Callable[[], list[KeptResult]],
        criteria: Collection[str] = (),
        ending: str = "",
    ) -> None:
        """`kept()`: what the loop keeps now. `criteria`: those of the losses of a batch that trains; `ending`: of the names of results, if
        that is another number (PART, SHARE)."""
        group = self._group
        for variable, value in (split for result in results if result.driver for split in result.driver.splits):
            group.splits.setdefault(variable, set()).add(value)
        if len(self._varying) >= MOST_KNOWN:
            self._varying.clear()
        self._varying.update(variable for variable, values in group.splits.items() if len(values) > 1)
        namings = [self._naming(result, results, of_training_data(result), criteria, ending) for result in results]
        if ending or any(naming.suffix is None for naming in namings):
            group.kept += kept()
        for result, naming in zip(results, namings, strict=True):
            result.notes[NOTE] = naming

    def _naming(
        self,
        result: EvaluationPass,
        results: Sequence[EvaluationPass],
        of_training_data: bool,
        criteria: Collection[str],
        ending: str,
    ) -> _Naming:
        key = self._key(result)
        of_loss = {other.metric for other in results if other.of is result.of}.intersection(criteria)
        if of_training_data:
            return _Naming(self._group, key, _Suffix(ON_TRAINING_DATA), "", 1, True, "")
        peers = [other for other in results if _is_alike(other, result) and self._key(other) != key]
        suffix = self._suffix(result, key, peers)
        if suffix is not None:
            self._remember(key, suffix)
        site = parting(key[1], [self._key(other)[1] for other in peers])
        line = "" if site is None else f" ({os.path.basename(site.scope[0])}:{site.line})"
        return _Naming(self._group, key, suffix, line, len(of_loss), result.metric in of_loss, ending)

    def _key(self, result: EvaluationPass) -> Key:
        driver = result.driver
        if driver is None:
            return result.metric, (), None
        splits = (value for variable, value in driver.splits if variable in self._varying)
        return result.metric, driver.sites, next(splits, None) if result.loader is None else None

    def _suffix(self, result: EvaluationPass, key: Key, peers: Sequence[EvaluationPass]) -> _Suffix | None:
        known, split = self._known.get(key), key[2]
        if split is not None and side(split) == "training":
            return _Suffix(ON_TRAINING_DATA)
        if known is not None and (known.text or all(self._known.get(self._key(other)) != known for other in peers)):
            return known
        if split is not None:
            return _Suffix(f" ({split})")
        # Beside losses that are gone back through, to find inputs that mislead the model, that of those inputs is the result.
        is_result = not result.any_grad and all(other.of is result.of and other.any_grad for other in peers)
        return _Suffix("") if is_result or not peers else None

    def _remember(self, key: Key, suffix: _Suffix) -> None:
        if key in self._known or len(self._known) < MOST_KNOWN:
            self._known[key] = suffix

    def name(self, result: EvaluationPass, value: float) -> Name:
        naming: _Naming = result.notes[NOTE]
        group, suffix = naming.group, naming.suffix
        if suffix is None:
            suffix = self._by_value(result, value, group.kept) or _Suffix(naming.line, is_line=True)
            self._remember(naming.key, suffix)
        metric = (result.metric or "validation loss") + suffix.text
        if suffix.text == ON_TRAINING_DATA:
            return Name(metric, False, False)
        is_whole = naming.of_loss == naming.is_of_loss  # what training meets, or no criterion here is of that kind
        ending = PART if naming.is_of_loss and not is_whole else naming.ending if self._is_part(naming, value) else ""
        is_whole = is_whole and not ending
        metric += ending
        number = group.named[metric] = min(group.named.get(metric, 0) + 1, MOST_OF_A_NAME)
        stands = number == 1 and is_whole and not (suffix.is_line or group.stood)
        doubtful = not (stands or group.stood)
        group.stood = group.stood or stands
        return Name(metric if number == 1 else f"{metric} #{number}", stands, doubtful)

    def own_loss_stands(self, result: EvaluationPass) -> None:
        """The loop's own number is the validation loss of that pass."""
        naming: _Naming = result.notes[NOTE]
        naming.group.stood = True
        if naming.key in self._parts:
            self._parts[naming.key] = 0

    def _is_part(self, naming: _Naming, value: float) -> bool:
        own = [one.number for one in naming.group.kept if is_whole_validation_loss(one.name) and not one.in_list]
        differs = bool(own) and not any(math.isclose(number, value, rel_tol=SAME_LOSS) for number in own)
        if naming.ending and differs and len(self._parts) < MOST_KNOWN:
            self._parts.setdefault(naming.key, 0)
        if naming.key not in self._parts:
            return False
        self._parts[naming.key] += 1
        return self._parts[naming.key] <= MOST_WITHOUT_OWN

    @staticmethod
    def _by_value(result: EvaluationPass, value: float, kept: Sequence[KeptResult]) -> _Suffix | None:
        found = name_of_result(value, kept) if result.loader is None else None
        if found is None:
            return None
        return _Suffix(ON_TRAINING_DATA if side(found) == "training" else f" ({found})")


def _is_alike(one: EvaluationPass, other: EvaluationPass) -> bool:
    """Whether only the calls that led to both tell them apart: not their criteria, nor loaders."""
    return one.metric == other.metric and (one.of is other.of or (one.loader is None and other.loader is None))
