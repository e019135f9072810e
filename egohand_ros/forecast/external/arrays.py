"""Arrays in a line of JSON: the bytes of an .npz, in base64. What reads a window needs NumPy alone."""

import base64
import io
from collections.abc import Mapping
from zipfile import BadZipFile

import numpy as np


def pack(arrays: Mapping[str, np.ndarray]) -> str:
    """Arrays by name as text."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return base64.b64encode(file.getvalue()).decode()


def unpack(text: str) -> dict[str, np.ndarray]:
    """The way back. Raises ValueError for what is none; nothing in it is run."""
    try:
        with np.load(io.BytesIO(base64.b64decode(text, validate=True)), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, BadZipFile, OSError, EOFError, TypeError, AttributeError) as error:
        raise ValueError(f"no .npz in base64: {error}") from None
