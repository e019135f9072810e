"""`egohand hands`, as a user calls it."""

from egohand_ros.cli.main import main
from egohand_ros.robot.hands.library import list_hands


def test_every_hand_is_listed(capsys):
    assert main(["hands"]) == 0
    shown = capsys.readouterr().out
    assert {"allegro_right", "inspire_right"} <= set(list_hands())
    assert all(name in shown for name in list_hands()) and "not usable" not in shown
