"""The training loss: what goes into backward(), without the loss scale and the division by accumulation steps where they show.

A criterion's output and GradScaler's input are remembered by a note in their graph node's metadata, which lives and dies with the
graph; from the root of backward() the note is found again behind a division or a multiplication by a constant.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch

NOTE = "forgemon"
SCALING_NODES = frozenset({"DivBackward0", "MulBackward0", "ToCopyBackward0"})
MOST_HOPS = 4
MORE = 1.001
"""Times: what is not by rounding alone."""

GRAD_SCALER: Any = getattr(torch.amp, "GradScaler", None) or torch.cuda.amp.GradScaler
"""The class of every GradScaler; before torch 2.3 there was that of CUDA alone."""

CRITERIA = (
    "cross_entropy nll_loss binary_cross_entropy binary_cross_entropy_with_logits mse_loss l1_loss smooth_l1_loss huber_loss "
    "kl_div gaussian_nll_loss poisson_nll_loss ctc_loss cosine_embedding_loss margin_ranking_loss triplet_margin_loss "
    "triplet_margin_with_distance_loss hinge_embedding_loss multi_margin_loss multilabel_margin_loss soft_margin_loss "
    "multilabel_soft_margin_loss"
).split()
"""Functions of torch.nn.functional whose value is a loss; the loss modules call them."""


_TENSOR, _PARAMETER = torch.Tensor, torch.nn.Parameter
_transform: Any = torch._C._functorch.peek_interpreter_stack
"""The transform of torch.func that is under way."""


def plain_tensor(value: Any) -> bool:
    """Whether it is a real tensor: tracing (FakeTensor) and torch.func transforms pass through the same functions."""
    kind = type(value)
    return (kind is _TENSOR or kind is _PARAMETER) and _transform() is None


class Loss(NamedTuple):
    """A loss as 0-dim tensors cut from their graph."""

    root: torch.Tensor
    "What went into backward(), without the loss scale."
    criterion: torch.Tensor | None
    "The criterion's value behind it, when it was only divided or multiplied since."
    is_plain: bool = True
    "Whether what went into backward() is what is shown: neither scaled nor divided."
    divided_by: float = 1.0
    "The constant by which the loop divided it last."
    summed: float = float("nan")
    "Over how many class indices its criterion summed, padding too; NaN where it did not."


def note_loss(output: torch.Tensor, summed: float = float("nan")) -> torch.Tensor:
    """Remember a scalar that is a loss before any division; returns its copy. `summed`: over how many class indices, if it is."""
    # A copy, because `loss /= accumulation_steps` writes in place.
    copy = _copy(output)
    if output.grad_fn is not None:
        _notes(output.grad_fn)[NOTE] = Loss(copy, copy, summed=summed)
    return copy


def note_scaled(output: torch.Tensor, scaled: torch.Tensor) -> None:
    """Remember at GradScaler's output what went in."""
    if scaled is not output and scaled.grad_fn is not None and output.numel() == 1:
        _notes(scaled.grad_fn)[NOTE] = _loss_of(output)._replace(is_plain=False)


def noted_loss(node: Any) -> Loss | None:
    """What was remembered at a graph node."""
    found = _notes(node).get(NOTE)
    return found if isinstance(found, Loss) else None


def loss_of_root(root: Any) -> Loss | None:
    """The loss behind the tensor given to backward(); None when it is no scalar."""
    if isinstance(root, (tuple, list)):
        root = root[0] if len(root) == 1 else None
    if root is None or not plain_tensor(root) or root.numel() != 1:
        return None
    return _loss_of(root)


def undivided(
    pairs: Sequence[tuple[float, float]], passes: Collection[int], divisors: Sequence[int], are_shares: bool = False
) -> list[float]:
    """What went backward, without a division of all of it by the number of backward passes to a step: `passes` are those that were seen.
    Any other factor (a sum over n items, the half of a squared error, the weight of one loss of two) is the loop's own.

    `pairs`: root and criterion of each; `divisors`: by what each root is known to be divided, where no criterion tells; `are_shares`:
    whether together they make one loss."""
    for number in passes:
        if number > 1 and all(abs(criterion - number * root) <= 1e-3 * abs(criterion) for root, criterion in pairs):
            return [criterion for _, criterion in pairs]
    if are_shares:
        return [len(pairs) * root for root, _ in pairs]
    return [root * divisor for (root, _), divisor in zip(pairs, divisors, strict=True)]


def are_shares(pairs: Sequence[tuple[float, float]], summed: Sequence[float]) -> bool:
    """Whether each is a share in the mean over all items of the step, as a Trainer of transformers takes it: a sum over `summed` items
    (NaN for other reductions) that is divided, as the others are, by more than its own and at most by all, padding left out."""
    if len(pairs) < 2 or any(not root for root, _ in pairs):
        return False
    by = [criterion / root for root, criterion in pairs]
    own, of_all = max(summed), sum(summed)  # NaN for one is false below
    return MORE * own < by[0] <= MORE * of_all < 2 * MORE * by[0] and max(by) <= MORE * min(by)


def _loss_of(tensor: torch.Tensor) -> Loss:
    node = tensor.grad_fn
    found = None if node is None else _notes(node).get(NOTE)
    if isinstance(found, Loss):
        return Loss(*found)
    value = _copy(tensor)
    scale = scale_of(node)
    for _ in range(MOST_HOPS):
        if node is None:
            break
        found = _notes(node).get(NOTE)
        if isinstance(found, Loss):
            return Loss(value, found.criterion, False, 1 / scale if scale else 1.0, found.summed)
        if type(node).__name__ not in SCALING_NODES:
            break
        inputs = [next_node for next_node, _ in node.next_functions if next_node is not None]
        if len(inputs) != 1:
            break
        node = inputs[0]
    return Loss(value, None, divided_by=1 / scale if scale else 1.0)


def scale_of(node: Any) -> float | None:
    """The constant by which this node of a graph multiplies (a fraction where it divides); None where it does neither, or by what would
    have to be waited for."""
    kind = type(node).__name__
    if kind not in ("DivBackward0", "MulBackward0"):
        return None
    try:
        other = node._saved_other
        if not isinstance(other, torch.Tensor) or other.dim() or other.device.type != "cpu" or other.requires_grad:
            return None
        constant = float(other)
    except RuntimeError:  # the graph is gone; or a mode of the program's lets no wrapped constant be read
        return None
    if kind == "MulBackward0":
        return constant
    return 1 / constant if constant else None


def _copy(scalar: torch.Tensor) -> torch.Tensor:
    """Of one element, 0-dim and without its graph."""
    value = scalar.data  # one call into torch fewer than detach()
    return (value.reshape(()) if value.dim() else value).clone()


def _notes(node: Any) -> dict[str, Any]:
    """The metadata of a graph node (torch declares it as a method, it is a property)."""
    notes: dict[str, Any] = node.metadata
    return notes
