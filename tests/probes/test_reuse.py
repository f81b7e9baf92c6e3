"""Used gradients that are applied again are found exactly; every way of clearing them ends the suspicion."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from probes.reuse import GradientReuse

Clear = Callable[[torch.nn.Module, torch.optim.Optimizer], None]


def by_hand_none(model: torch.nn.Module, _: torch.optim.Optimizer) -> None:
    for parameter in model.parameters():
        parameter.grad = None


def by_hand_zero(model: torch.nn.Module, _: torch.optim.Optimizer) -> None:
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.zero_()


def by_new_zeros(model: torch.nn.Module, _: torch.optim.Optimizer) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)


CLEARS: dict[str, Clear] = {
    "optimizer to None": lambda m, o: o.zero_grad(),
    "optimizer in place": lambda m, o: o.zero_grad(set_to_none=False),
    "model to None": lambda m, o: m.zero_grad(),
    "model in place": lambda m, o: m.zero_grad(set_to_none=False),
    "by hand to None": by_hand_none,
    "by hand in place": by_hand_zero,
    "by hand with new zeros": by_new_zeros,
}


class Loop:
    """A model with an optimizer and the check on it, driven call by call."""

    def __init__(self, check: list[GradientReuse] | None = None) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.reuse = GradientReuse(list(self.model.parameters()))
        self.checks = [self.reuse] if check is None else check
        self.checks += [] if check is None else [self.reuse]

    def backward(self, loss: torch.Tensor | None = None, create_graph: bool = False) -> None:
        loss = self.model(torch.ones(2, 4)).pow(2).mean() if loss is None else loss
        for check in self.checks:
            check.backward_begins(lambda: None)
        loss.backward(create_graph=create_graph)
        for check in self.checks:
            check.backward_ended()

    def step(self) -> float | None:
        """Share of checked gradients that were applied before; None when there is nothing to compare with."""
        found = self.reuse.at_step()
        self.optimizer.step()
        self.reuse.stepped()
        return None if found is None else found.reused / found.checked


@pytest.mark.parametrize("create_graph", [False, True])
def test_missing_zero_grad_is_seen_at_the_second_step(create_graph: bool) -> None:
    loop = Loop()
    shares = []
    for _ in range(4):
        loop.backward(create_graph=create_graph)
        shares.append(loop.step())
    assert shares == [None, 1.0, 1.0, 1.0]
    for parameter in loop.model.parameters():
        parameter.grad = None  # breaks the cycle that create_graph makes


@pytest.mark.parametrize("clear", CLEARS.values(), ids=CLEARS.keys())
@pytest.mark.parametrize("clear_first", [True, False])
@pytest.mark.parametrize("micro_batches", [1, 3])
def test_cleared_gradients_are_no_finding(clear: Clear, clear_first: bool, micro_batches: int) -> None:
    loop = Loop()
    shares = []
    for _ in range(4):
        if clear_first:
            clear(loop.model, loop.optimizer)
        for _ in range(micro_batches):
            loop.backward()
        shares.append(loop.step())
        if not clear_first:
            clear(loop.model, loop.optimizer)
    assert shares == [None, 0.0, 0.0, 0.0]


def test_cleared_once_an_epoch_is_seen_in_between() -> None:
    loop = Loop()
    shares = []
    for step in range(6):
        if step % 3 == 0:
            loop.optimizer.zero_grad()
        loop.backward()
        shares.append(loop.step())
    assert shares == [None, 1.0, 1.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize("clip_first", [True, False])
def test_clipping_in_place_is_no_clearing(clip_first: bool) -> None:
    loop = Loop()
    shares = []
    for _ in range(3):
        loop.backward()
        torch.nn.utils.clip_grad_norm_(loop.model.parameters(), 0.01)
        loop.reuse.rewritten()
        shares.append(loop.step())
    assert shares == [None, 1.0, 1.0]


@pytest.mark.parametrize("clear", CLEARS.values(), ids=CLEARS.keys())
def test_gradients_polluted_by_another_optimizers_backward_but_cleared_before_their_own_step(clear: Clear) -> None:
    """The usual GAN: the generator's backward leaves gradients in the discriminator, which clears them before its own."""
    checks: list[GradientReuse] = []
    discriminator = Loop(checks)
    generator = Loop(checks)
    shares = []
    for _ in range(4):
        clear(discriminator.model, discriminator.optimizer)
        discriminator.backward()
        shares.append(discriminator.step())
        clear(generator.model, generator.optimizer)
        fake = generator.model(torch.ones(2, 4)).expand(2, 4)
        generator.backward(discriminator.model(fake).mean())
        shares.append(generator.step())
    assert shares == [None, None, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_gan_that_forgets_the_discriminators_zero_grad_is_seen_for_it_alone() -> None:
    checks: list[GradientReuse] = []
    discriminator = Loop(checks)
    generator = Loop(checks)
    own, other = [], []
    for _ in range(3):
        discriminator.backward()
        own.append(discriminator.step())
        generator.optimizer.zero_grad()
        fake = generator.model(torch.ones(2, 4)).expand(2, 4)
        generator.backward(discriminator.model(fake).mean())
        other.append(generator.step())
    assert own == [None, 1.0, 1.0]
    assert other == [None, 0.0, 0.0]


def test_a_step_repeated_without_backward_is_not_called_accumulation() -> None:
    loop = Loop()
    loop.backward()
    assert [loop.step(), loop.step(), loop.step()] == [None, 0.0, 0.0]


def test_large_models_are_sampled() -> None:
    parameters = [torch.nn.Parameter(torch.ones(1)) for _ in range(150)]
    reuse = GradientReuse(parameters)
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for _ in range(2):
        reuse.backward_begins(lambda: None)
        torch.autograd.backward(torch.stack([p.sum() for p in parameters]).sum())
        reuse.backward_ended()
        found = reuse.at_step()
        optimizer.step()
        reuse.stepped()
    assert found is not None and found.checked == found.reused == 30
