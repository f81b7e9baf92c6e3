"""Which probes a session has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .accumulation import Accumulation
from .checkpoint_facts import CheckpointFacts
from .clipping import Clipping
from .devices import Devices
from .discarded import GradientsDiscarded
from .eval_grad import EvalWithGrad
from .eval_mode import EvalInTrainMode
from .frozen import FrozenParameters
from .loaders import Loaders
from .logged import Logged
from .loss_lines import LossLines
from .memory import Memory
from .mismatch import OptimizerMismatch
from .nonfinite import NonFinite
from .probe import Probe
from .retained import LossGraphRetained
from .ribbon import Ribbon
from .scaler import Scaler
from .softmax_input import SoftmaxInput
from .train_mode import TrainInEvalMode
from .updates import Updates

if TYPE_CHECKING:
    from .session import Session

KINDS: tuple[type[Probe], ...] = (
    Logged,
    CheckpointFacts,
    Updates,
    EvalInTrainMode,
    TrainInEvalMode,
    EvalWithGrad,
    LossGraphRetained,
    Clipping,
    Scaler,
    Accumulation,
    LossLines,
    SoftmaxInput,
    GradientsDiscarded,
    FrozenParameters,
    OptimizerMismatch,
    Ribbon,
    Loaders,
    Devices,
    Memory,
    NonFinite,
)


def new_probes(session: Session) -> list[Probe]:
    """One of each kind, in the order in which they are told."""
    return [kind(session) for kind in KINDS]
