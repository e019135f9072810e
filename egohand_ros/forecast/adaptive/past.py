"""The kinds of what is forecast, and what the regression looks at of each.

A *kind* is a part of the hand that is forecast on its own: the wrist's place, its rotation as rotation vectors from
where it is now, the articulation of the fingers in the palm frame. Each is J points (1, 1, 20); all are displacements
from now.
"""

import numpy as np

from ..motion.features import LAGS, Past

WRIST_PLACE, ROTATION, FINGERS = 0, 1, 2
KINDS = ("wrist", "rotation", "fingers")
DENSE = (1.0 / 30.0, 2.0 / 30.0)  # s back, where the stream is denser than the window
# Of a past's vectors: the two of a denser stream, these lags, the mean of the window.
_CHOSEN = [0, 1, *(2 + LAGS.index(lag) for lag in (1, 2, 3, 5, 8, 12, 19)), 2 + len(LAGS)]
VECTORS = len(_CHOSEN)


def vectors(past: Past) -> np.ndarray:
    """(N, VECTORS, 3)."""
    return past.vectors[:, _CHOSEN]
