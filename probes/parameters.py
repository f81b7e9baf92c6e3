"""Names of parameters, and the tables that say which column of gradients-T.npy is whose."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import torch

from . import discover
from .gradients import ParameterTables
from .known import Known
from .record import gradient_columns, write_json_once

if TYPE_CHECKING:
    from .session import Session


class Parameters:
    """The parameters of all optimizers of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tables = ParameterTables()
        self._names: dict[int, str] = {}

    @property
    def count(self) -> int:
        """Columns of the table in use."""
        return self._tables.count

    def name(self, roots: list[torch.nn.Module]) -> None:
        """`roots`: all that live; another parameter may be at the address of one that is gone."""
        self._names = discover.parameter_names(roots)

    def name_of(self, parameter: torch.Tensor) -> str | None:
        return self._names.get(id(parameter))

    def look_for_names(self, known: Known) -> None:
        """Look for the models of an optimizer whose parameters have no names yet; once for each."""
        if not known.looked_for and any(id(p) not in self._names for p in known.parameters):
            known.looked_for = True
            self._session.look_again()

    @property
    def table(self) -> int:
        """Number of the table in use."""
        return self._tables.table

    def enter(self, known: Known, everyone: Collection[Known]) -> None:
        """See to it that the table in use has `known`'s parameters as they are; if not, a new one is written."""
        if known.columns and known.table == self._tables.table:
            return
        # Held for as long as this takes: one that was freed in between would have columns in the table and no names.
        living = [(one, optimizer) for one in everyone if (optimizer := one.optimizer()) is not None]
        columns, new = self._tables.columns_of(known.index, known.identities, {one.index for one, _ in living})
        if new:
            self.look_for_names(known)
            self._write(living)
        known.columns, known.table = columns, self._tables.table

    def _write(self, living: list[tuple[Known, torch.optim.Optimizer]]) -> None:
        table, step = self._tables.table, self._session.steps.step
        described = []
        for known, optimizer in sorted(living, key=lambda pair: pair[0].index):
            known.columns = self._tables.columns.get(known.index, ())
            if known.columns:
                described += self._describe(known, optimizer)
        content = {"table": table, "first_step": step, "parameters": described}
        writer = self._session.writer
        writer.declare(f"gradients-{table}", gradient_columns(len(described)))
        writer.file(f"parameters-{table}.json", lambda path: write_json_once(path, content))
        self._session.emit("table", table=table, parameters=len(described))

    def _describe(self, known: Known, optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
        groups = [len(group["params"]) for group in optimizer.param_groups]
        group_of = [number for number, size in enumerate(groups) for _ in range(size)]
        return [
            {
                "name": self.name_of(parameter) or f"optimizer{known.index}.group{group}.{position}",
                "shape": list(parameter.shape),
                "dtype": str(parameter.dtype).replace("torch.", ""),
                "optimizer": known.index,
                "group": group,
            }
            for position, (parameter, group) in enumerate(zip(known.parameters, group_of, strict=True))
        ]
