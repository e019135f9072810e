"""MANO parameters -> keypoints, through smplx and the user's own MANO files.

MANO may not be passed on: everybody gets it at https://mano.is.tue.mpg.de. Its pickles name classes of chumpy, which no
present-day numpy runs; they are read here without it, and nothing else of a pickle is run.
"""

import io
import os
import pickle
from pathlib import Path

import numpy as np

from ..errors import UserError
from .conventions import to_canonical
from .skeleton import SIDES

ENVIRONMENT = "EGOHAND_MANO"
FILES = {side: f"MANO_{side.upper()}.pkl" for side in SIDES}
# Vertices at the fingertips, thumb to little finger: smplx/vertex_ids.py, "mano".
TIP_VERTICES = (744, 320, 443, 554, 671)
_NEEDED = (
    "v_template",
    "shapedirs",
    "posedirs",
    "J_regressor",
    "weights",
    "kintree_table",
    "f",
    "hands_mean",
    "hands_components",
)
_BATCH = 512
_HARMLESS = {("copyreg", "_reconstructor"), ("builtins", "object"), ("builtins", "set"), ("_codecs", "encode")}
_ARRAYS = {"ndarray", "dtype", "scalar", "_reconstruct", "csc_matrix", "csr_matrix", "csc_array", "csr_array"}


class ManoHand:
    """One side's MANO model. `pca` is the number of pose components in use, 0 for 45 joint angles."""

    def __init__(self, folder: Path | str, side: str, pca: int = 0):
        import smplx.utils  # slow, and only files with MANO parameters want it

        data = read_model(Path(folder) / FILES[side])
        self._model = smplx.MANO(
            str(folder),
            data_struct=smplx.utils.Struct(**data),
            is_rhand=side == "right",
            use_pca=pca > 0,
            num_pca_comps=pca or 45,
            flat_hand_mean=False,
        )

    def mend_shape(self, right: "ManoHand") -> None:
        """Undo the sign error of MANO's left hand, whose first shape axis equals the right hand's (smplx issue 48)."""
        own, other = self._model.shapedirs, right._model.shapedirs
        if own.shape == other.shape and float((own[:, 0] - other[:, 0]).abs().sum()) < 1.0:
            own[:, 0] *= -1

    def keypoints(self, orient: np.ndarray, pose: np.ndarray, shape: np.ndarray, translation: np.ndarray) -> np.ndarray:
        """Keypoints (T, 21, 3) m of global rotation vectors (T, 3) rad, pose (T, 45 or pca), shape (10,) or (T, 10) and
        translation (T, 3) m, as smplx takes them: the wrist is at its rest position plus the translation."""
        import torch

        shape = np.broadcast_to(shape, (len(orient), np.shape(shape)[-1]))
        parts = []
        for start in range(0, len(orient), _BATCH):
            rows = slice(start, start + _BATCH)
            given = (torch.tensor(np.asarray(a)[rows], dtype=torch.float32) for a in (shape, orient, pose, translation))
            betas, global_orient, hand_pose, transl = given
            with torch.no_grad():
                out = self._model(betas=betas, global_orient=global_orient, hand_pose=hand_pose, transl=transl)
            parts.append(torch.cat([out.joints[:, :16], out.vertices[:, list(TIP_VERTICES)]], dim=1).double().numpy())
        return to_canonical(np.concatenate(parts), "mano") if parts else np.zeros((0, 21, 3))


def mano_folder(given: Path | str = "") -> Path | None:
    """The folder of the user's MANO files: the one that is given, otherwise that of the environment's EGOHAND_MANO."""
    folder = str(given) or os.environ.get(ENVIRONMENT, "")
    return Path(folder).expanduser() if folder else None


def load_mano(folder: Path | str | None, pca: int = 0) -> dict[str, ManoHand]:
    """Both hands' models by side. Raises `UserError` where no folder is given or the files are not in it."""
    if folder is None:
        raise UserError(
            "this data set stores MANO parameters: get MANO at https://mano.is.tue.mpg.de and convert with "
            "`egohand convert ... --mano FOLDER`, where FOLDER holds MANO_LEFT.pkl and MANO_RIGHT.pkl"
        )
    folder = next(
        (f for f in (Path(folder), Path(folder) / "models", Path(folder) / "mano") if (f / FILES["right"]).is_file()),
        None,
    )
    if folder is None or not (folder / FILES["left"]).is_file():
        raise UserError(
            f"no MANO_LEFT.pkl and MANO_RIGHT.pkl in {folder or 'the MANO folder'}; get them at https://mano.is.tue.mpg.de"
        )
    hands = {side: ManoHand(folder, side, pca) for side in SIDES}
    hands["left"].mend_shape(hands["right"])
    return hands


def read_model(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a MANO pickle, those of chumpy made plain. Raises `UserError` for another file."""
    try:
        content = _ManoUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except (
        OSError,
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        AttributeError,
        ImportError,
        IndexError,
        TypeError,
    ) as error:
        raise UserError(f"{path} cannot be read as a MANO model: {error}") from None
    missing = [name for name in _NEEDED if not isinstance(content, dict) or name not in content]
    if missing:
        raise UserError(f"{path} is no MANO model: it lacks {', '.join(missing)}")
    return {name: _plain(content[name]) for name in _NEEDED}


class _ChumpyArray:
    """What stands in for a chumpy array: `Ch` holds its numbers in x, `Select` picks idxs of the array a."""

    def __setstate__(self, state):
        self.__dict__.update(state if isinstance(state, dict) else state[1])

    def plain(self) -> np.ndarray:
        if "x" in self.__dict__:
            return np.asarray(self.x, dtype=np.float64)
        return _plain(self.a).ravel()[np.asarray(self.idxs).ravel()].reshape(self.preferred_shape)


class _ManoUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if module.startswith("chumpy"):
            return _ChumpyArray
        # Python 2, in which the files were written, has other names for two modules.
        module = {"copy_reg": "copyreg", "__builtin__": "builtins"}.get(module, module)
        if not (module.startswith(("numpy", "scipy.sparse")) and name in _ARRAYS) and (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"it contains a {module}.{name}; only arrays are read")
        return super().find_class(module, name)


def _plain(value) -> np.ndarray:
    if isinstance(value, _ChumpyArray):
        return value.plain()
    return np.asarray(value.todense()) if hasattr(value, "todense") else np.asarray(value)
