"""`adaptive`: its weights keep their bound, it learns, forgets, and gives the same for the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from egohand_ros.data.episode import Episode
from egohand_ros.data.synthetic import generate_scene, observe
from egohand_ros.data.windows import cut_windows
from egohand_ros.evaluation.stream import evaluate_stream, single, stream_frames
from egohand_ros.forecast.adaptive.hedge import Hedge
from egohand_ros.forecast.adaptive.ridge import OnlineRidge
from egohand_ros.forecast.registry import make_forecaster
from egohand_ros.hand.skeleton import NUM_KEYPOINTS

_SECOND = np.array([1.0])
_STEP = np.array([0])
_BOTH = np.ones((1, 2), dtype=bool)


def _play(losses: np.ndarray, half_life: float, rate: float = 0.7) -> tuple[np.ndarray, np.ndarray, float]:
    """Faded losses (2,) of the average and (2, E) of the experts, and the bound's excess for a uniform prior; losses
    (T, E).
    """
    count = losses.shape[1]
    hedge = Hedge(np.full(count, 1 / count), 1, rate, half_life, scale=1.0)
    keep, mine, theirs, squares = 0.5 ** (1.0 / half_life), np.zeros(2), np.zeros((2, count)), 0.0
    awake = np.ones((2, count), dtype=bool)
    for loss in losses:
        average = hedge.weights(awake)[:, :, 0] @ loss
        mine, theirs, squares = keep * (mine + average), keep * (theirs + loss), keep * (squares + 1.0)
        hedge.learn(_STEP, np.tile(loss, (1, 2, 1)), _BOTH, awake[None], _SECOND)
        hedge.fade(1.0)
    return mine, theirs, np.log(count) / rate + rate / 8.0 * squares


@pytest.mark.parametrize("half_life", [5.0, 50.0, 1e9])
def test_the_average_keeps_its_bound_against_every_expert_on_hostile_losses(half_life):
    rng = np.random.default_rng(0)
    alternating = np.stack([np.arange(400) % 2, (np.arange(400) + 1) % 2, np.full(400, 0.5)], axis=1).astype(float)
    switching = (np.arange(400)[:, None] // 40 % 3 == np.arange(3)).astype(float)
    random = (rng.random((400, 3)) < [0.4, 0.5, 0.6]).astype(float)
    for losses in (alternating, switching, random):
        mine, theirs, excess = _play(losses, half_life)
        assert (mine[:, None] <= theirs + excess + 1e-9).all()


def test_losses_that_follow_the_weights_keep_the_bound_and_come_near_it():
    """The adversary charges whoever has most weight: no fixed rule does worse than the bound, and a leader-follower
    loses all.
    """
    hedge, awake = Hedge(np.full(2, 0.5), 1, 0.5, 1e9, scale=1.0), np.ones((2, 2), dtype=bool)
    mine, theirs = 0.0, np.zeros(2)
    for _ in range(300):
        weights = hedge.weights(awake)[0, :, 0]
        loss = np.zeros(2)
        loss[weights.argmax()] = 1.0
        mine, theirs = mine + weights @ loss, theirs + loss
        hedge.learn(_STEP, np.tile(loss, (1, 2, 1)), _BOTH, awake[None], _SECOND)
    excess = np.log(2) / 0.5 + 0.5 / 8 * 300
    assert mine - theirs.min() <= excess
    assert mine - theirs.min() > 0.3 * excess  # the bound is no empty one


def test_it_is_not_worse_than_any_expert_for_long_when_the_best_one_changes():
    losses = np.ones((600, 3))
    for part, best in enumerate((0, 2, 1)):
        losses[200 * part : 200 * part + 200, best] = 0.2
    hedge, awake = Hedge(np.full(3, 1 / 3), 1, 4.0, 10.0), np.ones((2, 3), dtype=bool)
    average = []
    for loss in losses:
        average.append(hedge.weights(awake)[0, :, 0] @ loss)
        hedge.learn(_STEP, np.tile(loss, (1, 2, 1)), _BOTH, awake[None], np.array([1 / 30]))
        hedge.fade(1 / 30)
    assert np.mean(average) < losses.mean(axis=0).min() * 0.9  # no single expert comes near
    for part in range(3):
        assert np.mean(average[200 * part + 150 : 200 * part + 200]) < 0.35


def test_an_expert_that_sleeps_has_no_weight_and_wakes_with_what_it_had():
    hedge, awake = Hedge(np.full(3, 1 / 3), 1, 2.0, 1e9), np.ones((1, 2, 3), dtype=bool)
    hedge.learn(_STEP, np.tile([1.0, 1.0, 2.0], (1, 2, 1)), _BOTH, awake, _SECOND)
    before = hedge.weights(awake[0])
    awake[..., 1] = False
    assert (hedge.weights(awake[0])[:, 1] == 0.0).all()
    hedge.learn(_STEP, np.tile([1.0, 9.0, 1.0], (1, 2, 1)), _BOTH, awake, _SECOND)
    after = hedge.weights(np.ones((2, 3), dtype=bool))
    assert after[0, 1, 0] == pytest.approx(after[0, 0, 0]) and before[0, 1, 0] == pytest.approx(before[0, 0, 0])


def test_the_regression_finds_how_a_motion_goes_on_and_starts_where_it_is_told():
    rng = np.random.default_rng(1)
    ridge = OnlineRidge(np.array([1.0, 0.0, 0.0]), np.array([0.5]), trust=1.0, half_life=100.0)
    true = np.array([0.2, 0.7, -0.4])
    assert ridge.coefficients[0] == pytest.approx([1, 0, 0])
    for _ in range(600):
        inputs = rng.normal(size=(1, 2, 3, 1, 3))
        target = np.einsum("k,mhkjd->mhjd", true, inputs)
        away = np.einsum("k,mhkjd->mhjd", ridge.coefficients[0], inputs) - target
        error = np.linalg.norm(away, axis=-1)[..., 0]
        ridge.learn(_STEP, inputs, target, error, _BOTH, np.array([1 / 30]))
        ridge.solve()
    assert ridge.coefficients[0] == pytest.approx(true, abs=0.05)
    ridge.forget()
    assert ridge.coefficients[0] == pytest.approx([1, 0, 0])


@pytest.fixture(scope="module")
def windows():
    episode = observe(generate_scene(11, 5.0)).episode
    cut = cut_windows(episode, stream_frames(episode.stamp)[:80], 0.1, 20, 10)
    return single(cut.window)


def _same(a, b) -> bool:
    return torch.equal(a.keypoints, b.keypoints) and torch.equal(a.wrist_rotation, b.wrist_rotation)


def test_the_same_stream_gives_the_same_forecasts_and_the_same_window_twice_the_same(windows):
    one, two = make_forecaster("adaptive"), make_forecaster("adaptive")
    for window in windows[:40]:
        first, second = one.forecast(window), two.forecast(window)
        assert _same(first, second)
    assert _same(one.forecast(windows[39]), first)
    assert _same(one.forecast(windows[40]), two.forecast(windows[40]))


def test_what_was_learned_changes_forecasts_and_goes_with_a_jump_of_the_clock(windows):
    learned, fresh = make_forecaster("adaptive"), make_forecaster("adaptive")
    for window in windows[:79]:
        learned.forecast(window)
    assert not _same(learned.forecast(windows[79]), fresh.forecast(windows[79]))
    back = windows[50]  # the bag begins again
    fresh.reset()
    assert _same(learned.forecast(back), fresh.forecast(back))
    later = replace(windows[51], stamp=windows[51].stamp + 30.0)  # half a minute is missing
    fresh.reset()
    assert _same(learned.forecast(later), fresh.forecast(later))


def test_other_hands_at_the_next_moment_begin_anew(windows):
    learned, fresh = make_forecaster("adaptive"), make_forecaster("adaptive")
    for window in windows[:60]:
        learned.forecast(window)
    elsewhere = replace(windows[60], keypoints=windows[60].keypoints + 0.5 * windows[60].valid[..., None])
    assert _same(learned.forecast(elsewhere), fresh.forecast(elsewhere))


def test_a_new_track_forgets_one_hand_alone(windows):
    forecaster = make_forecaster("adaptive")
    for window in windows[:60]:
        forecaster.forecast(window)
    all_awake = [np.ones((2, len(hedge._log_prior)), dtype=bool) for hedge in forecaster.learner.hedges]
    before = [hedge.weights(awake) for hedge, awake in zip(forecaster.learner.hedges, all_awake)]
    forecaster.forget(1)
    for hedge, weights, awake in zip(forecaster.learner.hedges, before, all_awake):
        now = hedge.weights(awake)
        assert np.array_equal(now[0], weights[0])
        assert now[1] == pytest.approx(np.broadcast_to(np.exp(hedge._log_prior), now[1].shape))


def test_windows_of_a_batch_are_forecast_each_on_its_own(windows):
    forecaster = make_forecaster("adaptive")
    for window in windows[:20]:
        forecaster.forecast(window)
    fields = [k for k, v in vars(windows[0]).items() if isinstance(v, torch.Tensor)]
    some = [windows[i] for i in (70, 20, 75)]
    batch = replace(some[0], prompt=None, **{k: torch.cat([getattr(w, k) for w in some]) for k in fields})
    together = forecaster.forecast(batch)
    two = replace(some[0], prompt=None, **{k: torch.cat([getattr(w, k) for w in some[1:]]) for k in fields})
    assert torch.allclose(together.keypoints[1:], make_forecaster("adaptive").forecast(two).keypoints, atol=1e-12)


def test_hypotheses_are_spread_about_the_average(windows):
    forecaster = make_forecaster("adaptive")
    single_, many = forecaster.forecast(windows[40]), forecaster.forecast(windows[40], hypotheses=5, seed=0)
    assert many.keypoints.shape[1] == 5
    assert torch.allclose(many.keypoints[:, 0], single_.keypoints[:, 0], atol=1e-9)
    assert (many.keypoints[:, 1] - many.keypoints[:, 0]).abs().max() > 1e-3
    shown = many.valid[0, :, 0]
    assert torch.isfinite(many.wrist_covariance[:, 0, :, shown]).all()


def circling(seconds: float = 30.0, rate: float = 20.0) -> Episode:
    """A right wrist that goes round and round."""
    stamp = np.arange(int(seconds * rate)) / rate
    keypoints = np.full((len(stamp), 2, NUM_KEYPOINTS, 3), np.nan)
    turn = 2 * np.pi * stamp / 1.7
    keypoints[:, 1, 0] = np.stack([0.2 * np.cos(turn), 0.15 * np.sin(turn), 0.05 * np.sin(2 * turn)], axis=1)
    return Episode(stamp, keypoints, np.isfinite(keypoints).all(-1))


def test_a_person_who_repeats_is_learned_and_no_naive_forecaster_is_better():
    result = evaluate_stream({"circles": [circling()]}, ["adaptive"], regions=False)
    source = result.sources["circles"]
    assert source.ratio("adaptive", "ADE")[0] < 0.5
    for column in ("0.1 s", "0.3 s", "0.5 s", "1 s"):
        assert source.ratio("adaptive", column)[0] < 0.7


def _alone(wrist: np.ndarray) -> Episode:
    """A right wrist (T, 3) at 30 Hz."""
    keypoints = np.full((len(wrist), 2, NUM_KEYPOINTS, 3), np.nan)
    keypoints[:, 1, 0] = wrist
    return Episode(np.arange(len(wrist)) / 30.0, keypoints, np.isfinite(keypoints).all(-1))


def test_a_short_clip_of_a_hand_that_trembles_is_held_as_well_as_by_the_best_naive_forecaster():
    trembling = np.cumsum(np.random.default_rng(3).normal(scale=2e-3, size=(45, 3)), axis=0)
    source = evaluate_stream({"clip": [_alone(trembling)]}, ["adaptive"], regions=False).sources["clip"]
    for name in ("kalman", "damped"):
        assert source.value(name, "ADE") > 1.1 * source.value("persistence", "ADE")  # moving on does not pay here
    assert source.value("adaptive", "ADE") < 1.03 * source.value("persistence", "ADE")


def test_a_window_without_a_stream_is_judged_by_its_own_past():
    """At first holding still is believed; a hand that went on all the time in its window is taken to go on."""
    time = np.arange(60)[:, None] / 30.0
    steady = _alone(time * [0.4, 0.0, 0.0])
    still = _alone(0.0 * time * [1.0, 1.0, 1.0])
    for episode, moves in ((steady, True), (still, False)):
        window = cut_windows(episode, np.array([58, 59]), 0.1, 20, 10).window
        wrist = make_forecaster("adaptive").forecast(window).keypoints[:, 0, :, 1, 0].numpy()
        gone = np.linalg.norm(wrist[:, 4] - window.keypoints[:, -1, 1, 0].numpy(), axis=-1)
        assert (gone > 0.1).all() if moves else (gone < 1e-6).all()
        alone = make_forecaster("adaptive").forecast(single(window)[0])  # a stream that begins with a whole window
        assert np.linalg.norm(alone.keypoints[0, 0, 4, 1, 0] - wrist[0, 4]) < 0.03


def test_experts_are_named_after_a_colon_beside_those_that_are_there_always():
    forecaster = make_forecaster("adaptive:damped+cvm")
    own = ("persistence", "kalman", "kalman_half", "motion", "motion_half")
    assert forecaster.names == (*own, "damped", "cvm", "mean", "person")
    assert forecaster.finger_names == (*own, "damped", "cvm", "mean")


def test_an_expert_for_images_sleeps_and_costs_nothing_without_them(windows, monkeypatch):
    """Its forecasts are those without it, in shape and hypotheses too."""
    with_, without = make_forecaster("adaptive:egohand-goals"), make_forecaster("adaptive")
    assert with_.spec.images_need_prompt and "images" in with_.spec.modalities
    monkeypatch.setattr(
        with_._others["egohand-goals"], "forecast", lambda *args: pytest.fail("it was asked without images")
    )
    for window in windows[:40]:
        one, other = with_.forecast(window, 3, seed=0), without.forecast(window, 3, seed=0)
    assert one.keypoints.shape == other.keypoints.shape
    assert torch.allclose(one.keypoints, other.keypoints, atol=2e-3)
    assert torch.equal(one.wrist_covariance.isfinite(), other.wrist_covariance.isfinite())
