"""A hand with MANO's arrays and none of MANO's data: capsule-like fingers around made-up joints, random blend shapes.

`published_formats.write_mano` has the file format; here vertices, weights and blend shapes all matter, as in the real
ones.
"""

import pickle
from pathlib import Path

import numpy as np
from published_formats import MANO_CHAINS, mano_joints

from egohand_ros.hand.mano import TIP_VERTICES


def mano_data(side: str) -> dict[str, np.ndarray]:
    """The arrays of MANO_<SIDE>.pkl."""
    random = np.random.default_rng([77, side == "right"])
    points, parents = mano_joints(side), np.zeros(16, dtype=np.int64)
    points[1:16, 1] += 0.004 * np.arange(15)  # no two bones in one line
    for chain in MANO_CHAINS.values():
        parents[list(chain)] = (0, *chain[:-1])
    owner = np.arange(778) % 16
    vertices = points[owner] + random.normal(0.0, 0.008, (778, 3))
    for finger, vertex in enumerate(TIP_VERTICES):
        vertices[vertex] = points[16 + finger]
        owner[vertex] = MANO_CHAINS[("thumb", "index", "middle", "ring", "little")[finger]][-1]
    regressor = (owner == np.arange(16)[:, None]) * random.uniform(0.5, 1.0, (16, 778))
    regressor /= regressor.sum(1, keepdims=True)
    weights = 0.8 * np.eye(16)[owner] + 0.2 * np.eye(16)[parents[owner]]
    shapes = random.normal(0.0, 0.002, (778, 3, 10))
    return {
        "v_template": vertices,
        "shapedirs": shapes,
        "posedirs": random.normal(0.0, 0.0005, (778, 3, 135)),
        "J_regressor": regressor,
        "weights": weights,
        "kintree_table": np.stack([np.where(np.arange(16) == 0, 2**32 - 1, parents), np.arange(16)]),
        "f": random.integers(0, 778, (1538, 3)).astype(np.uint32),
        "hands_mean": random.normal(0.0, 0.2, 45),
        "hands_components": np.eye(45),
    }


def write_mano_arrays(folder: Path) -> Path:
    """MANO_LEFT.pkl and MANO_RIGHT.pkl of plain arrays, as smplx reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for side in ("left", "right"):
        (folder / f"MANO_{side.upper()}.pkl").write_bytes(pickle.dumps(mano_data(side), protocol=2))
    return folder
