"""`egohand train` as a user calls it: train, fine-tune on a recording, evaluate the result; and the mistakes one can
make."""

import json
import time

import forked_training
import numpy as np
import pytest
import torch

from egohand_ros.cli.main import main
from egohand_ros.data.episode import Episode
from egohand_ros.data.synthetic import generate_scene, observe
from egohand_ros.forecast.registry import from_pretrained, make_forecaster
from egohand_ros.training.checkpoint import read_log
from egohand_ros.training.session import trained_on

pytestmark = pytest.mark.usefixtures("quickly_fitted")

FAST = [
    f"--set={setting}"
    for setting in (
        "steps=8",
        "batch=16",
        "group=8",
        "buffer=1",
        "reuse=1",
        "save_every=4",
        "validate_every=8",
        "precision=float32",
    )
]


@pytest.fixture(scope="module")
def small_preset(tmp_path_factory) -> str:
    """egohand-small, much smaller, as a .yaml file of one's own."""
    path = tmp_path_factory.mktemp("preset") / "mine.yaml"
    path.write_text(
        "forecaster: egohand-small\nname: mine\n"
        "model: {width: 32, layers: 1, flow_layers: 1, observation_width: 8}\n"
        "training: {steps: 100, batch: 32, learning_rate: 0.001, loss: {flow: 0.01, deviation: 0.005}}\n"
        "finetune: {learning_rate: 0.0001}\n"
    )
    return str(path)


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("recording") / "mine.npz"
    observe(generate_scene(5, 40.0)).episode.save(path)
    return str(path)


def test_train_fine_tune_and_evaluate(small_preset, recording, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("egohand_ros.training.session._VALIDATION_SCENES", 1)
    out = tmp_path / "first"
    assert main(["train", small_preset, "--synthetic", "2", "--out", str(out), "--device", "cpu", *FAST]) == 0
    shown = capsys.readouterr().out
    assert "mine" in shown and "kalman" in shown and str(out / "model") in shown
    summary = json.loads((out / "training.json").read_text())
    assert summary["training"]["steps"] == 8 and summary["data"]["synthetic"] == 2
    assert json.loads((out / "model" / "calibration.json").read_text())["samples"] > 100

    tuned = tmp_path / "tuned"
    command = [
        "train",
        small_preset,
        "--init",
        str(out / "model"),
        "--data",
        recording,
        "--out",
        str(tuned),
        "--device",
        "cpu",
    ]
    assert main([*command, *FAST]) == 0
    log = [json.loads(line) for line in (tuned / "log.jsonl").read_text().splitlines()]
    assert len(log) == 8 and log[0]["rate"] <= 1e-4, "the preset's finetune settings hold"
    told = json.loads((tuned / "training.json").read_text())
    shares, errors = zip(*told["errors_by_share_kept"].items())
    assert sorted(shares) == ["0.0", "0.25", "0.5", "0.75", "1.0"] and list(errors) == sorted(errors)
    assert (told["weights"] == summary["weights"]) == (shares[0] == "0.0")
    assert "of what fine-tuning changed" in capsys.readouterr().out

    bag, dataset, again = (str(tmp_path / name) for name in ("bag", "dataset", "again"))
    assert main(["convert", recording, bag]) == 0 and main(["convert", bag, dataset, "--to", "lerobot"]) == 0
    command[command.index(recording)], command[command.index(str(tuned))] = dataset, again
    assert main([*command, *FAST]) == 0
    assert make_forecaster(f"{again}/model").spec.calibrated, "what the node makes of its parameter `forecaster`"

    result = tmp_path / "errors.json"
    assert main(["evaluate", recording, "--forecaster", f"{tuned / 'model'},kalman", "--json", str(result)]) == 0
    assert set(json.loads(result.read_text())["forecasters"]) == {str(tuned / "model"), "kalman"}
    assert f"{tuned / 'model'} was trained on {recording}" in capsys.readouterr().err
    assert trained_on(str(tuned / "model"), [bag]) == [] == trained_on("kalman", [recording])


def test_fine_tuning_that_spoils_the_weights_is_not_kept(small_preset, recording, tmp_path, capsys):
    command, first, tuned = (
        ["train", small_preset, "--data", recording, "--device", "cpu"],
        tmp_path / "first",
        tmp_path / "tuned",
    )
    assert main([*command, "--out", str(first), *FAST]) == 0
    spoilt = [
        "--init",
        str(first / "model"),
        "--out",
        str(tuned),
        *FAST,
        "--set",
        "learning_rate=10",
        "--set",
        "ema=0.0",
    ]
    assert main([*command, *spoilt]) == 0
    assert "kept 0% of what fine-tuning changed" in capsys.readouterr().out
    before, after = (from_pretrained(folder / "model").network.state_dict() for folder in (first, tuned))
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["nobody", "--synthetic", "1"],
            "no preset 'nobody'; shipped presets: egghand, egghand-hf, egghand-tiny, egoh4, egoh4-small, "
            "egohand-follow, egohand-small, egoman, egoman-small, egomotion, egomotion-small, forehand4d, "
            "forehand4d-small, megohand, megohand-small, usst, usst-small",
        ),
        (["egohand-small"], "nothing to train on"),
        (["egohand-small", "--data", "/nonexistent"], "does not exist"),
        (["egoman-small", "--goals-from", "3"], "--goals-from 3 is of the scenes of --goals; give --goals N too"),
        (["egoman-small", "--goals", "1", "--goals-from", "-3"], "--goals-from -3: expected 0 or more"),
        (["egohand-small", "--synthetic", "1", "--set", "steps"], "expected KEY=VALUE"),
        (["egohand-small", "--synthetic", "1", "--set", "stepz=3"], "unknown key 'stepz'"),
        (["egohand-small", "--synthetic", "1", "--set", "steps=many"], "expected a whole number"),
        (["egohand-small", "--synthetic", "1", "--init", "/nonexistent"], "is unknown"),
        (["egohand-small", "--synthetic", "1", "--device", "cpu", "--set", "precision=float16"], "float16 needs a GPU"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_are_told_in_one_line(arguments, said, tmp_path, capsys):
    assert main(["train", *arguments, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert said in told and told.startswith("egohand: ") and told.count("\n") == 1


def test_a_recording_too_short_to_train_on_is_said(tmp_path, capsys):
    path = tmp_path / "short.npz"
    episode: Episode = generate_scene(5, 2.0).episode
    episode.save(path)
    assert main(["train", "egohand-small", "--data", str(path), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 2
    assert "recordings longer than 3.5 s" in capsys.readouterr().err


def test_a_recording_too_short_to_hold_some_back_is_said_before_training(tmp_path, capsys):
    generate_scene(5, 11.0).episode.save(tmp_path / "short.npz")
    command = [
        "train",
        "egohand-small",
        "--data",
        str(tmp_path / "short.npz"),
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
    ]
    assert main(command) == 2
    assert (
        "1.6 s of the longest recording would be held back, and a window needs 3 s; give one of at least 12 s"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def test_training_killed_at_any_moment_leaves_no_damaged_checkpoint(small_preset, recording, tmp_path):
    out = tmp_path / "out"
    words = ["train", small_preset, "--data", recording, "--out", str(out), "--device", "cpu", *FAST]
    words += ["--set=save_every=1", "--set=validate_every=1000", "--set=steps=1000"]
    rng = np.random.default_rng(5)
    for lines in (2, 5, 9):
        process = forked_training.start(forked_training.command, words)
        until(lambda lines=lines: len(read_log(out)) >= lines or process.exitcode is not None)
        time.sleep(rng.uniform(0.0, 0.03))
        process.kill()
        process.join()
        assert process.exitcode == -9
        state = torch.load(out / "state.pt", map_location="cpu", weights_only=True)
        assert state["step"] >= lines - 2, "what was saved before is not lost"
        assert not (out / "model").exists(), "a model is there once it is trained"


def until(condition, timeout=120.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.01)


SYSTEMS = {
    "egoh4": "model: {width: 16, heads: 2, layers: 1, low: -2.0, high: 2.0, sampling_steps: 2, body: false}",
    "usst": "model: {width: 16, hidden: 16, latent: 4, layers: 1, heads: 2, backbone: none, focal_scale: 0.4}",
}


@pytest.mark.parametrize(("system", "protocol"), [("egoh4", "egoexo4d"), ("usst", "usst")])
def test_systems_of_others_are_trained_and_evaluated(system, protocol, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("egohand_ros.training.session._VALIDATION_SCENES", 1)
    preset, out, held_back = tmp_path / "mine.yaml", tmp_path / "out", tmp_path / "other.npz"
    preset.write_text(
        f"forecaster: {system}\nname: mine\n{SYSTEMS[system]}\n"
        "training: {steps: 8, batch: 16, learning_rate: 0.001, augmentation: {camera_lost: 0.0}}\n"
    )
    assert main(["train", str(preset), "--synthetic", "1", "--out", str(out), "--device", "cpu", *FAST]) == 0
    capsys.readouterr()
    episode = generate_scene(6, 8.0).episode
    episode.save(held_back)
    command = ["evaluate", "--forecaster", f"{out / 'model'},persistence", "--protocol", protocol]
    assert main([*command, str(held_back), "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())["forecasters"]
    assert len(found) == 2 and all(0.0 < metrics["ADE"] < 10.0 for metrics in found.values())
    Episode(episode.stamp, episode.keypoints, episode.valid).save(held_back)
    assert main([*command, str(held_back)]) == 2
    said = capsys.readouterr().err.strip()
    assert "needs camera poses" in said and "\n" not in said
