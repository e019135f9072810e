"""The forecasters without weights: what they promise on paths whose future is known."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egohand_ros.errors import UserError
from egohand_ros.forecast import registry
from egohand_ros.forecast.common.observed import damped_displacement, exp_rotation, log_rotation
from egohand_ros.forecast.common.protocol import Forecast, Forecaster, ForecasterSpec
from egohand_ros.forecast.naive.kalman import Kalman, MotionModel, Predictor, bank
from egohand_ros.forecast.registry import make_forecaster, presets, register
from egohand_ros.hand.palm import palm_rotations
from egohand_ros.stream.window import Window

NAIVE = ("persistence", "static", "cvm", "damped", "kalman", "minimum-jerk")
STEP = 0.1
HAND = np.random.default_rng(3).normal(scale=0.04, size=(2, 21, 3)) * (np.arange(21) > 0)[:, None]


def window(wrist, rotation=None, valid=None, camera_pose=None) -> Window:
    """A window of a rigid hand: wrist path (T, 3) m, rotation (T, 3, 3) of it; both hands alike but for their shape."""
    wrist = np.asarray(wrist, dtype=float)
    length = len(wrist)
    rotation = np.tile(np.eye(3), (length, 1, 1)) if rotation is None else rotation
    keypoints = wrist[:, None, None] + np.einsum("tij,hkj->thki", rotation, HAND)
    valid = np.ones((length, 2, 21), bool) if valid is None else valid
    palm = palm_rotations(keypoints)
    seen = valid[..., [0, 5, 17]].all(-1)
    palm[~seen] = np.eye(3)
    keypoints[~valid] = 0.0
    camera = None if camera_pose is None else torch.from_numpy(np.tile(camera_pose, (1, length, 1, 1)))
    return Window(
        torch.tensor([50.0], dtype=torch.float64),
        torch.from_numpy(keypoints)[None],
        torch.from_numpy(valid)[None],
        torch.from_numpy(palm)[None],
        torch.from_numpy(seen)[None],
        camera,
    )


def straight(velocity=(0.3, -0.1, 0.2), length=20):
    return 1.0 + STEP * np.arange(length)[:, None] * np.asarray(velocity)


def turning(rate=1.0, length=20):
    """Rotations (T, 3, 3) about a fixed axis at `rate` rad/s."""
    axis = np.array([0.6, 0.0, 0.8])
    return Rotation.from_rotvec(rate * STEP * np.arange(length)[:, None] * axis).as_matrix()


def stack(*windows: Window) -> Window:
    fields = ("stamp", "keypoints", "valid", "wrist_rotation", "rotation_valid")
    return Window(*(torch.cat([getattr(w, name) for w in windows]) for name in fields))


@pytest.mark.parametrize("name", ["persistence", "cvm", "damped", "kalman"])
def test_a_hand_at_rest_stays(name):
    observed = window(np.tile([0.4, 0.1, 0.9], (20, 1)))
    forecast = make_forecaster(name).forecast(observed)
    assert torch.allclose(forecast.keypoints, observed.keypoints[:, None, -1:].expand(-1, 1, 10, -1, -1, -1), atol=1e-9)
    assert torch.allclose(forecast.wrist_rotation, observed.wrist_rotation[:, None, -1:], atol=1e-9)
    assert forecast.valid.all() and forecast.stamp.tolist() == [50.0]


@pytest.mark.parametrize("name", NAIVE)
def test_follows_the_protocol(name):
    forecaster = make_forecaster(name)
    assert isinstance(forecaster, Forecaster)
    forecast = forecaster.forecast(window(straight()), hypotheses=3, seed=1)
    assert forecast.keypoints.dtype == torch.float64
    assert torch.allclose(forecast.probability.sum(-1), torch.ones(1, dtype=torch.float64))
    assert torch.allclose(forecast.step_times, forecaster.spec.step_times())
    identity = forecast.wrist_rotation @ forecast.wrist_rotation.transpose(-1, -2)
    assert torch.allclose(identity, torch.eye(3, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("name", NAIVE)
def test_a_batch_gives_what_each_window_gives(name):
    gaps = np.ones((20, 2, 21), bool)
    gaps[[4, 17, 18, 19]] = False
    gaps[9, 1, 5:] = False
    windows = [window(straight()), window(straight((0.0, 0.5, 0.0)), turning()), window(straight(), valid=gaps)]
    forecaster = make_forecaster(name)
    together = forecaster.forecast(stack(*windows))
    for i, alone in enumerate(windows):
        single = forecaster.forecast(alone)
        assert torch.allclose(together.keypoints[i], single.keypoints[0], atol=1e-9)
        assert torch.equal(together.valid[i], single.valid[0])
        assert torch.allclose(together.keypoint_std[i], single.keypoint_std[0], equal_nan=True)


@pytest.mark.parametrize("name", ["persistence", "cvm", "damped", "kalman"])
def test_forecasts_move_with_the_frame(name):
    """Rotating and shifting the world rotates and shifts the forecast: no axis or origin is special."""
    turn, shift = Rotation.from_euler("xyz", [0.4, -1.0, 2.0]).as_matrix(), np.array([3.0, -20.0, 7.0])
    path, rotation = straight() + 0.02 * np.sin(np.arange(20))[:, None], turning()
    here = make_forecaster(name).forecast(window(path, rotation))
    there = make_forecaster(name).forecast(window(path @ turn.T + shift, turn @ rotation))
    assert np.allclose(there.keypoints.numpy(), here.keypoints.numpy() @ turn.T + shift, atol=1e-7)
    assert np.allclose(there.wrist_rotation.numpy(), turn @ here.wrist_rotation.numpy(), atol=1e-7)


@pytest.mark.parametrize("name", NAIVE)
def test_a_hand_that_was_never_seen_is_not_forecast(name):
    valid = np.ones((20, 2, 21), bool)
    valid[:, 0] = False
    valid[:, 1, 8] = False
    forecast = make_forecaster(name).forecast(window(straight(), valid=valid))
    assert not forecast.valid[0, 0].any() and not forecast.valid[0, 1, 8] and forecast.valid[0, 1].sum() == 20
    assert torch.isfinite(forecast.keypoints).all() and torch.isfinite(forecast.wrist_rotation).all()
    nothing = make_forecaster(name).forecast(window(straight(), valid=np.zeros((20, 2, 21), bool)))
    assert not nothing.valid.any() and torch.isfinite(nothing.keypoints).all()


def test_persistence_holds_each_keypoint_where_it_was_last_seen():
    valid = np.ones((20, 2, 21), bool)
    valid[15:, 1, 8] = False
    observed = window(straight(), valid=valid)
    forecast = make_forecaster("persistence").forecast(observed)
    assert torch.allclose(forecast.keypoints[0, 0, :, 1, 8], observed.keypoints[0, 14, 1, 8])
    assert torch.allclose(forecast.keypoints[0, 0, :, 1, 7], observed.keypoints[0, 19, 1, 7])


def test_constant_velocity_extrapolates_each_keypoint_on_its_own():
    observed = window(straight())
    bent = observed.keypoints.clone()
    bent[0, -1, 1, 8] += torch.tensor([0.0, 0.0, 0.01])  # the tip moved by 1 cm in the last step
    forecast = make_forecaster("cvm").forecast(
        Window(observed.stamp, bent, observed.valid, observed.wrist_rotation, observed.rotation_valid)
    )
    expected = window(straight(length=30)).keypoints[:, 20:].clone()
    expected[0, :, 1, 8, 2] += 0.01 * torch.arange(2, 12)
    assert torch.allclose(forecast.keypoints[:, 0], expected, atol=1e-9)


@pytest.mark.parametrize("missing", [(), (19,), (17, 18), (10, 18, 19)])
def test_constant_velocity_counts_on_over_missing_observations(missing):
    valid = np.ones((20, 2, 21), bool)
    valid[list(missing)] = False
    forecast = make_forecaster("cvm").forecast(window(straight(), turning(), valid=valid))
    wrist = window(straight(length=30)).keypoints[:, 20:, :, 0]
    assert torch.allclose(forecast.keypoints[:, 0, :, :, 0], wrist, atol=1e-9)
    rotation = window(straight(length=30), turning(length=30)).wrist_rotation[:, 20:]
    assert torch.allclose(forecast.wrist_rotation[:, 0], rotation, atol=1e-9)


def test_damped_comes_to_rest_after_speed_times_time_constant():
    velocity, constant = np.array([0.3, -0.1, 0.2]), 0.15
    forecaster = make_forecaster("damped", position_time_constant=constant, horizon_steps=60)
    forecast = forecaster.forecast(window(straight(velocity)))
    travelled = forecast.keypoints[0, 0, :, 0, 0].numpy() - straight(velocity)[-1]
    assert np.allclose(travelled[-1], velocity * constant, atol=1e-9)
    assert np.allclose(travelled[0], velocity * constant * (1 - np.exp(-STEP / constant)))
    assert damped_displacement(np.array([1e-6]), 0.2) == pytest.approx(1e-6, rel=1e-3)


def test_damped_turns_fingers_with_the_wrist():
    """A rigid hand that turns stays rigid."""
    forecast = make_forecaster("damped").forecast(window(straight(), turning(2.0)))
    relative = forecast.keypoints[0, 0] - forecast.keypoints[0, 0, :, :, :1]
    assert torch.allclose(relative.norm(dim=-1), torch.from_numpy(np.linalg.norm(HAND, axis=-1)), atol=1e-9)


def test_kalman_without_fading_or_noise_is_exact_on_constant_acceleration():
    model = MotionModel(1e-5, 5.0, np.inf)
    times = STEP * np.arange(30)[:, None]
    path = 1.0 + times * [0.3, -0.2, 0.1] + 0.5 * times**2 * [0.8, 0.4, -0.6]
    forecast = Kalman(position=(model,)).forecast(window(path[:20]))
    assert np.allclose(forecast.keypoints[0, 0, :, 0, 0].numpy(), path[20:], atol=2e-3)


def test_kalman_equals_a_textbook_filter_with_missing_observations():
    """The matrix that `Predictor` makes once is what predicting and updating step by step gives."""
    model, rng = MotionModel(0.004, 3.0, 0.3), np.random.default_rng(0)
    path = np.cumsum(rng.normal(scale=0.02, size=20))
    there = rng.random(20) < 0.7
    there[0] = True
    transition, noise = model.discrete(STEP)
    state, covariance = np.zeros(3), np.diag(model.prior())
    origin = path[there][-1]
    for t in range(20):
        if t:
            state, covariance = transition @ state, transition @ covariance @ transition.T + noise
        if there[t]:
            gain = covariance[:, :1] / (covariance[0, 0] + model.measurement_std**2)
            state = state + gain[:, 0] * (path[t] - origin - state[0])
            covariance = covariance - gain @ covariance[:1]
    means, variances = [], []
    for _ in range(10):
        state, covariance = transition @ state, transition @ covariance @ transition.T + noise
        means.append(state[0] + origin)
        variances.append(covariance[0, 0])
    found = Predictor((model,), STEP, 20, 10)((path * there)[None, :, None], there[None])
    assert np.allclose(found.mean[0, :, 0], means, atol=1e-12)
    assert np.allclose(found.variance[0], variances, atol=1e-12)


def test_the_bank_believes_the_filter_that_made_the_data():
    """A path drawn from one of the models is predicted as by that model, with its variance."""
    models, rng = bank((0.001, 0.02), (0.3, 5.0), 0.2), np.random.default_rng(4)
    for true in models:
        transition, noise = true.discrete(STEP)
        root = np.linalg.cholesky(noise + 1e-18 * np.eye(3))
        states = [np.array([[0.0] * 60, rng.normal(0, 0.1, 60), rng.normal(0, true.acceleration_std, 60)])]
        for _ in range(39):
            states.append(transition @ states[-1] + root @ rng.standard_normal((3, 60)))
        paths = np.stack(states)[20:, 0].reshape(20, 20, 3).swapaxes(0, 1)
        seen = paths + true.measurement_std * rng.standard_normal(paths.shape)
        there = np.ones((20, 20), bool)
        alone = Predictor((true,), STEP, 20, 10)(seen, there)
        among = Predictor(models, STEP, 20, 10)(seen, there)
        assert np.median(np.abs(among.mean - alone.mean)) < 0.15 * np.median(np.sqrt(alone.variance))
        assert np.median(among.variance / alone.variance) == pytest.approx(1.0, abs=0.2)


def test_process_noise_is_the_integral_of_the_transition():
    """Van Loan's matrix exponential against the integral summed up."""
    model = MotionModel(0.01, 2.0, 0.25)
    _, noise = model.discrete(STEP)
    slices = 2000
    density = np.diag([0, 0, 2.0**2 * 2 / 0.25])
    midpoints = (np.arange(slices) + 0.5) * STEP / slices
    total = sum(model.discrete(t)[0] @ density @ model.discrete(t)[0].T for t in midpoints) * STEP / slices
    assert np.allclose(noise, total, rtol=1e-5)


def test_kalman_is_surer_of_the_near_future_and_of_what_it_saw_last():
    forecast = make_forecaster("kalman").forecast(window(straight()))
    std = forecast.keypoint_std[0, 0, :, 1]
    assert (std[1:] > std[:-1]).all()
    valid = np.ones((20, 2, 21), bool)
    valid[14:] = False
    late = make_forecaster("kalman").forecast(window(straight(), valid=valid))
    assert (late.keypoint_std[0, 0, 0] > std[0]).all()
    covariance = forecast.wrist_covariance[0, 0, :, 1]
    assert (torch.linalg.eigvalsh(covariance) > 0).all()
    assert torch.allclose(covariance[:, 0, 0].sqrt(), std[:, 0])


def test_kalman_samples_have_the_spread_that_it_states():
    kalman = make_forecaster("kalman", max_hypotheses=4000)
    forecast = kalman.forecast(window(straight(), turning(0.5)), hypotheses=4000, seed=0)
    samples = forecast.keypoints[0, 1:, :, :, 0]
    assert torch.allclose(samples.std(dim=0), forecast.keypoint_std[0, 0, :, :, :1].expand(-1, -1, 3), rtol=0.06)
    assert torch.allclose(samples.mean(dim=0), forecast.keypoints[0, 0, :, :, 0], atol=0.02)


def test_kalman_samples_repeat_by_seed_and_begin_with_the_mean():
    kalman = make_forecaster("kalman")
    observed = window(straight())
    first, again, other = (kalman.forecast(observed, 5, seed) for seed in (7, 7, 8))
    assert torch.equal(first.keypoints, again.keypoints)
    assert not torch.allclose(first.keypoints[:, 1:], other.keypoints[:, 1:])
    assert torch.equal(first.keypoints[:, :1], kalman.forecast(observed).keypoints)
    assert kalman.forecast(observed, 10_000, 0).keypoints.shape[1] == kalman.spec.max_hypotheses


def test_static_is_the_training_mean_before_the_camera_and_the_window_mean_without():
    static = make_forecaster("static")
    path = straight()
    without = static.forecast(window(path))
    assert np.allclose(without.keypoints[0, 0, 0, 1, 0].numpy(), path.mean(axis=0))
    camera = np.eye(4)
    camera[:3, :3] = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])  # looks along +X
    camera[:3, 3] = [5.0, 6.0, 1.5]
    seen = static.forecast(window(path, camera_pose=camera)).keypoints[0, 0, 0].numpy()
    left, right = seen[:, 0] - camera[:3, 3]
    assert 0.1 < left[0] < 0.7 and left[2] < -0.1 and left[1] > 0 > right[1], "hands are before and below the camera"
    turn, turned = Rotation.from_euler("z", 90, degrees=True).as_matrix(), camera.copy()
    turned[:3, :3] = turn @ camera[:3, :3]
    there = static.forecast(window(path, camera_pose=turned)).keypoints[0, 0, 0].numpy()
    assert np.allclose(there - camera[:3, 3], (seen - camera[:3, 3]) @ turn.T)


def test_rotation_exponential_and_logarithm_invert_each_other():
    vectors = np.random.default_rng(0).normal(size=(200, 3))
    vectors *= (np.linspace(1e-9, 3.1, 200) / np.linalg.norm(vectors, axis=-1))[:, None]
    vectors[0] = 0.0
    assert np.allclose(exp_rotation(vectors), Rotation.from_rotvec(vectors).as_matrix(), atol=1e-12)
    assert np.allclose(log_rotation(exp_rotation(vectors)), vectors, atol=1e-7)


def test_a_forecaster_added_in_one_place_works_everywhere(monkeypatch, capsys):
    """Registering a factory is all it takes for the registry, the evaluation and the command line."""
    monkeypatch.setattr(registry, "_PRESETS", dict(registry._PRESETS))
    presets()

    class Centre:
        spec = ForecasterSpec("centre")

        def forecast(self, window, hypotheses=1, seed=None):
            still = make_forecaster("persistence").forecast(window)
            fields = {name: getattr(still, name) for name in Forecast.__annotations__}
            return Forecast(**{**fields, "keypoints": torch.zeros_like(still.keypoints)})

    @register("centre", "everything is at the origin")
    def centre() -> Centre:
        return Centre()

    from egohand_ros.cli.main import main
    from egohand_ros.data.synthetic import generate_scene
    from egohand_ros.evaluation.protocol import evaluate

    assert "centre" in presets()
    with pytest.raises(UserError, match="centre, cvm"):
        make_forecaster("nothing")
    scene = generate_scene(0, 4.0)
    result = evaluate([scene.episode], ["centre"])
    assert result.metrics("centre")["ADE"] > 0.5
    assert main(["forecasters"]) == 0
    assert "centre" in capsys.readouterr().out


# ---------------------------------------------------------------- minimum-jerk

REACH_STEP, REACH_LENGTH = 0.05, 40
START, WAY = np.array([1.1, 0.1, 0.1]), np.array([-0.35, 0.05, 0.2])


def reach(seen, duration=1.0, noise=0.003, bow=(0.0, 0.0, 0.0)):
    """A window of which the last `seen` s are of a reach of `duration` s, in the noise of a tracker, m; it goes around
    by `bow` m in its middle."""
    u = np.clip((REACH_STEP * np.arange(1 - REACH_LENGTH, 1) + seen) / duration, 0.0, 1.0)[:, None]
    share = 10 * u**3 - 15 * u**4 + 6 * u**5
    path = START + share * WAY + np.sin(np.pi * share) * np.asarray(bow)
    return window(path + noise * np.random.default_rng(0).normal(size=path.shape))


def rests_at(forecast):
    """Where the wrist ends, (K, 3) m."""
    return forecast.keypoints[0, :, -1, 1, 0].numpy()


@pytest.mark.parametrize("seen, off", [(0.4, 0.15), (0.6, 0.06), (0.8, 0.03), (1.5, 0.01)])
def test_the_end_of_a_reach_is_known_the_better_the_more_of_it_was_seen(seen, off):
    forecast = make_forecaster("minimum-jerk").forecast(reach(seen))
    assert np.linalg.norm(rests_at(forecast)[0] - START - WAY) < off


def test_a_bow_is_not_taken_for_the_way():
    forecast = make_forecaster("minimum-jerk").forecast(reach(0.65, noise=0.001, bow=(0.0, 0.04, 0.0)))
    assert abs(rests_at(forecast)[0] - START - WAY)[1] < 0.025, "completed as a straight way it is 0.05 m off"


def test_a_hand_that_does_not_reach_stays():
    forecast = make_forecaster("minimum-jerk").forecast(reach(-1.0), 5)
    assert rests_at(forecast) == pytest.approx(np.tile(START, (5, 1)), abs=0.005)


def test_how_sure_it_is_is_told():
    """By several hypotheses that rest at different times, and by a covariance that shrinks."""
    forecaster = make_forecaster("minimum-jerk")
    early, late = (forecaster.forecast(reach(seen), 8) for seen in (0.4, 0.9))
    assert np.ptp(rests_at(early), axis=0).max() > 0.05 > 0.03 > np.ptp(rests_at(late), axis=0).max()
    one, other = (forecaster.forecast(reach(seen)).wrist_covariance[0, 0, -1, 1, 0, 0] for seen in (0.4, 0.9))
    assert one > 9.0 * other > 0.0
    mean = forecaster.forecast(reach(0.4))
    assert rests_at(early).mean(axis=0) == pytest.approx(rests_at(mean)[0], abs=1e-6), "parts make up the whole"


def test_the_palm_turns_along_and_fingers_keep_their_shape():
    forecast = make_forecaster("minimum-jerk").forecast(reach(0.6, noise=0.0))
    apart = forecast.keypoints[0, 0, :, 1] - forecast.keypoints[0, 0, :, 1, :1]
    assert apart.numpy() == pytest.approx(apart[:1].expand_as(apart).numpy(), abs=1e-6), "it did not turn before"
    assert (forecast.keypoint_std[0, 0, -1, 1] > forecast.keypoint_std[0, 0, 0, 1]).all()
