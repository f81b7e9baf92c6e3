"""The gradient norm as backward() made it, before the loop clipped it: what rules about gradients judge."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Rows


def norms_of(rows: Rows) -> npt.NDArray[np.float64]:
    before: npt.NDArray[np.float64] = rows["gradient_norm_before_clip"]
    return np.where(np.isnan(before), rows["gradient_norm"], before)


def measured(rows: Rows) -> Rows:
    """Those with a norm that has a logarithm; an inf or NaN is another symptom."""
    norms = norms_of(rows)
    with np.errstate(invalid="ignore"):
        return rows[np.isfinite(norms) & (norms > 0)]
