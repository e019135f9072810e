"""Fine-tuning `adaptive`: it learns whom to believe, keeps no change of weights that does not help, and what it wrote
is a forecaster.
"""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from egohand_ros.cli.main import main
from egohand_ros.data.episode import Episode
from egohand_ros.data.synthetic.free_motion import generate_free_motion
from egohand_ros.data.windows import cut_windows
from egohand_ros.errors import UserError
from egohand_ros.evaluation.stream import evaluate_stream
from egohand_ros.forecast.adaptive.beliefs import FILE, given_beliefs, read_beliefs
from egohand_ros.forecast.registry import make_forecaster, options_of
from egohand_ros.training import motion_beliefs, motion_tuning


def trembling(seed: int, seconds: float = 2.5) -> Episode:
    """Hands that stay where they are, by a tracker that is 4 mm off."""
    rng, still = np.random.default_rng(seed), generate_free_motion(seed, seconds)
    keypoints = np.repeat(still.keypoints[:1], len(still), axis=0)
    noise = rng.normal(0.0, 0.004, (len(still), 2, 1, 3))
    return replace(still, keypoints=keypoints + noise, wrist_rotation=None, pixels=None)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """What the command wrote of three recordings, and the recordings."""
    folder = tmp_path_factory.mktemp("tuned")
    paths = [folder / f"{i}.npz" for i in range(3)]
    for i, path in enumerate(paths):
        trembling(i).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(motion_tuning, "STEPS", 4)
        patch.setattr(motion_tuning.tune, "__defaults__", (*motion_tuning.tune.__defaults__[:-1], 0.0))
        assert main(["train", "adaptive", "--data", *map(str, paths), "--out", str(folder / "out")]) == 0
    return folder / "out", paths


def test_the_last_place_of_hands_that_tremble_is_believed_less(tuned):
    beliefs = read_beliefs(tuned[0] / "model" / FILE)[0]["wrist"]
    told = np.stack(list(beliefs.values()))
    assert told.sum(axis=0) == pytest.approx(1.0, abs=1e-4)
    # Whatever averages over the window is nearer to what comes than the last place, which trembles too.
    before = dict(zip(beliefs, given_beliefs(tuple(beliefs), ()), strict=True))
    assert (beliefs["persistence"] < 0.5 * before["persistence"]).all()
    assert (told >= 0.99 * motion_beliefs.KEPT_BELIEF * np.array(list(before.values()))[:, None]).all()


def test_what_was_learned_forecasts_others_of_their_kind_better_from_the_start(tuned):
    forecasters = {"adaptive": make_forecaster("adaptive"), "tuned": make_forecaster(tuned[0] / "model")}
    source = evaluate_stream({"others": [trembling(10), trembling(11)]}, forecasters, regions=False).sources["others"]
    assert source.ratio("tuned", "ADE", "adaptive")[0] < 0.97


def test_the_folder_is_a_forecaster_that_says_what_it_has_seen(tuned, capsys):
    folder, paths = tuned
    assert options_of(str(folder / "model")) == options_of("adaptive") - {"checkpoint"}
    seen = json.loads((folder / "training.json").read_text())
    assert len(seen["seen"]) == 3 and set(seen["kept"]) == {"wrist", "rotation", "fingers"}
    assert all(kept == 0.0 or errors[str(kept)] < 1.0 for kept, errors in zip(
        seen["kept"].values(), seen["errors_by_share_kept"].values(), strict=True))  # fmt: skip
    assert main(["evaluate", str(paths[0]), "--forecaster", str(folder / "model"), "--stream", "--json", "-"]) == 0
    assert "was trained on" in capsys.readouterr().err


def test_beliefs_leave_room_for_further_experts_and_fit_the_horizon(tuned):
    named = {"experts": "persistence+kalman+damped", "checkpoint": tuned[0] / "model"}
    more = make_forecaster("adaptive", **named)
    place = more.names.index("damped")
    given = make_forecaster("adaptive", experts=named["experts"]).beliefs[0]
    assert more.beliefs[0][place] == pytest.approx(given[place]) and more.beliefs[0].sum(axis=0) == pytest.approx(1.0)
    window = cut_windows(trembling(20), np.array([60]), 0.1, 20, 10).window
    assert np.isfinite(more.forecast(window).keypoints.numpy()).all()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda told: told["wrist"].pop("person"), "expected persistence"),
        (lambda told: told.pop("wrist"), "holds no beliefs"),
        (lambda told: told["fingers"].update(mean=[0.0] * 10), "above 0"),
        (lambda told: told["fingers"].update(mean=[0.1] * 9), "at 10"),
    ],
)
def test_beliefs_of_something_else_are_refused(tuned, tmp_path, spoil, said):
    folder = tmp_path / "model"
    shutil.copytree(tuned[0] / "model", folder)
    told = json.loads((folder / FILE).read_text())
    spoil(told)
    (folder / FILE).write_text(json.dumps(told))
    with pytest.raises(UserError, match=said):
        make_forecaster(folder)


def test_recordings_too_short_to_teach_anything_are_refused(tuned, tmp_path, capsys):
    assert main(["train", "adaptive", "--data", *map(str, tuned[1]), "--out", str(tmp_path / "out")]) == 2
    assert "give 15 s or more" in capsys.readouterr().err and not (tmp_path / "out" / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to learn from"),
        (["--data", "x.npz", "--synthetic", "2"], "--data alone"),
        (["--data", "/nonexistent"], "does not exist"),
        (["--data", "x.npz", "--init", "/nonexistent"], "has no model.safetensors"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_are_told_in_one_line(arguments, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", stamp=np.zeros(1))
    assert main(["train", "adaptive", *arguments, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert said in told and told.startswith("egohand: ") and told.count("\n") == 1
