"""The symptom table as data: every symptom's id, what a person sees, its causes in order of likelihood, and their fixes."""

from __future__ import annotations

from collections.abc import Mapping

from forgemon.findings import Level
from forgemon.symptom import SECTIONS, UNKNOWN, Cause, Section, Symptom

__all__ = ["SECTIONS", "SYMPTOMS", "UNKNOWN", "Cause", "Section", "Symptom"]

_LOWER_LR = "Lower the learning rate (try a tenth of it), add warm-up or a schedule that decays, and clip gradients."
_ZERO_GRAD = "Call optimizer.zero_grad() inside the batch loop, before backward()."
_INPUT = "Check the batch of that step for nan, inf or huge values; drop or repair it where it is loaded."
_OVERFLOW = "Add an eps to divisions, logarithms and square roots; in half precision train in bfloat16, or with a GradScaler."
_PASSES_ON = (
    "Normalise, add residual connections, or use another activation with the initialisation that fits it (ReLU: Kaiming)."
)
_BOUND = (
    "Clip gradients between backward() and step(); bound what is passed on from step to step (tanh, a gate, normalisation)."
)
_NONFINITE = (
    Cause("learning-rate-too-high", _LOWER_LR),
    Cause("missing-zero-grad", _ZERO_GRAD),
    Cause("nonfinite-input", _INPUT),
    Cause("numeric-overflow", _OVERFLOW),
)
_NONFINITE_FIX = (
    "Look at the batch of that step for nan or huge values first; then lower the learning rate (try a tenth of it), "
    "clip gradients, and add an eps to divisions and logarithms."
)


def _curves(id_: str, seen: str, causes: tuple[Cause, ...], fix: str, level: Level = "alarm") -> Symptom:
    return Symptom(id_, "A", seen, causes, fix, level)


def _structural(id_: str, seen: str, fix: str, level: Level = "alarm") -> Symptom:
    """A row of section B: the symptom is its own cause."""
    return Symptom(id_, "B", seen, (Cause(id_, fix),), fix, level)


def _machine(id_: str, seen: str, fix: str, level: Level = "alarm", causes: tuple[Cause, ...] = ()) -> Symptom:
    return Symptom(id_, "C", seen, causes, fix, level)


_TABLE: tuple[Symptom, ...] = (
    _curves("loss-nonfinite", "The loss goes to nan or inf.", _NONFINITE, _NONFINITE_FIX),
    _curves(
        "gradient-nonfinite",
        "A gradient is nan or inf; the first parameter is named, with the last finite one before it.",
        _NONFINITE,
        _NONFINITE_FIX + " A GradScaler's own skipped steps are normal until many come in a row.",
    ),
    _curves(
        "loss-stuck",
        "The loss barely moves.",
        (
            Cause("learning-rate-too-low", "Raise the learning rate (try ten times it, and again while the loss stands)."),
            Cause("vanishing-gradients", "Normalise the inputs; check depth, activation and initialisation."),
            Cause(
                "learning-rate-too-high", "It jumped at the start and killed its units: lower the learning rate, add warm-up."
            ),
            Cause("optimizer-mismatch", "Give the optimizer the live parameters of the model that is trained."),
            Cause("frozen-parameters", "Check the graph for detach(), no_grad() or an unused branch."),
        ),
        "Try to overfit one batch: if that fails too, the fault is in the model or the loop and not in the data.",
    ),
    _curves(
        "loss-oscillates",
        "The loss zig-zags, then climbs.",
        (Cause("learning-rate-too-high", "Reduce the learning rate; where it has a schedule, the peak of it."),),
        "Reduce the learning rate; where it has a schedule, the peak of it.",
    ),
    _curves(
        "loss-climbs",
        "The loss leaves its best level and does not return.",
        (
            Cause("learning-rate-too-high", _LOWER_LR),
            Cause("missing-zero-grad", _ZERO_GRAD),
            Cause("data-changed", "Look at what the loader delivers from that step on: another task, order or difficulty."),
        ),
        "Compare the data before and after that step; then try a lower learning rate from the best checkpoint.",
    ),
    _curves(
        "train-val-divergence",
        "The training loss goes down while the validation loss goes up.",
        (
            Cause(
                "overfitting",
                "Stop early on the validation loss and keep that checkpoint; regularise (weight decay, dropout, augmentation) "
                "or add data.",
            ),
        ),
        "Compare how training and validation data are made; then regularise or stop early.",
    ),
    _curves(
        "val-at-chance",
        "The training loss falls, validation stays where it began.",
        (
            Cause("eval-in-train-mode", "Call model.eval() before validation."),
            Cause("missing-zero-grad", _ZERO_GRAD),
            Cause("labels-misaligned", "Check labels and class mapping of the validation set."),
            Cause("data-leak", "Check what training sees that validation does not."),
        ),
        "Inspect gradient norms and loop order first, then labels and class mapping.",
    ),
    _curves(
        "vanishing-gradients",
        "Gradients die towards the first layers.",
        (
            Cause("depth-or-activation", _PASSES_ON),
            Cause("learning-rate-too-high", "The units died after a jump: lower the learning rate, add warm-up."),
        ),
        _PASSES_ON,
    ),
    _curves(
        "exploding-gradients",
        "Gradient norms grow by orders of magnitude.",
        (
            Cause("missing-zero-grad", _ZERO_GRAD),
            Cause("learning-rate-too-high", _LOWER_LR),
            Cause("no-clipping", _BOUND),
        ),
        "Clip gradients, lower the learning rate, bound what is passed on between layers, and check that gradients are zeroed.",
    ),
    _curves(
        "gradient-spike",
        "A gradient norm far outside its own recent range.",
        (
            Cause("bad-batch", "Look at the batch of that step; clip gradients."),
            Cause("learning-rate-too-high", _LOWER_LR),
        ),
        "Look at the batch of that step; clip gradients.",
    ),
    _curves(
        "weights-growing",
        "Weight norms rise without end.",
        (
            Cause("missing-zero-grad", _ZERO_GRAD),
            Cause("no-regularisation", "Add weight decay; look for a term of the loss that rewards large weights."),
        ),
        "Check that gradients are zeroed; then add weight decay.",
    ),
    _structural(
        "missing-zero-grad",
        "An optimizer's step() applies gradients that its earlier step() has already used: nothing cleared them between. "
        "Intended accumulation (several backwards, then one step and a clear) is not this.",
        _ZERO_GRAD,
    ),
    _structural(
        "gradients-discarded",
        "Gradients are cleared between backward() and step() again and again.",
        "Move zero_grad() before backward().",
    ),
    _structural(
        "optimizer-mismatch",
        "step() changes nothing: the optimizer holds other tensors than the model that is trained, or parameters with gradients "
        "are in no optimizer.",
        "Build the optimizer after the model is moved, wrapped or unfrozen.",
    ),
    _structural(
        "frozen-parameters",
        "Trainable parameters never receive a gradient (info where a part is frozen on purpose by requires_grad=False).",
        "Check the graph for detach(), no_grad() or an unused branch.",
    ),
    _structural(
        "clip-before-backward",
        "Gradients are clipped before backward() made them.",
        "Clip between backward() and step().",
    ),
    _structural(
        "clip-after-step", "Gradients are clipped after step() already used them.", "Clip between backward() and step()."
    ),
    _structural(
        "clip-scaled-gradients",
        "Gradients are clipped while they are still multiplied by the loss scale.",
        "Call scaler.unscale_(optimizer) before clipping.",
    ),
    _structural(
        "accumulation-not-scaled",
        "Several backwards to one step, each on the undivided mean loss (watch for scale-free optimizers unless they clip).",
        "Divide the loss by accumulation_steps before backward().",
    ),
    _structural(
        "eval-in-train-mode",
        "A validation pass ran with Dropout or BatchNorm in training mode.",
        "Call model.eval() before validation.",
    ),
    _structural(
        "train-in-eval-mode",
        "After a validation pass, training goes on with model.training False.",
        "Call model.train() at the start of each training epoch.",
    ),
    _structural(
        "eval-with-grad",
        "A validation pass builds graphs that nothing ever goes back through.",
        "Wrap validation in torch.no_grad().",
    ),
    _structural(
        "loss-graph-retained",
        "Old loss tensors are kept with their graphs (in a list, a running sum, or by retain_graph=True without need): memory "
        "grows step by step.",
        "Log loss.item(); drop retain_graph.",
    ),
    _structural(
        "softmax-before-cross-entropy",
        "The input to cross_entropy is already a probability.",
        "Pass raw logits to cross_entropy.",
    ),
    _structural(
        "val-loader-shuffled",
        "The validation loader shuffles or drops samples.",
        "Use shuffle=False and drop_last=False for validation.",
        "watch",
    ),
    _structural(
        "val-uses-train-data",
        "Validation reads the samples that training reads.",
        "Split the data before anything else is done with it, and check the overlap shown.",
    ),
    _structural(
        "best-checkpoint-not-saved",
        "The best validation result has no checkpoint, or a worse one replaced it.",
        "Save when the held-out metric improves, and store that metric beside the weights.",
    ),
    _structural(
        "checkpoint-incomplete",
        "What is saved cannot resume or be judged: no optimizer state, or no metric and step beside the weights.",
        "Save model, optimizer, scheduler, step and the metric together.",
        "info",
    ),
    _structural(
        "cpu-fallback",
        "The model trains on the CPU of a machine that has a usable GPU.",
        "Move the model to the GPU; check the container's GPU flags.",
    ),
    _structural(
        "shm-too-small",
        "DataLoader workers share less /dev/shm than their batches need.",
        "Give the container a larger --shm-size, or use fewer workers.",
    ),
    _machine(
        "memory-growing",
        "Process or GPU memory rises step by step for no visible reason.",
        "Look for tensors that are kept from step to step: losses, outputs, states.",
        causes=(Cause("loss-graph-retained", "Log loss.item() and drop retain_graph."),),
    ),
    _machine(
        "input-bound",
        "Most of a step is spent waiting for data.",
        "Use more DataLoader workers, pin_memory and prefetching; move heavy transforms out of the loop.",
        "watch",
    ),
    _machine(
        "stalled",
        "No step for many times the usual step time, with the stack of the place where it waits.",
        "Look at the stack: a loader, a lock, a disk, another rank or a debugger is what it waits for.",
    ),
    _machine(
        "ended",
        "How the run ended: finished, exception (with its last line), killed by a signal, or gone without a word.",
        "See how it ended.",
        causes=(
            Cause("finished", "Nothing to do."),
            Cause("exception", "Mend the line named; if it had trained, go on from the best checkpoint."),
            Cause("killed", "Find who sent the signal: SIGKILL is often the kernel out of memory (dmesg) or a job limit."),
            Cause("exited", "Look at what the program printed last; if it had trained, go on from the best checkpoint."),
            Cause(
                "gone", "The host or the container went away, or the log was copied in mid-run: look at the host's own logs."
            ),
            Cause("detached", "Attach again with `forgemon attach` to see how it goes on."),
        ),
    ),
    _machine(
        "ranks-diverged", "Ranks that should agree after the reduction do not.", "Check that every rank steps the same loss."
    ),
    _machine(
        "straggler", "One rank is slower than the others, step after step.", "Look at that rank's host and loader.", "watch"
    ),
)

SYMPTOMS: Mapping[str, Symptom] = {symptom.id: symptom for symptom in _TABLE}
"""Every row, in the table's order."""
