"""What is wrong with the loaders of validation passes: they shuffle or drop samples, or give those that training reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .same_samples import Common, common_rows
from .sample_overlap import ENOUGH_ROWS, TrainingRows
from .watched_loader import WatchedLoader

if TYPE_CHECKING:
    from .session import Session

GROWN = 1.5
WHOLLY = 0.5
"""Whoever evaluates on training data on purpose, beside other validation, takes nothing but training data."""
MOST_PAIRS = 1000


class LoaderFacts:
    """Judges validation passes when training goes on after them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.training = TrainingRows()
        self._apart: set[int] = set()
        "Numbers of validation loaders that have nothing in common with the training data, as far as can be seen."
        self._by_identity: dict[tuple[int, int], tuple[bool, Common | None]] = {}
        self._by_value: dict[int, tuple[int, Common | None]] = {}

    def another_model(self) -> None:
        """What training read before is none of its training data."""
        self.training = TrainingRows()
        self._apart.clear()
        self._by_identity.clear()
        self._by_value.clear()

    def judge(self, passes: list[tuple[WatchedLoader, int]], training: list[WatchedLoader], elsewhere: bool) -> None:
        """`passes`: loader and step; `elsewhere`: validation on other data was seen too, which no loader gave."""
        if len(self._by_identity) + len(self._by_value) > MOST_PAIRS:
            self._by_identity.clear()
            self._by_value.clear()
        common = {loader.index: self._common(loader, training) for loader, _ in passes}
        for loader, _ in passes:
            loader.validation.pass_ended()
            (self._apart.add if common[loader.index] is None else self._apart.discard)(loader.number)
        for loader, step in passes:
            found = common[loader.index]
            on_purpose = found is not None and not found["share"] < WHOLLY and (elsewhere or bool(self._apart))
            self._judge_samples(loader, step, found, on_purpose)
            if not on_purpose:
                self._judge_order(loader, step, loader in training)

    def _judge_order(self, loader: WatchedLoader, step: int, trains: bool) -> None:
        facts, shuffled = self._session.facts, loader.described["shuffled"]
        if trains or not (shuffled or loader.dropped != 0):
            facts.absent("val-loader-shuffled", loader.number)
            return
        facts.seen(
            "val-loader-shuffled",
            loader.number,
            at_step=step,
            loader=loader.number,
            shuffled=shuffled,
            sampler=loader.described["sampler"],
            drop_last=loader.described["drop_last"],
            samples_dropped=loader.dropped,
            where=loader.where,
        )

    def _judge_samples(self, loader: WatchedLoader, step: int, found: dict[str, Any] | None, on_purpose: bool) -> None:
        facts, key, purposeful = self._session.facts, loader.number, f"train-eval {loader.number}"
        if found is None or on_purpose:
            facts.absent("val-uses-train-data", key)
        if found is None or not on_purpose:
            facts.absent("val-uses-train-data", purposeful)
        if found is not None:
            facts.seen(
                "val-uses-train-data",
                purposeful if on_purpose else key,
                at_step=step,
                loader=loader.number,
                **found,
                on_purpose=on_purpose,
                where=loader.where,
            )

    def _common(self, loader: WatchedLoader, training: list[WatchedLoader]) -> dict[str, Any] | None:
        """Evidence of common samples: exact where the identity of the data tells, else estimated from equal rows."""
        for other in training:
            pair = (loader.index, other.index)
            if pair not in self._by_identity:
                self._by_identity[pair] = common_rows(loader.reading, other.reading)
            is_known, found = self._by_identity[pair]
            if is_known:
                self._session.signals.seen("sample overlap")
            if found is not None:
                return {**_evidence(found), "training_loader": other.number}
        found = self._equal_rows(loader, training)
        return None if found is None else _evidence(found)

    def _equal_rows(self, loader: WatchedLoader, training: list[WatchedLoader]) -> Common | None:
        rows = len(loader.validation) * len(self.training.hashes)
        if min(len(loader.validation), len(self.training.hashes)) >= ENOUGH_ROWS:
            self._session.signals.seen("sample overlap")
        before, found = self._by_value.get(loader.index, (0, None))
        if rows > GROWN * before:
            share_seen = max((other.share_trained for other in training), default=1.0)
            found = loader.validation.common(self.training, share_seen)
            self._by_value[loader.index] = (rows, found)
        return found


def _evidence(common: Common) -> dict[str, Any]:
    return {
        "how": common.how,
        "samples_in_common": common.found or None,
        "samples_checked": common.checked or None,
        "share": common.share,
        "examples": common.examples,
    }
