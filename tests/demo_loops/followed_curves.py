"""Section A of the symptom table: the fix of what the curves and gradients say, followed by hand in each demo loop."""

from __future__ import annotations

from tests.demo_loops.mending import Edits, Followed

BACKWARD = "        loss.backward()\n"
CLIP = (BACKWARD, f"{BACKWARD}        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)\n")
SAVE = '        torch.save(checkpoint, out / "best.pt")\n'
RESIDUAL = """class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Sequential(nn.Linear(64, 64), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inside(x)


layers = ["""
HIDDEN = "nn.Linear(64, 64), nn.Sigmoid()]"
KAIMING = """for layer in model:
    if isinstance(layer, nn.Linear):
        nn.init.kaiming_normal_(layer.weight)
"""
STOP_EARLY: Edits = (
    ('best_val_loss = float("inf")\n', 'best_val_loss = float("inf")\npatience = 5\n'),
    ("        best_val_loss = val_loss\n", "        best_val_loss = val_loss\n        patience = 5\n"),
    (SAVE, f"{SAVE}    else:\n        patience -= 1\n        if patience == 0:\n            break\n"),
)
STOP_EARLY_OR_REGULARISE = (
    "Stop early on the validation loss and keep that checkpoint; regularise (weight decay, dropout, augmentation) or add data."
)
ANOTHER_NETWORK = (
    "Normalise, add residual connections, or use another activation with the initialisation that fits it (ReLU: Kaiming)."
)

CURVES: tuple[Followed, ...] = (
    Followed(
        "goes_nan",
        "Lower the learning rate (try a tenth of it), add warm-up or a schedule that decays, and clip gradients.",
        (("default=0.6", "default=0.06"), CLIP),  # it has a warm-up
    ),
    Followed(
        "gradient_nonfinite",
        "Add an eps to divisions, logarithms and square roots; in half precision train in bfloat16, or with a GradScaler.",
        ((".sum(1).sqrt()  # (... + 1e-12).sqrt() would do", ".sum(1).add(1e-12).sqrt()"),),
        way="an eps to its square root",
    ),
    Followed(
        "loss_stuck",
        "Raise the learning rate (try ten times it, and again while the loss stands).",
        (("model.parameters(), lr=5e-7", "model.parameters(), lr=5e-6"),),
        again=(("model.parameters(), lr=5e-6", "model.parameters(), lr=5e-5"),),
    ),
    Followed(
        "oscillates",
        "Reduce the learning rate; where it has a schedule, the peak of it.",
        (("default=1.0", "default=0.1"),),
        way="a lower learning rate",
    ),
    Followed(
        "loss_climbs",
        "Look at what the loader delivers from that step on: another task, order or difficulty.",
        ((", mixed_up=epoch > 10", ""),),
        way="the data looked at and put right",
    ),
    Followed(
        "overfits",
        STOP_EARLY_OR_REGULARISE,
        STOP_EARLY,
        way="stopped early",
    ),
    Followed(
        "overfits",
        STOP_EARLY_OR_REGULARISE,
        (
            *STOP_EARLY,
            (
                "    nn.Linear(FEATURES, 768),\n    nn.ReLU(),\n",
                "    nn.Linear(FEATURES, 768),\n    nn.ReLU(),\n    nn.Dropout(),\n",
            ),
            (
                2 * "    nn.Linear(768, 768),\n    nn.ReLU(),\n",
                2 * "    nn.Linear(768, 768),\n    nn.ReLU(),\n    nn.Dropout(),\n",
            ),
        ),
        way="stopped early and regularised",
    ),
    Followed(
        "val_at_chance",
        "Check labels and class mapping of the validation set.",
        (("sorted(ARMS).index(", "ARMS.index("),),
    ),
    Followed(
        "vanishing_gradients",
        ANOTHER_NETWORK,
        ((HIDDEN, "nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Sigmoid()]"),),
        way="normalised",
    ),
    Followed(
        "vanishing_gradients",
        ANOTHER_NETWORK,
        (("layers = [", RESIDUAL), (f"[{HIDDEN}", "[Block()]")),
        way="residual connections",
    ),
    Followed(
        "vanishing_gradients",
        ANOTHER_NETWORK,
        (("nn.Linear(2, 64), nn.Sigmoid()", "nn.Linear(2, 64), nn.Tanh()"), (HIDDEN, "nn.Linear(64, 64), nn.Tanh()]")),
        way="another activation",
    ),
    Followed(
        "vanishing_gradients",
        ANOTHER_NETWORK,
        (
            ("nn.Linear(2, 64), nn.Sigmoid()", "nn.Linear(2, 64), nn.ReLU()"),
            (HIDDEN, "nn.Linear(64, 64), nn.ReLU()]"),
            ("nn.Linear(64, 3))\n", "nn.Linear(64, 3))\n" + KAIMING),
        ),
        way="another activation with its initialisation",
    ),
    Followed(
        "exploding_gradients",
        "Clip gradients between backward() and step(); bound what is passed on from step to step (tanh, a gate, normalisation).",
        (CLIP, ('nonlinearity="relu", ', "")),  # tanh
    ),
    Followed(
        "gradient_spike",
        "Look at the batch of that step; clip gradients.",
        (
            (
                "train_loader = DataLoader(TensorDataset(time, height),",
                "keep = height[:, 0].abs() < 10\ntrain_loader = DataLoader(TensorDataset(time[keep], height[keep]),",
            ),
            CLIP,
        ),
    ),
    Followed(
        "weights_growing",
        "Add weight decay; look for a term of the loss that rewards large weights.",
        (("momentum=0.9)", "momentum=0.9, weight_decay=1e-3)"),),
        way="weight decay",
    ),
)
