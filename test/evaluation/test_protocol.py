"""Which windows count, what a forecaster sees of them, and the evaluation of forecasters that are made up here."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egohand_ros.data.episode import Episode
from egohand_ros.data.synthetic import TrackerModel, generate_scene, observe
from egohand_ros.data.windows import cut_windows, window_ends
from egohand_ros.errors import UserError
from egohand_ros.evaluation.ego_motion import camera_motion
from egohand_ros.evaluation.protocol import NAIVE, PROTOCOLS, Protocol, evaluate, get_protocol
from egohand_ros.forecast.common.protocol import Forecast, ForecasterSpec, Need
from egohand_ros.forecast.naive.constant_velocity import ConstantVelocity
from egohand_ros.parallel import HERE, Workers
from egohand_ros.stream.aligner import WindowBuilder

VELOCITY = np.array([0.2, -0.1, 0.05])  # m/s


def walk(frames=45, rate=10.0, start=100.0) -> Episode:
    """Both hands, moving at a constant velocity without changing shape."""
    stamp = start + np.arange(frames) / rate
    shape = np.random.default_rng(0).normal(scale=0.05, size=(2, 21, 3))
    keypoints = shape + ((stamp - start)[:, None] * VELOCITY)[:, None, None]
    return Episode(stamp, keypoints, np.ones((frames, 2, 21), bool))


def without(episode: Episode, frames, side, keypoint=slice(None)) -> Episode:
    valid = episode.valid.copy()
    valid[frames, side, keypoint] = False
    return replace(episode, valid=valid)


@dataclass
class Fixed:
    """A forecaster that always forecasts one place, and remembers what it saw."""

    place: float = 0.0
    leaves_out: int | None = None

    def __post_init__(self):
        self.spec, self.seen = ForecasterSpec("fixed"), []

    def forecast(self, window, hypotheses=1, seed=None):
        self.seen.append(window)
        batch, steps = window.batch, self.spec.horizon_steps
        valid = torch.ones(batch, 2, 21, dtype=torch.bool)
        if self.leaves_out is not None:
            valid[:, self.leaves_out] = False
        return Forecast(
            stamp=window.stamp,
            step_times=self.spec.step_times(),
            keypoints=torch.full((batch, 1, steps, 2, 21, 3), self.place, dtype=torch.float64),
            wrist_rotation=torch.eye(3).expand(batch, 1, steps, 2, 3, 3),
            keypoint_std=torch.full((batch, 1, steps, 2, 21), torch.nan),
            wrist_covariance=torch.full((batch, 1, steps, 2, 6, 6), torch.nan),
            probability=torch.ones(batch, 1),
            valid=valid,
        )


def test_every_window_of_ten_hertz_counts_with_stride_one():
    assert evaluate([walk(45)], ["persistence"]).windows == 45 - 29
    assert evaluate([walk(30)], ["persistence"]).windows == 1


@pytest.mark.parametrize("rate, frames", [(30.0, 135), (100.0, 450)])
def test_faster_recordings_are_cut_at_ten_hertz(rate, frames):
    assert evaluate([walk(frames, rate)], ["persistence"]).windows == int((frames - 1) / rate * 10 + 1e-6) + 1 - 29


def test_errors_of_persistence_and_constant_velocity_on_a_straight_path():
    result = evaluate([walk()], ["persistence", "cvm"])
    speed = np.linalg.norm(VELOCITY)
    persistence, cvm = result.metrics("persistence"), result.metrics("cvm")
    assert persistence["ADE"] == pytest.approx(speed * np.mean(np.arange(1, 11)) / 10)
    assert persistence["FDE"] == pytest.approx(speed)
    assert persistence["MPJPE"] == pytest.approx(0.0, abs=1e-12)
    assert all(value < 1e-9 for value in cvm.values())


def test_a_keypoint_takes_part_if_it_is_valid_in_all_frames():
    ends = np.array([25])
    take = lambda episode: cut_windows(episode, ends, 0.1, 20, 10).takes_part()[0]  # noqa: E731
    assert take(walk()).all()
    fingertip_missing_once = take(without(walk(), 30, 1, 8))
    assert not fingertip_missing_once[1, 8] and fingertip_missing_once.sum() == 41
    assert not take(without(walk(), 35, 0, 0))[0].any(), "a hand takes part only if its wrist does"
    assert take(without(walk(), 36, 0)).all(), "frame 36 is after the window"


def test_a_window_counts_if_one_hand_takes_part():
    one_hand = without(walk(), slice(None), 0)
    assert evaluate([one_hand], ["persistence"]).windows == 16
    gap = without(one_hand, slice(20, 24), 1)
    with pytest.raises(UserError, match="no window can be scored"):
        evaluate([gap], ["persistence"])


def test_no_observation_is_made_of_a_later_one():
    """A hand missing at the window's last frame is missing there, though the frames around it are close."""
    episode = without(walk(450, 100.0), 200, 1)
    assert not cut_windows(episode, np.array([200]), 0.1, 20, 10).window.valid[0, -1, 1].any()
    uneven = walk(450, 100.0)
    ends = window_ends(uneven.stamp, 0.1, 20, 10)
    cut = cut_windows(uneven, ends, 0.1, 20, 10)
    assert (cut.window.stamp.numpy() == uneven.stamp[ends]).all()


def test_the_forecaster_sees_the_past_only():
    seen = Fixed()
    episode = walk()
    evaluate([episode], {"fixed": seen})
    windows = torch.cat([window.keypoints for window in seen.seen])
    assert windows.shape[:2] == (16, 20)
    assert np.allclose(windows[3].numpy(), episode.keypoints[3:23])


def test_what_is_not_forecast_is_scored_as_held_and_counted():
    episode = walk()
    result = evaluate([episode], {"half": Fixed(leaves_out=1)})
    held = evaluate([episode], ["persistence"]).metrics("persistence")["ADE"]
    left = np.stack([episode.keypoints[i + 20 : i + 30, 0, 0] for i in range(16)])  # forecast at the origin
    assert result.scores["half"].not_forecast == 16 * 21
    assert result.metrics("half")["ADE"] == pytest.approx((np.linalg.norm(left, axis=-1).mean() + held) / 2)


def test_result_does_not_depend_on_the_batch(monkeypatch):
    episode = walk(60)
    whole = evaluate([episode], list(NAIVE)).to_json()
    monkeypatch.setattr("egohand_ros.evaluation.protocol.BATCH", 7)
    parts = evaluate([episode], list(NAIVE)).to_json()
    for name in NAIVE:
        for metric, value in whole["forecasters"][name].items():
            assert parts["forecasters"][name][metric] == pytest.approx(value, abs=1e-12)


def test_processes_that_share_the_episodes_give_the_same_result():
    episodes = {f"walk {i}": moving_camera(60 + i) for i in range(3)}
    alone, shared = (
        evaluate(episodes, ["persistence", "kalman"], ego_motion=0.2, workers=w) for w in (HERE, Workers(2))
    )
    assert shared.to_json() == alone.to_json()
    with pytest.raises(UserError, match="give them by name"):
        evaluate(episodes, {"cvm": ConstantVelocity()}, workers=Workers(2))


def test_json_has_the_agreed_keys_and_no_nan():
    content = evaluate({"a": walk(), "b": walk(50)}, list(NAIVE)).to_json()
    assert list(content) == ["protocol", "windows", "models", "forecasters", "details"]
    assert content["protocol"] == "egoexo4d" and content["windows"] == 16 + 21
    assert all(list(metrics) == ["ADE", "FDE", "MPJPE", "MPJPE-F"] for metrics in content["forecasters"].values())
    assert content["details"]["episodes"]["b"]["cvm"]["windows"] == 21
    json.loads(json.dumps(content, allow_nan=False))


def test_progress_ends_at_its_total():
    calls = []
    evaluate([walk()], ["persistence", "cvm"], progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (32, 32)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(UserError, match="egoexo4d"):
        get_protocol("nothing")
    with pytest.raises(UserError, match="persistence"):
        evaluate([walk()], ["nothing"])


def test_another_protocol_is_one_entry(monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "long", Protocol("long", "", 10.0, 5, 50, metrics=("ADE", "FDE")))
    result = evaluate([walk(70)], ["persistence", "kalman"], "long")
    assert list(result.metrics("kalman")) == ["ADE", "FDE"]
    assert result.metrics("persistence")["FDE"] == pytest.approx(5 * np.linalg.norm(VELOCITY))


def test_egoman_asks_for_each_k_and_scores_what_a_forecaster_has():
    speed = np.linalg.norm(VELOCITY)
    result = evaluate([walk(70)], ["persistence", "kalman"], "egoman")
    still = result.metrics("persistence")
    assert still["ADE"] == pytest.approx(speed * np.mean(np.arange(1, 51)) / 10) and still["FDE"] == pytest.approx(
        5 * speed
    )
    assert still["ADE best of 10"] == still["ADE"] and still["ROT"] == pytest.approx(0.0, abs=1e-6)
    assert 0 < still["DTW"] <= still["ADE"], "the wrist goes away from where it was: it waits at one point of the path"
    many = result.metrics("kalman")
    assert many["ADE best of 10"] <= many["ADE best of 5"] + 1e-9 <= many["ADE"] + 2e-9
    assert set(still) == set(get_protocol("egoman").metrics)


@pytest.mark.parametrize("name", ["forehand4d", "megohand"])
def test_other_protocols_of_persistence_on_a_straight_path(name):
    result = evaluate([walk()], ["persistence"], name)
    found, place = result.metrics("persistence"), np.linalg.norm(VELOCITY) * np.mean(np.arange(1, 11)) / 10
    if name == "forehand4d":
        assert found["mpjpe/f"] == pytest.approx(place)
        # Relative to the wrist, after any alignment by frame, and of one wrist to the other: the hands keep their
        # shape.
        assert max(found["mpjpe/f/ra"], found["mpjpe/f/pa"], found["MRRPE"]) < 1e-9
        first = np.linalg.norm(VELOCITY) * np.mean(np.arange(0, 10)) / 10
        assert found["mpjpe/f/paf"] == pytest.approx(first), "the first frame's error is aligned away from all"
    else:
        assert found["MPJPE"] == pytest.approx(place) and found["MWTE"] == pytest.approx(place)
        assert (
            found["MPJPE-PA"] < 1e-9
            and np.isnan(found["MPVE"])
            and result.to_json()["forecasters"]["persistence"]["MPVE"] is None
        )


def moving_camera(frames=60):
    """A camera that is still at first, and then turns; hands that move in the second half alone."""
    episode = walk(frames)
    angle = np.where(np.arange(frames) < 30, 0.0, 0.2 * (np.arange(frames) - 30))
    pose = np.tile(np.eye(4), (frames, 1, 1))
    pose[:, :3, :3] = Rotation.from_euler("y", angle[:, None]).as_matrix()
    pose[:, :3, 3] = 100.0  # where the world's origin is does not count
    keypoints = episode.keypoints.copy()
    keypoints[:31] = keypoints[30]
    return replace(episode, keypoints=keypoints, camera_pose=pose)


def test_the_windows_with_the_most_camera_motion_are_scored_alone():
    result = evaluate([moving_camera(), walk()], ["persistence"], ego_motion=0.1)
    ends = np.arange(19, 50)
    motion = camera_motion(moving_camera(), ends, result.protocol)
    # Turning by a about y changes an extrinsic matrix by 2 sqrt(2) |sin(a / 2)| in the Frobenius norm.
    assert motion[-1] == pytest.approx(29 * 2 * np.sqrt(2) * np.sin(0.1)) and motion[0] == pytest.approx(0.0, abs=1e-12)
    assert result.ego_motion.windows == 3 and result.ego_motion.threshold == pytest.approx(motion[-3])
    assert result.windows == 31 + 16
    moved, speed = result.ego_motion.scores["persistence"].metrics["FDE"].value, np.linalg.norm(VELOCITY)
    assert moved == pytest.approx(speed) and result.metrics("persistence")["FDE"] < speed
    content = result.to_json()["ego_motion"]
    assert content["windows"] == 3 and content["forecasters"]["persistence"]["FDE"] == pytest.approx(speed)
    assert "ego_motion" not in evaluate([walk()], ["persistence"]).to_json()


def test_the_split_needs_camera_poses_and_a_share():
    with pytest.raises(UserError, match="no recording has camera poses"):
        evaluate([walk()], ["persistence"], ego_motion=0.1)
    with pytest.raises(UserError, match="is 10; expected one between 0 and 1"):
        evaluate([moving_camera()], ["persistence"], ego_motion=10)


def test_a_forecaster_that_does_not_fit_is_named():
    fast = Fixed()
    fast.spec = ForecasterSpec("fast", step=0.05)
    with pytest.raises(UserError, match="'fast'.*it forecasts 0.5 s, 1 s are needed"):
        evaluate([walk()], {"fast": fast})
    fast.spec = ForecasterSpec("fast", step=0.05, horizon_steps=20, window_length=60)
    with pytest.raises(UserError, match="'fast'.*it looks at 2.95 s, only 1.9 s are observed"):
        evaluate([walk()], {"fast": fast})


def test_a_forecaster_of_another_rate_sees_and_is_scored_at_its_own_times():
    """A straight path at constant velocity is forecast without error, whatever the rates."""
    fast = ConstantVelocity(step=0.04, window_length=30, horizon_steps=30)
    seen = []
    fast.forecast = lambda window, *args, of=fast.forecast, **named: seen.append(window) or of(window, *args, **named)
    result = evaluate([walk()], {"fast": fast, "cvm": ConstantVelocity()})
    assert seen[0].length == 30 and result.metrics("fast")["FDE"] == pytest.approx(0.0, abs=1e-9)
    assert result.metrics("fast") == pytest.approx(result.metrics("cvm"), abs=1e-9)


def test_what_needs_camera_poses_is_refused_where_there_are_none():
    blind = Fixed()
    blind.spec = ForecasterSpec("blind", needs=(Need("camera_pose", "Blind needs camera poses"),))
    with pytest.raises(UserError, match="Blind needs camera poses, and 'episode 0' has none; leave blind or"):
        evaluate([walk()], {"blind": blind})
    evaluate([moving_camera()], {"blind": blind})


def test_the_mocap_recording_evaluates(shared_data):
    from egohand_ros.data.importers.mocap import load_qualisys

    result = evaluate([load_qualisys(shared_data / "hand_mocap" / "recording.tsv")], list(NAIVE))
    assert result.windows == 571
    errors = {name: result.metrics(name) for name in NAIVE}
    # Published and public experience: repeating the last frame beats constant velocity at the end of a second.
    assert errors["persistence"]["FDE"] < errors["cvm"]["FDE"]
    assert errors["kalman"]["ADE"] < errors["persistence"]["ADE"]


def test_a_forecaster_sees_offline_what_it_sees_live():
    """The windows of an episode are those that the node's builder makes of the same observations in the camera's
    frame.
    """
    view = observe(generate_scene(4, 5.0), TrackerModel(lost_every=1e9))
    episode, spec = view.episode, ForecasterSpec("any")
    builder = WindowBuilder(spec, camera_frame=True)
    ends = window_ends(episode.stamp, 0.1, 20, 10)
    cut = cut_windows(episode, ends, 0.1, 20, 10)
    compared = 0
    for i, stamp in enumerate(view.stamp):
        builder.add_hands(stamp, view.keypoints[i], view.valid[i])
        builder.add_camera_pose(stamp, view.T_world_camera[i])
        if i in ends:
            live, row = builder.window(), int(np.flatnonzero(ends == i)[0])
            for name in ("stamp", "keypoints", "valid", "wrist_rotation", "rotation_valid", "camera_pose"):
                offline = getattr(cut.window, name)[row]
                assert torch.allclose(getattr(live, name)[0].double(), offline.double(), atol=1e-9), name
            compared += 1
    assert compared == len(ends) > 10
