"""Which of the middleware's transports a process uses: who commands a robot, or is one, keeps off its shared memory
(`use_sockets_alone`), and a recorder has room for what those send (`use_large_buffers`)."""

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
    if _chosen():
        return
    if not _kept_to_this_machine():
        os.environ["FASTDDS_BUILTIN_TRANSPORTS"] = "UDPv4"
    else:
        _keep_by("fastdds_sockets.xml")


def use_large_buffers() -> None:
    """More room for what those send while this process has no turn: with the system's usual room, commands, which are
    not sent again, were lost to a recorder after a tenth of a second; before `rclpy.init`. Where ROS is not kept to
    this machine, `net.core.rmem_default` says how much there is."""
    if not _chosen() and _kept_to_this_machine():
        _keep_by("fastdds_recorder.xml")


def _chosen() -> bool:
    return any(name in os.environ for name in _CHOSEN)


def _kept_to_this_machine() -> bool:
    return os.environ.get(_RANGE, "").upper() == "LOCALHOST" or os.environ.get("ROS_LOCALHOST_ONLY") == "1"


def _keep_by(profile: str) -> None:
    """There the ROS layer sets transports of its own, whatever is asked for; so the range is kept to by a profile.
    Static peers, which are of that range alone, are not."""
    if not os.environ.get("ROS_STATIC_PEERS"):
        os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(config_folder() / profile)
        os.environ[_RANGE] = "SYSTEM_DEFAULT"
        os.environ.pop("ROS_LOCALHOST_ONLY", None)
