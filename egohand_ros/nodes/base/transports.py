"""`use_sockets_alone`: processes that command robots, and simulated ones, keep off the middleware's shared memory."""

import os

from ...shipped import config_folder

# Any of them says how the user wants Fast DDS to send.
_CHOSEN = ("FASTDDS_BUILTIN_TRANSPORTS", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
_RANGE = "ROS_AUTOMATIC_DISCOVERY_RANGE"


def use_sockets_alone() -> None:
    """Have Fast DDS send what this process says by UDP, unless the user has chosen transports; before `rclpy.init`.

    By its shared memory a subscriber that is frozen (SIGSTOP, a cgroup's freezer, a debugger) just as it wakes up holds
    a lock, and each of its publishers waits for it inside `publish`, for as long: seen within a few tries on a busy
    machine. Nothing that commands a robot may wait for who looks on. Other middleware takes no notice.
    """
    if any(name in os.environ for name in _CHOSEN):
        return
    localhost = os.environ.get(_RANGE, "").upper() == "LOCALHOST" or os.environ.get("ROS_LOCALHOST_ONLY") == "1"
    if not localhost:
        os.environ["FASTDDS_BUILTIN_TRANSPORTS"] = "UDPv4"
    elif not os.environ.get("ROS_STATIC_PEERS"):  # which go with that range alone
        # There the ROS layer adds shared memory whatever is set; so the range is kept to by a profile.
        os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(config_folder() / "fastdds_sockets.xml")
        os.environ[_RANGE] = "SYSTEM_DEFAULT"
        os.environ.pop("ROS_LOCALHOST_ONLY", None)
