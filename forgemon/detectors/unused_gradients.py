"""gradients-discarded, optimizer-mismatch and frozen-parameters: gradients that no step uses, and parameters that get none."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Chunk, Gradients, ParameterTable
from forgemon.detectors.candidate import Candidate, figure
from forgemon.detectors.facts import FactDetector, Seen, Verdict, evidence, names_in
from forgemon.journal import flag, number, text, texts, whole

MOSTLY = 0.5
"""Share of an optimizer's parameters without a gradient that no unused branch explains."""
ENOUGH_ROWS = 40
"""Rows of a table after which a parameter without any gradient is known to be frozen: the probe speaks of the others by then."""
MOST_TABLES = 64


class UnusedGradients(FactDetector):
    """Exact: the probe follows each gradient from backward() to step() and compares the tensors, three windows in a row."""

    symptoms: ClassVar[tuple[str, ...]] = ("gradients-discarded", "optimizer-mismatch", "frozen-parameters")

    def __init__(self) -> None:
        super().__init__()
        self._tables: dict[int, _Reached] = {}

    def feed(self, chunk: Chunk) -> None:
        super().feed(chunk)
        for gradients in chunk.gradients:
            table = gradients.table
            if table.table in self._tables or len(self._tables) < MOST_TABLES:
                self._tables.setdefault(table.table, _Reached(table)).feed(gradients)

    def judge(self, symptom: str, seen: Seen) -> Verdict | None:
        if symptom == "gradients-discarded":
            return self._discarded(seen)
        return self._mismatch(seen) if symptom == "optimizer-mismatch" else self._frozen(seen)

    def candidates(self) -> list[Candidate]:
        found = super().candidates()
        if any(seen.stands for seen in self.facts.of("frozen-parameters")):
            return found
        on_purpose = self._frozen_on_purpose()
        return found if on_purpose is None else [*found, on_purpose]

    def _discarded(self, seen: Seen) -> Verdict:
        norm, optimizer = number(seen.newest, "gradient_norm_discarded"), self.facts.optimizer(seen)
        cleared = f" (norm {figure(norm)})" if norm > 0 else ""
        return Verdict(
            "alarm",
            f"At step {seen.last_step} {optimizer} found no gradient to apply: what backward() had made{cleared} was cleared before "
            "step(), three steps in a row and more.",
            "A step of this optimizer that finds the gradients of the backward() before it.",
            evidence(seen.newest, "optimizer", "parameters", "gradient_norm_discarded"),
            about=optimizer,
        )

    def _mismatch(self, seen: Seen) -> Verdict:
        fact, optimizer = seen.newest, self.facts.optimizer(seen)
        outside, held = whole(fact, "parameters_in_no_optimizer"), whole(fact, "parameters_of_optimizer")
        reached = f"{names_in(fact)} ({outside} trainable parameters are in no optimizer)" if outside else names_in(fact)
        shown = evidence(fact, "optimizer", "parameters_of_optimizer", "parameters_in_no_optimizer", "names")
        if flag(fact, "holds_other_tensors") is True:
            return Verdict(
                "alarm",
                f"At step {seen.last_step} none of the {held} parameters that {optimizer} holds had a gradient, while backward() made "
                f"gradients for {reached}: the optimizer holds other tensors than the model that is trained.",
                "A gradient on a parameter that this optimizer holds, or another optimizer that steps those of the model.",
                shown,
                about=optimizer,
            )
        return Verdict(
            "alarm",
            f"At step {seen.last_step} backward() made gradients for {reached}, and no optimizer of the process uses them; "
            "their values stand still.",
            "An optimizer that holds these parameters; if they are meant to stand still, requires_grad_(False) says so and saves "
            "their backward pass.",
            shown,
            about=optimizer,
        )

    def _frozen(self, seen: Seen) -> Verdict | None:
        if not seen.stands:
            return None  # reached after all: a branch that is rarely used
        fact, optimizer = seen.newest, self.facts.optimizer(seen)
        count, total, steps = whole(fact, "parameters"), whole(fact, "of_parameters"), whole(fact, "steps_observed")
        by = text(fact, "cut_by")
        cut = bool(by) or self._is_cut(seen)
        if by:
            why = f"{by} cuts the graph between them and the loss."
        elif cut:
            why = "The first layers are among them, so the graph is cut between them and the loss."
        else:
            why = "They may be a branch that is not used."
        return Verdict(
            "alarm" if cut else "watch",
            f"{count} of {total} trainable parameters of {optimizer} had no gradient in {steps} observed steps while the others had "
            f"theirs: {names_in(fact)}. {why}",
            "A gradient on one of them at any step; requires_grad=False on all of them (then they are frozen on purpose).",
            evidence(fact, "optimizer", "parameters", "of_parameters", "steps_observed", "names", "cut_by"),
            first_step=max(0, seen.first_step + 1 - (whole(seen.first, "steps_observed") or 0)),
            about=optimizer,
        )

    def _is_cut(self, seen: Seen) -> bool:
        """Whether it cannot be an unused branch: the first layer of all gets none though later ones do, or most get none."""
        fact = seen.newest
        count, total, names = number(fact, "parameters"), number(fact, "of_parameters"), texts(fact, "names")
        first = {table.first_name(seen.key) for table in self._tables.values()} - {""}
        return count >= MOSTLY * total or bool(first.intersection(names))

    def _frozen_on_purpose(self) -> Candidate | None:
        """Parameters of an optimizer that never get a gradient and of which the probe says nothing: they require none."""
        frozen = [(table, names) for table in self._tables.values() if (names := table.never_reached())]
        if not frozen:
            return None
        table, names = frozen[-1]
        return Candidate(
            symptom="frozen-parameters",
            cause="frozen-parameters",
            level="info",
            first_step=table.first_step,
            last_step=table.last_step,
            summary=f"{len(names)} of {len(table.names)} parameters are frozen on purpose (requires_grad=False): "
            f"{', '.join(names[:3])}{', …' if len(names) > 3 else ''}.",
            refute="requires_grad=True on one of them.",
            evidence={"parameters": len(names), "of_parameters": len(table.names), "names": ", ".join(names[:8])[:500]},
        )


class _Reached:
    """Which parameters of one table have ever had a gradient."""

    def __init__(self, table: ParameterTable) -> None:
        self.names = table.names
        self.first_step = self.last_step = table.first_step
        self._optimizers = np.asarray(table.optimizers, np.int64)
        self._ever: npt.NDArray[np.bool_] = np.zeros(len(table.names), np.bool_)
        self._rows: npt.NDArray[np.int64] = np.zeros(len(table.names), np.int64)
        "Rows in which the parameter's optimizer had a gradient on one of its parameters."

    def feed(self, gradients: Gradients) -> None:
        rows = gradients.rows
        if not len(rows):
            return
        had = ~np.isnan(rows["norm"])
        self._ever |= had.any(axis=0)
        self.last_step = max(self.last_step, int(rows["step"][-1]))
        for optimizer in np.unique(self._optimizers).tolist():
            mine = self._optimizers == optimizer
            self._rows[mine] += int(had[:, mine].any(axis=1).sum())

    def never_reached(self) -> list[str]:
        never = ~self._ever & (self._rows >= ENOUGH_ROWS)
        return [name for name, is_never in zip(self.names, never.tolist(), strict=True) if is_never]

    def first_name(self, optimizer: object) -> str:
        """Of the first parameter that an optimizer holds."""
        mine = np.flatnonzero(self._optimizers == optimizer).tolist() if isinstance(optimizer, int) else []
        return self.names[mine[0]] if mine else ""
