"""What is tuned on is never judged, and frames without camera poses get an upright world."""

from dataclasses import replace

import pytest

from egohand_ros.data.synthetic.free_motion import generate_free_motion
from egohand_ros.errors import UserError
from egohand_ros.geometry.transforms import UPRIGHT_OPTICAL
from egohand_ros.hand.palm import palm_rotations
from egohand_ros.training.studies.real import left_out_sources, real_frames


@pytest.mark.parametrize("count", [6, 14, 52])
def test_five_recordings_spread_over_all_are_tuned_on_and_others_judged(count):
    recordings = [generate_free_motion(0, 1.0)] * count
    recordings = [replace(episode, stamp=episode.stamp + i) for i, episode in enumerate(recordings)]
    tuned_on, judged = left_out_sources.parts_of(recordings)
    starts = [[episode.stamp[0] for episode in part] for part in (tuned_on, judged)]
    assert len(set(starts[0])) == 5 and len(starts[1]) == count - 5 and not set(starts[0]) & set(starts[1])
    assert starts[0][0] < count / 5 and starts[0][-1] >= count * 4 / 5 - 1
    assert len(left_out_sources.parts_of(recordings, every=3)[1]) == -(-(count - 5) // 3)


def test_a_camera_without_poses_looks_ahead_in_an_upright_world():
    episode = replace(generate_free_motion(1, 1.0), camera_pose=None)
    up = real_frames.upright(episode)
    assert (up.camera_pose == UPRIGHT_OPTICAL).all()
    # Optical z is ahead (X), and y down (-Z).
    assert up.keypoints[..., 0] == pytest.approx(episode.keypoints[..., 2], nan_ok=True)
    assert up.keypoints[..., 2] == pytest.approx(-episode.keypoints[..., 1], nan_ok=True)
    known = up.valid.all(axis=-1)
    assert up.wrist_rotation[known] == pytest.approx(palm_rotations(up.keypoints)[known], abs=1e-6)
    assert real_frames.upright(up) is up


def test_a_recording_without_pictures_is_refused():
    with pytest.raises(UserError, match="no pictures"):
        real_frames.check(generate_free_motion(1, 1.0), "pick up the box")
