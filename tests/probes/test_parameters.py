"""The tables of parameters: what the file of names says is what the rows have columns for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from probes.known import Known
from probes.parameters import Parameters


class Recorder:
    """Stands for a session and its writer: keeps what a table was declared and described as."""

    def __init__(self) -> None:
        self.widths: list[int] = []
        self.described: list[int] = []
        self.steps = SimpleNamespace(step=1)
        self.writer: Any = SimpleNamespace(
            declare=lambda name, columns: self.widths.append(columns[1][2]), file=lambda name, write: None
        )
        self.look_again = lambda: None

    def emit(self, kind: str, table: int, parameters: int) -> None:
        self.described.append(parameters)


def test_an_optimizer_that_is_freed_while_names_are_looked_for_has_its_columns_still() -> None:
    session: Any = Recorder()
    parameters = Parameters(session)
    optimizers = [torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=0.1) for _ in range(2)]

    def gone(_reference: object) -> None:
        known[0].let_go()

    known = [Known(index, optimizer, 0, gone) for index, optimizer in enumerate(optimizers)]
    parameters.enter(known[0], known[:1])
    session.look_again = lambda: optimizers.pop(0)  # as the garbage collector may at any allocation
    del session.widths[:], session.described[:]
    parameters.enter(known[1], known)
    assert len(optimizers) == 1 and known[0].optimizer() is None
    assert session.widths == session.described == [parameters.count] == [4]
    assert known[1].columns == (2, 3)
