"""One detector a file: each reads one kind of fault from a run. `DETECTORS` lists them all."""

from __future__ import annotations

from forgemon.detectors.accumulation import Accumulation
from forgemon.detectors.candidate import Detector
from forgemon.detectors.checkpoint_facts import CheckpointFacts
from forgemon.detectors.clip_place import ClipPlace
from forgemon.detectors.each_training import each_training
from forgemon.detectors.ended import Ended
from forgemon.detectors.exploding_gradients import ExplodingGradients
from forgemon.detectors.gradient_nonfinite import GradientNonfinite
from forgemon.detectors.gradient_spike import GradientSpike
from forgemon.detectors.input_bound import InputBound
from forgemon.detectors.loss_nonfinite import LossNonfinite
from forgemon.detectors.loss_stuck import LossStuck
from forgemon.detectors.loss_trend import LossTrend
from forgemon.detectors.losses_kept import LossesKept
from forgemon.detectors.machine_facts import MachineFacts
from forgemon.detectors.memory_growing import MemoryGrowing
from forgemon.detectors.missing_zero_grad import MissingZeroGrad
from forgemon.detectors.modes import Modes
from forgemon.detectors.ranks_diverged import RanksDiverged
from forgemon.detectors.stalled import Stalled
from forgemon.detectors.straggler import Straggler
from forgemon.detectors.train_val_divergence import TrainValDivergence
from forgemon.detectors.unused_gradients import UnusedGradients
from forgemon.detectors.val_at_chance import ValAtChance
from forgemon.detectors.validation_data import ValidationData
from forgemon.detectors.weights_growing import WeightsGrowing

DETECTORS: tuple[type[Detector], ...] = (
    MissingZeroGrad,
    UnusedGradients,
    ClipPlace,
    Accumulation,
    Modes,
    LossesKept,
    ValidationData,
    CheckpointFacts,
    MachineFacts,
    LossNonfinite,
    GradientNonfinite,
    each_training(LossTrend),
    each_training(ExplodingGradients),
    each_training(GradientSpike),
    WeightsGrowing,
    each_training(LossStuck),
    TrainValDivergence,
    ValAtChance,
    MemoryGrowing,
    InputBound,
    Stalled,
    Ended,
)

OF_RANKS: tuple[type[RanksDiverged] | type[Straggler], ...] = (RanksDiverged, Straggler)
"""They compare ranks, and are fed all of them by `forgemon.ranks`."""

DETECTED = frozenset(symptom for detector in (*DETECTORS, *OF_RANKS) for symptom in detector.symptoms)
"""Rows of the symptom table that this version can find."""
