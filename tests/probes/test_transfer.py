"""Numbers of a GPU on their way to the host; the GPU is made up, so that what torch does there is not tested here."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
import torch

from probes import transfer
from probes.transfer import RARE_LIMIT, WAITING_LIMIT, Transfer, joined


class Scalar:
    """A number on a device that is none."""

    is_cpu = False

    def __init__(self, device: str, *values: float, dtype: torch.dtype = torch.float32) -> None:
        self.device = torch.device(device)
        self.tensor = torch.tensor(values, dtype=dtype) if len(values) > 1 else torch.tensor(values[0], dtype=dtype)

    def numel(self) -> int:
        return self.tensor.numel()


class Event:
    made: list[Event] = []  # noqa: RUF012

    def __init__(self) -> None:
        self.done = False
        self.made.append(self)

    def record(self, stream: object) -> None: ...

    def query(self) -> bool:
        return self.done


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """The copies under way, each done when told to be."""
    empty = torch.empty

    def unpinned(*size: int, pin_memory: bool, **others: Any) -> torch.Tensor:
        return empty(*size, **others)

    monkeypatch.setattr(torch, "empty", unpinned)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(transfer, "is_capturing", lambda: False)
    monkeypatch.setattr(transfer, "joined", lambda scalars: joined([scalar.tensor for scalar in scalars]))
    Event.made = []
    return Event.made


def test_each_gpu_sends_its_own_and_all_come_in_their_places(copies: list[Event]) -> None:
    sending = Transfer()
    found: list[list[float]] = []
    scalars: Any = [Scalar("cuda:1", 1.0), torch.tensor(2.0), Scalar("cuda:0", 3.0, 4.0), Scalar("cuda:1", 5.0)]
    assert sending.submit(scalars, found.append)
    assert len(copies) == 2
    copies[0].done = True
    sending.poll()
    assert found == []
    copies[1].done = True
    sending.poll()
    assert found == [[1.0, 2.0, 3.0, 4.0, 5.0]]


def test_what_is_on_the_host_waits_its_turn(copies: list[Event]) -> None:
    sending = Transfer()
    found: list[list[float]] = []
    late: Any = [Scalar("cuda:0", 1.0)]
    sending.submit(late, found.append)
    sending.submit([torch.tensor(2.0)], found.append)
    assert found == []
    copies[0].done = True
    sending.poll()
    assert found == [[1.0], [2.0]]


def test_a_buffer_is_used_again_once_it_was_read_and_not_before(copies: list[Event]) -> None:
    sending = Transfer()
    found: list[list[float]] = []
    for value in (1.0, 2.0):
        one: Any = [Scalar("cuda:0", value)]
        sending.submit(one, found.append)
    for copy in copies:
        copy.done = True
    sending.poll()
    third: Any = [Scalar("cuda:0", 3.0)]
    sending.submit(third, found.append)
    copies[-1].done = True
    sending.poll()
    assert found == [[1.0], [2.0], [3.0]]
    assert sum(map(len, sending._buffers.values())) == 2


def test_a_buffer_of_a_pass_in_inference_mode_can_be_used_after_it(copies: list[Event]) -> None:
    sending = Transfer()
    found: list[list[float]] = []
    with torch.inference_mode():
        for value in (1.0, 2.0):
            one: Any = [Scalar("cuda:0", value)]
            assert sending.submit(one, found.append)
    for copy in copies:
        copy.done = True
    sending.poll()
    last: Any = [Scalar("cuda:0", 3.0)]
    assert sending.submit(last, found.append)
    copies[-1].done = True
    sending.poll()
    assert found == [[1.0], [2.0], [3.0]]


@pytest.mark.parametrize(("rare", "limit"), [(False, WAITING_LIMIT), (True, RARE_LIMIT)])
def test_what_waits_is_bounded(copies: list[Event], rare: bool, limit: int) -> None:
    sending = Transfer()
    one: Any = [Scalar("cuda:0", 1.0)]
    taken = [sending.submit(one, lambda values: None, rare=rare) for _ in range(limit + 1)]
    assert taken == [True] * limit + [False]


def test_other_devices_and_captures_are_refused(copies: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    sending = Transfer()
    other: Any = [Scalar("mps", 1.0)]
    assert not sending.submit(other, lambda values: None)
    monkeypatch.setattr(transfer, "is_capturing", lambda: True)
    one: Any = [Scalar("cuda:0", 1.0)]
    assert not sending.submit(one, lambda values: None)
    assert copies == []


@pytest.mark.parametrize(
    ("scalars", "expected"),
    [
        ([torch.tensor(0.1), torch.tensor(math.nan)], [0.1, math.nan]),
        ([torch.tensor(0.1, dtype=torch.float64), torch.tensor(3)], [0.1, 3.0]),
        ([torch.tensor(0.5, dtype=torch.bfloat16), torch.tensor(70000.0), torch.tensor([1.0, 2.0])], [0.5, 70000.0, 1.0, 2.0]),
        ([torch.tensor(True), torch.tensor(2.0, dtype=torch.float16)], [1.0, 2.0]),
    ],
)
def test_kinds_of_numbers(scalars: list[torch.Tensor], expected: list[float]) -> None:
    found = joined(scalars)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected, rel=1e-7, nan_ok=True)
