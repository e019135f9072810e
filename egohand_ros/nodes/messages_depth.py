"""Depth images (REP 118) to arrays. A pure function; no node needed."""

import numpy as np
from sensor_msgs.msg import Image

from ..errors import RejectedInput
from ..tracking.images import check_size

# encoding: (numpy type, metres of one unit)
_ENCODINGS = {"16UC1": (np.uint16, 1e-3), "mono16": (np.uint16, 1e-3), "32FC1": (np.float32, 1.0)}


def parse_depth_msg(message: Image) -> np.ndarray:
    """Depth float32 (height, width) m; 0 where unknown (0, NaN, infinite or negative in the message).

    Raises `RejectedInput`: unsupported_encoding, truncated_image, bad_step, tiny_image, huge_image.
    """
    if message.encoding not in _ENCODINGS:
        known = ", ".join(_ENCODINGS)
        raise RejectedInput("unsupported_encoding", f"{message.encoding[:40]!r}; depth images are {known}")
    kind, scale = _ENCODINGS[message.encoding]
    kind = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    check_size(message.width, message.height)
    row = message.width * kind.itemsize
    step = message.step or row
    if step < row:
        raise RejectedInput("bad_step", f"step is {step}, a row of {message.width} px takes {row} bytes")
    if len(message.data) < step * (message.height - 1) + row:
        raise RejectedInput("truncated_image", f"{len(message.data)} bytes, {step * message.height} are needed")
    data = np.frombuffer(message.data, np.uint8)
    rows = np.lib.stride_tricks.as_strided(data, (message.height, row), (step, 1), writeable=False)
    depth = np.ascontiguousarray(rows).view(kind).astype(np.float32) * np.float32(scale)
    depth[~(np.isfinite(depth) & (depth > 0.0))] = 0.0
    return depth
