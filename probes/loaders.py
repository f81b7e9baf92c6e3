"""DataLoaders: what each is, which train and which validate, and whether the two read the same samples."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from .loader_description import attributes
from .loader_facts import LoaderFacts
from .loader_roles import TRAINING, VALIDATION, LoaderRoles
from .probe import Probe
from .row_hashes import hash_rows
from .same_samples import weakly
from .sample_overlap import TrainingRows
from .shared_memory import free_bytes, shortage
from .watched_loader import WatchedLoader
from .where import Line

if TYPE_CHECKING:
    from .evaluations import Batch, EvaluationPass
    from .instruments import Instruments
    from .session import Session

MOST_LOADERS = 64
NOTE = "loaders"
MOST_SAID = 64


class Loaders(Probe):
    signals = ("data loaders", "sample overlap")

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._roles = LoaderRoles(self._found)
        self._known: dict[int, WatchedLoader] = {}
        "By the id of the sampler that gives the loader its batches, as the loop's records name a loader."
        self._by_index: dict[int, WatchedLoader] = {}
        self._built: dict[int, tuple[weakref.ref[Any], Line]] = {}
        self._numbers: dict[tuple[Any, ...], tuple[weakref.ref[Any], int]] = {}
        "Of loaders by what they are: one that is built anew for every pass keeps its number."
        self._said: set[tuple[int, str | None]] = set()
        self._facts = LoaderFacts(session)
        self._ended: list[tuple[WatchedLoader, int]] = []
        "Validation passes that are to be judged once training goes on, and their steps."
        self._count = 0

    def install(self, instruments: Instruments) -> None:
        instruments.always(DataLoader.__init__, None, self._was_built)

    # What happens

    def _was_built(self, values: tuple[Any, ...], _: Any) -> None:
        inside = attributes(values[0])
        sampler = inside.get("batch_sampler")
        sampler = weakly(inside.get("sampler") if sampler is None else sampler)
        line = self.session.user_line()
        if sampler is None or line is None:
            return
        if len(self._built) >= MOST_LOADERS:
            self._built = {key: entry for key, entry in self._built.items() if entry[0]() is not None}
        if len(self._built) < MOST_LOADERS:
            self._built[id(sampler())] = (sampler, line)

    def awoke(self) -> None:
        self._roles.awoke()
        for loader in self._by_index.values():
            loader.drop()

    def loader_began(self, iterator: Any) -> None:
        loader = self._loader(iterator)
        if loader is not None and not loader.began and loader.described["workers"]:
            loader.free = free_bytes()

    def batch_fetched(self, iterator: Any, data: Any) -> None:
        loader = self._loader(iterator)
        if loader is None:
            return
        self._roles.fetched(loader.index)
        loader.fetched(iterator)
        if not loader.began:
            loader.began = True
            self._check_shared_memory(loader, iterator, data)
        self._hash(loader, data)

    def forward_began(self, root: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        self._roles.used()

    def criterion(self, name: str, reduction: str, values: tuple[Any, ...], output: Any) -> None:
        self._roles.used()

    def evaluation_batch(self, batch: Batch) -> None:
        # The loader may be gone by now; no other one has given a batch under its id, or it would stand here in its place.
        loader = None if batch.loader is None else self._known.get(batch.loader)
        if loader is not None and batch.of is not None:
            batch.of.notes[NOTE] = loader, self._facts.training
        if batch.losses:  # of others it shows at the end of their pass
            self._roles.evaluated(None if loader is None else loader.index, batch.grad_enabled, batch.training)

    def evaluated(self, finished: EvaluationPass, metric: str, value: float) -> None:
        noted: tuple[WatchedLoader, TrainingRows] | None = finished.notes.get(NOTE)
        if noted is None or noted[1] is not self._facts.training:  # of a model that is trained no more
            return
        loader = noted[0]
        if finished.metric is None and TRAINING not in loader.roles:
            self._found(loader.index, VALIDATION)
        if len(self._ended) < MOST_LOADERS:
            self._ended.append((loader, finished.step))

    def backward_begins(self, root: Any) -> None:
        if self.session.loop.is_attacked:
            return
        self._roles.backward()
        if self._ended:
            self._judge()

    def another_model(self) -> None:
        """What another one was trained on, as in the folds of a cross-validation, it has not seen."""
        self._judge()
        self._facts.another_model()
        for loader in self._by_index.values():
            loader.forget_training()

    def exiting(self) -> None:
        self._roles.ended()
        self._judge()
        for loader in self._by_index.values():
            if loader.began and not loader.roles:
                self._say(loader, None)

    # Loaders

    def _loader(self, iterator: Any) -> WatchedLoader | None:
        sampler = attributes(iterator).get("_index_sampler")
        known = self._of_sampler(id(sampler))
        reference = weakly(sampler) if known is None else None
        if reference is None:
            return known
        if len(self._by_index) >= MOST_LOADERS:
            self._forget_one()
        entry = self._built.get(id(sampler))
        built = entry[1] if entry is not None and entry[0]() is sampler else None
        known = WatchedLoader(self._count, iterator, reference, built or self.session.user_line())
        self._count += 1
        self._number(known)
        self._known[id(sampler)] = known
        self._by_index[known.index] = known
        self.session.signals.seen("data loaders")
        return known

    def _number(self, loader: WatchedLoader) -> None:
        before = self._numbers.get(loader.alike)
        if before is not None and before[0]() is None:
            loader.number = before[1]
        if before is not None or len(self._numbers) < MOST_SAID:
            self._numbers[loader.alike] = (loader.sampler, loader.number)

    def _of_sampler(self, identity: int) -> WatchedLoader | None:
        known = self._known.get(identity)
        return known if known is not None and known.sampler() is not None else None

    def _forget_one(self) -> None:
        """The oldest one that is gone, else the oldest."""
        gone = [loader for loader in self._by_index.values() if loader.sampler() is None]
        oldest = (gone or list(self._by_index.values()))[0]
        del self._by_index[oldest.index]
        self._known = {key: entry for key, entry in self._known.items() if entry is not oldest}

    def _found(self, index: int, role: str) -> None:
        loader = self._by_index.get(index)
        if loader is None or (role in loader.roles and not loader.waits):
            return
        loader.settle(role, self._facts.training)
        if role not in loader.roles:
            loader.roles.add(role)
            self._say(loader, role)

    def _say(self, loader: WatchedLoader, role: str | None) -> None:
        """One event a loader and role."""
        if (loader.number, role) not in self._said and len(self._said) < MOST_SAID:
            self._said.add((loader.number, role))
            self.session.emit("loader", index=loader.number, role=role, **loader.described, where=loader.where)

    # Rows and shared memory

    def _hash(self, loader: WatchedLoader, data: Any) -> None:
        if loader.chooses_batch():
            enough = {TRAINING: self._facts.training.full, VALIDATION: loader.validation.full}
            if not (loader.roles and all(enough[role] for role in loader.roles)):
                loader.wait(*hash_rows(data))
        loader.rows_seen += loader.batch_size

    def _check_shared_memory(self, loader: WatchedLoader, iterator: Any, data: Any) -> None:
        evidence = shortage(iterator, data, loader.free)
        if evidence is None:
            return
        if evidence.pop("too_small"):
            self.session.facts.seen("shm-too-small", loader.number, **evidence, loader=loader.number, where=loader.where)
        else:
            self.session.facts.absent("shm-too-small", loader.number)

    def _judge(self) -> None:
        """At the first training batch after validation passes: by now it is known which loaders train."""
        ended, self._ended = self._ended, []
        passes = [(loader, step) for loader, step in ended if VALIDATION in loader.roles]
        if passes:
            training = [loader for loader in self._by_index.values() if TRAINING in loader.roles]
            self._facts.judge(passes, training, self._roles.evaluates_elsewhere)
