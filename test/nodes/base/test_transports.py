"""Which transports processes ask for, by their environment."""

import os

import pytest

from egohand_ros.nodes.base.transports import use_large_buffers, use_sockets_alone

_ASKED = ("FASTDDS_BUILTIN_TRANSPORTS", "FASTRTPS_DEFAULT_PROFILES_FILE", "ROS_AUTOMATIC_DISCOVERY_RANGE")


@pytest.mark.parametrize(
    "given, transports, profile, discovery",
    [
        ({}, "UDPv4", None, None),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "subnet"}, "UDPv4", None, "subnet"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, None, "fastdds_sockets.xml", "SYSTEM_DEFAULT"),
        ({"ROS_LOCALHOST_ONLY": "1"}, None, "fastdds_sockets.xml", "SYSTEM_DEFAULT"),
        # What the user chose stays.
        ({"FASTDDS_BUILTIN_TRANSPORTS": "SHM"}, "SHM", None, None),
        ({"FASTRTPS_DEFAULT_PROFILES_FILE": "/own.xml"}, None, "own.xml", None),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_STATIC_PEERS": "robot"}, None, None, "LOCALHOST"),
    ],
)
def test_transports(monkeypatch, given, transports, profile, discovery):
    for name in (*_ASKED, "FASTDDS_DEFAULT_PROFILES_FILE", "ROS_LOCALHOST_ONLY", "ROS_STATIC_PEERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", given)
    use_sockets_alone()
    use_large_buffers()  # changes nothing of what is chosen
    assert (given.get(_ASKED[0]), given.get(_ASKED[2])) == (transports, discovery)
    assert profile is None or given[_ASKED[1]].endswith(profile)
    assert profile is not None or _ASKED[1] not in given


def test_a_recorder_has_more_room(monkeypatch):
    for given, profile in (({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, "fastdds_recorder.xml"), ({}, "")):
        monkeypatch.setattr(os, "environ", given)
        use_large_buffers()
        assert given.get(_ASKED[1], "").endswith(profile) and given.get(_ASKED[0]) is None
