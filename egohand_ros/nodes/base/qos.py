"""Named QoS profiles. Publish reliable and subscribe best effort: then any publisher and any subscriber connect.

A best-effort subscriber accepts every publisher; a reliable subscriber refuses a best-effort publisher. So inputs use
`SENSOR`, `IMAGES` or `OBSERVATIONS` and outputs use `RELIABLE`, `COMMANDS` or `LATCHED`. Each can be changed by
`qos_overrides` parameters. Raw images are the exception (images.py): they are larger than what the middleware sends at
once, and best effort loses most of them without a word.
"""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

# Streams of which only the newest counts.
SENSOR = "sensor"
# The same for a node that counts what it drops: the few that came while it was busy reach it, and are not lost
# silently.
IMAGES = "images"
# Streams of which every sample is history that the window wants (hand poses, camera poses), but none is worth waiting
# for.
OBSERVATIONS = "observations"
# `SENSOR` and `IMAGES` for publishers that send again what was lost: see images.py.
RELIABLE_SENSOR = "reliable_sensor"
RELIABLE_IMAGES = "reliable_images"
# Results and texts.
RELIABLE = "reliable"
# Commands of a robot: one that was lost is sent again only until there is the next; later, many would come at once.
COMMANDS = "commands"
# What a late joiner must still get.
LATCHED = "latched"
# What all of a graph say on one topic, looked at now and then.
TRANSFORMS = "transforms"
STATIC_TRANSFORMS = "static_transforms"

_PROFILES = {
    SENSOR: (ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE, 1),
    IMAGES: (ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE, 5),
    OBSERVATIONS: (ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE, 20),
    RELIABLE_SENSOR: (ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE, 1),
    RELIABLE_IMAGES: (ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE, 5),
    RELIABLE: (ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE, 10),
    COMMANDS: (ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE, 1),
    LATCHED: (ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL, 1),
    TRANSFORMS: (ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE, 200),
    STATIC_TRANSFORMS: (ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL, 100),
}


def profile(name: str) -> QoSProfile:
    """A fresh profile (overrides write into it) by name, one of those above."""
    if name not in _PROFILES:
        raise ValueError(f"QoS profile {name!r} is unknown; known: {', '.join(_PROFILES)}")
    reliability, durability, depth = _PROFILES[name]
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability)
