"""Which loaders' batches train and which evaluate, from the order of fetches, losses and backward calls. Knows no torch."""

from __future__ import annotations

from collections.abc import Callable

TRAINING, VALIDATION = "training", "validation"
MOST_OPEN = 64


class LoaderRoles:
    """Calls `found(loader, role)` for every batch, or batches fetched together (zip), whose use has shown."""

    def __init__(self, found: Callable[[int, str], None]) -> None:
        self._found = found
        self.evaluates_elsewhere = False
        "A loss without backward() came from data that no loader had just given: validation on tensors of the loop's own, or logging."
        self._last_trained: tuple[int, ...] = ()
        self.awoke()

    def awoke(self) -> None:
        """Calls may have been missed."""
        self._fetched: tuple[int, ...] = ()
        "Loaders whose batches are at hand."
        self._used = self._trained = self._evaluated = self._settled = False
        self._open: dict[tuple[int, ...], int] = {}
        "Batches that were put aside before their use showed: a loss with a graph may still be gone back through."

    def fetched(self, loader: int) -> None:
        if self._used or loader in self._fetched:
            self._put_aside()
        self._fetched += (loader,)

    def used(self) -> None:
        """A forward or a loss: what is fetched now belongs to the next batch."""
        self._used = True

    def evaluated(self, loader: int | None, with_graph: bool, training_mode: bool | None) -> None:
        """A loss of `loader`'s batch turned out to be an evaluation's."""
        if loader in self._fetched and not with_graph:
            if self._trained:
                self.evaluates_elsewhere = True  # the batch just trained on, looked at again
            elif training_mode is False:
                self._settle()
            else:
                self._evaluated = True  # or a teacher's loss beside the training: the next call tells
            return
        for group in self._open:
            if loader in group:
                self._say(group, VALIDATION)
                self._open[group] -= 1
                if not self._open[group]:
                    del self._open[group]
                return
        if loader not in self._fetched:
            self.evaluates_elsewhere = True

    def backward(self) -> None:
        """Told after the evaluations that this call to backward() ended."""
        self._open.clear()
        if not self._fetched or self._settled or self._trained:
            return
        self._trained = True
        # Loaders fetched together once may be the end of one pass and the beginning of another; twice, they are zipped.
        self._say(self._fetched if self._fetched == self._last_trained else self._fetched[-1:], TRAINING)
        self._last_trained = self._fetched

    def ended(self) -> None:
        """Nothing will be trained any more."""
        self._put_aside()

    def _put_aside(self) -> None:
        if self._evaluated and not self._trained:
            self._settle()
        elif self._fetched and not (self._trained or self._settled) and len(self._open) < MOST_OPEN:
            self._open[self._fetched] = self._open.get(self._fetched, 0) + 1
        self._fetched = ()
        self._used = self._trained = self._evaluated = self._settled = False

    def _settle(self) -> None:
        if not self._settled:
            self._settled = True
            self._say(self._fetched, VALIDATION)

    def _say(self, loaders: tuple[int, ...], role: str) -> None:
        for loader in loaders:
            self._found(loader, role)
