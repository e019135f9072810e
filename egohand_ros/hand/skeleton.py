"""The 21-keypoint hand: order, names, bones. This is the MediaPipe / OpenPose order."""

SIDES = ("left", "right")
LEFT, RIGHT = 0, 1

FINGERS = ("thumb", "index", "middle", "ring", "little")

# A line a finger, from the palm out.
KEYPOINT_NAMES = (
    "wrist",
    "thumb_cmc", "thumb_mcp", "thumb_ip", "thumb_tip",
    "index_mcp", "index_pip", "index_dip", "index_tip",
    "middle_mcp", "middle_pip", "middle_dip", "middle_tip",
    "ring_mcp", "ring_pip", "ring_dip", "ring_tip",
    "little_mcp", "little_pip", "little_dip", "little_tip",
)  # fmt: skip
NUM_KEYPOINTS = len(KEYPOINT_NAMES)

WRIST = 0
INDEX_MCP, MIDDLE_MCP, LITTLE_MCP = 5, 9, 17
TIPS = (4, 8, 12, 16, 20)
FINGER_KEYPOINTS = {finger: tuple(range(1 + 4 * i, 5 + 4 * i)) for i, finger in enumerate(FINGERS)}

# (parent, child) index pairs: each finger hangs off the wrist.
BONES = tuple(
    (chain[i], chain[i + 1]) for chain in ((WRIST, *points) for points in FINGER_KEYPOINTS.values()) for i in range(4)
)


def side_index(side: str) -> int:
    """0 for "left", 1 for "right"; any other word is a `ValueError`."""
    try:
        return SIDES.index(side)
    except ValueError:
        raise ValueError(f"side is {side!r}; expected one of {', '.join(SIDES)}") from None
