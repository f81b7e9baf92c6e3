"""Section B of the symptom table: the fix of each fault in the calls and tensors, followed by hand in its demo loop."""

from __future__ import annotations

from tests.demo_loops.mending import Followed

CLIP = "        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)"
BACKWARD, STEP = "        loss.backward()\n", "        optimizer.step()\n"
CALLS: tuple[Followed, ...] = (
    Followed(
        "missing_zero_grad",
        "Call optimizer.zero_grad() inside the batch loop, before backward().",
        ((BACKWARD, f"        optimizer.zero_grad()\n{BACKWARD}"),),
    ),
    Followed(
        "gradients_discarded",
        "Move zero_grad() before backward().",
        (
            ("        optimizer.zero_grad()  # throws away what backward() has just made\n", ""),
            (BACKWARD, f"        optimizer.zero_grad()\n{BACKWARD}"),
        ),
    ),
    Followed(
        "optimizer_mismatch",
        "Build the optimizer after the model is moved, wrapped or unfrozen.",
        (
            ("optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)\n", ""),
            ("\nbest_val_loss", "\noptimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)\nbest_val_loss"),
        ),
    ),
    Followed("frozen_parameters", "Check the graph for detach(), no_grad() or an unused branch.", ((".detach()", ""),)),
    Followed(
        "clip_before_backward",
        "Clip between backward() and step().",
        ((f"{CLIP}  # nothing is there yet\n", ""), (BACKWARD, f"{BACKWARD}{CLIP}\n")),
    ),
    Followed(
        "clip_after_step",
        "Clip between backward() and step().",
        ((f"{CLIP}  # too late\n", ""), (BACKWARD, f"{BACKWARD}{CLIP}\n")),
    ),
    Followed(
        "clip_scaled_gradients",
        "Call scaler.unscale_(optimizer) before clipping.",
        ((CLIP, f"        scaler.unscale_(optimizer)\n{CLIP}"),),
    ),
    Followed(
        "accumulation_not_scaled",
        "Divide the loss by accumulation_steps before backward().",
        (("        loss.backward()", "        (loss / 4).backward()"),),
    ),
    Followed(
        "eval_in_train_mode",
        "Call model.eval() before validation.",
        (("    val_loss = 0.0\n", "    val_loss = 0.0\n    model.eval()\n"),),
    ),
    Followed(
        "train_in_eval_mode",
        "Call model.train() at the start of each training epoch.",
        (("    train_loss = 0.0\n", "    model.train()\n    train_loss = 0.0\n"),),
    ),
    Followed(
        "eval_with_grad",
        "Wrap validation in torch.no_grad().",
        (
            (
                "    for points, arm in val_loader:  # no torch.no_grad()\n        val_loss",
                "    with torch.no_grad():\n      for points, arm in val_loader:\n        val_loss",
            ),
        ),
    ),
    Followed(
        "loss_graph_retained",
        "Log loss.item(); drop retain_graph.",
        (
            ("        losses.append(loss)", "        losses.append(loss.item())"),
            ("list[torch.Tensor]", "list[float]"),
            ("torch.stack(losses[-100:]).mean()", "torch.tensor(losses[-100:]).mean()"),
        ),
    ),
    Followed("softmax_before_cross_entropy", "Pass raw logits to cross_entropy.", (("    nn.Softmax(dim=1),", "    #"),)),
    Followed(
        "val_loader_shuffled",
        "Use shuffle=False and drop_last=False for validation.",
        (("batch_size=300, shuffle=True, drop_last=True", "batch_size=300, shuffle=False, drop_last=False"),),
    ),
    Followed(
        "val_uses_train_data",
        "Split the data before anything else is done with it, and check the overlap shown.",
        (("DataLoader(data, ", "DataLoader(train_data, "),),
    ),
    Followed(
        "best_checkpoint_not_saved",
        "Save when the held-out metric improves, and store that metric beside the weights.",
        (
            (
                "    best_val_loss = min(val_loss, best_val_loss)\n",
                "    improves = val_loss < best_val_loss\n    best_val_loss = min(val_loss, best_val_loss)\n",
            ),
            ("    torch.save(", "    if improves:\n        torch.save("),
        ),
    ),
    Followed(
        "checkpoint_incomplete",
        "Save model, optimizer, scheduler, step and the metric together.",
        (
            (
                "torch.save(model.state_dict(), ",
                'torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch, "loss": val_loss}, ',
            ),
        ),
    ),
)

CPU_FALLBACK = Followed(
    "cpu_fallback",
    "Move the model to the GPU; check the container's GPU flags.",
    (
        (")  # .to(device) is missing, here and for each batch", ").to(device)"),
        ("loss = cross_entropy(model(points), arm)", "loss = cross_entropy(model(points.to(device)), arm.to(device))"),
        ("+= cross_entropy(model(points), arm)", "+= cross_entropy(model(points.to(device)), arm.to(device))"),
    ),
)
SHM_TOO_SMALL = Followed(
    "shm_too_small",
    "Give the container a larger --shm-size, or use fewer workers.",
    (("num_workers=2", "num_workers=1"),),
    way="fewer workers",
)
MACHINE = (CPU_FALLBACK, SHM_TOO_SMALL)
"""Those that show only on some machines."""
