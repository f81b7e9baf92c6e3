"""Whether the learning rate rose: a warm-up, a restart or a schedule that jumps, and not the slow change of a cosine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ROSE = 1.3
"""Times an earlier learning rate: from here on what came at that one is no fair comparison."""


def rose(rates: npt.NDArray[np.floating], last: int = 1) -> bool:
    """Whether one of the `last` learning rates is more than ROSE times the lowest of them all; those that are not finite are not seen."""
    newest, seen = rates[-last:][np.isfinite(rates[-last:])], rates[np.isfinite(rates)]
    return len(newest) > 0 and bool(newest.max() > ROSE * seen.min())
