"""Claims of papers in miniature: every variant is trained, scored and judged, and what is judged is what it says."""

import json

import numpy as np
import pytest
import torch
import yaml

from egohand_ros.cli.main import main
from egohand_ros.data.synthetic import generate_scene
from egohand_ros.data.synthetic.body import seated_body
from egohand_ros.data.synthetic.goals import generate_choice_scene
from egohand_ros.data.windows import cut_windows
from egohand_ros.forecast.egoh4.inputs import BODY_NAMES
from egohand_ros.forecast.forehand4d.inputs import hands_in_frame
from egohand_ros.forecast.registry import untrained, values_of
from egohand_ros.hand.skeleton import RIGHT, WRIST
from egohand_ros.training.objectives.egoh4 import EgoH4Objective
from egohand_ros.training.objectives.forehand4d import labels_of
from egohand_ros.training.studies.claims import egoh4, forehand4d, usst
from egohand_ros.training.studies.claims.bones import hands_of_bones
from egohand_ros.training.studies.judging import EARLY, FAILS, HOLDS, OPEN, SAME, Claim, judged
from egohand_ros.training.studies.study import Study, Variant
from egohand_ros.training.windows.augment import mirror

TINY = {
    "egoh4": {"width": 16, "layers": 1, "heads": 2, "steps": 20, "sampling_steps": 2},
    "usst": {"frames": 10, "width": 16, "hidden": 16, "latent": 4, "layers": 1, "heads": 2},
    "forehand4d": {"frames": 8, "width": 16, "layers": 1, "heads": 2, "feed_forward": 16, "horizon_steps": 7},
}


def tiny(system: str, folder) -> str:
    """A preset whose every training takes two steps."""
    values = values_of(f"{system}-small")
    training = values["training"] | {"steps": 2, "batch": 8, "group": 4, "buffer": 1, "reuse": 1, "save_every": 2}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(values | {"model": values["model"] | TINY[system], "training": training}))
    return str(path)


@pytest.mark.parametrize("system, module", [("egoh4", egoh4), ("usst", usst), ("forehand4d", forehand4d)])
def test_every_variant_is_trained_and_every_claim_judged(system, module, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "_DURATION", 8.0)
    command = ["ablate", "--system", system, "--preset", tiny(system, tmp_path), "--scenes", "2", "--test-scenes", "2"]
    command += ["--seeds", "1", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    told = json.loads((tmp_path / "out" / "claims.json").read_text())
    assert [claim["name"] for claim in told["claims"]] == [claim.name for claim in module.CLAIMS]
    for claim in told["claims"]:
        sides = [told["rows"][name][metric]["mean"] for name, metric in (claim["whole"], claim["without"])]
        assert claim["ratio"][0] == pytest.approx(sides[0] / sides[1], rel=1e-6)
        assert claim["verdict"] in (EARLY, HOLDS, FAILS, OPEN, SAME)
    errors = [row[next(iter(row))]["mean"] for row in told["rows"].values()]
    assert len(set(errors)) == len(errors), "each variant trains another network"
    assert "claims: below 1 is as the paper has it" in capsys.readouterr().out
    states = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("state.pt")}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("state.pt")} == states, "nothing is trained again"


def test_a_preset_of_another_system_is_one_line(tmp_path, capsys):
    command = ["ablate", "--system", "usst", "--preset", "egoh4-small", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "preset 'egoh4-small' is not of USST, whose claim this is" in capsys.readouterr().err


def test_what_cannot_be_set_is_said_before_anything_is_made(tmp_path, capsys):
    command = ["ablate", "--system", "usst", "--set", "all.stepz=3", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "stepz" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_change_of_one_stage_leaves_the_others_as_they_are(tmp_path):
    study = Study("egomotion-small", tmp_path, 1, 1, 1, ("steps=7", "reason.steps=5"))
    assert [study.settings(3, stage=stage).steps for stage in ("tokenizer", "reason", "joint")] == [7, 5, 7]
    assert study.settings(3).seed == 3 and study.settings(3, Variant(loss={})).loss == study.settings().loss


def test_verdicts_follow_the_interval(tmp_path):
    rng = np.random.default_rng(0)
    scenes = rng.uniform(0.9, 1.1, 40)
    found = {name: [{"m": factor * scenes}] * 3 for name, factor in (("half", 0.5), ("one", 1.0), ("two", 2.0))}
    found["shuffled"] = [{"m": rng.permutation(scenes)} for _ in range(3)]
    pairs = (("half", "one"), ("two", "one"), ("one", "one"), ("shuffled", "one"))
    claims = [Claim("", (above, "m"), (below, "m")) for above, below in pairs]
    claims += [Claim("", ("half", "m"), ("one", "m"), "", bar) for bar in ("reached", "missed")]
    content = judged(Study("usst-small", tmp_path, 1, 1, 3), found, claims, {"reached": 0.6, "missed": 0.4})
    assert [claim["verdict"] for claim in content["claims"]] == [HOLDS, FAILS, SAME, OPEN, HOLDS, EARLY]
    assert content["claims"][0]["ratio"] == pytest.approx([0.5] * 3)
    assert content["rows"]["half"]["m"]["mean"] == pytest.approx(0.5 * scenes.mean())


def test_two_futures_are_one_until_the_gaze_goes():
    left, right = (generate_choice_scene(5, goal) for goal in range(2))
    before = int(left.begin * left.scene.rate)
    assert np.array_equal(left.scene.keypoints[: before + 1], right.scene.keypoints[: before + 1])
    assert np.array_equal(left.scene.T_world_camera[: before + 1], right.scene.T_world_camera[: before + 1])
    for scene, goal in ((left, 0), (right, 1)):
        wrist = scene.scene.keypoints[:, RIGHT, WRIST]
        away = np.linalg.norm(wrist[-1] - scene.places, axis=-1)
        assert away[goal] < away[1 - goal] - 0.05


def test_labels_give_back_hands_of_their_own_bones():
    hands = hands_of_bones()
    rng = np.random.default_rng(1)
    pose = torch.from_numpy(rng.normal(0.0, 0.3, (1, 6, 2, 16, 3))).float()
    place = torch.from_numpy(rng.normal([0.0, 0.0, 0.4], 0.1, (1, 6, 2, 3))).float()
    made = torch.stack([hands[side](pose[:, :, i], None, place[:, :, i]).keypoints for i, side in enumerate(hands)], 2)
    labels = labels_of(
        made.double().numpy(), np.ones(made.shape[:-1], bool), np.eye(4)[None], torch.nn.ModuleDict(hands)
    )
    back = hands_in_frame(labels.state, hands, torch.eye(4)[None]).keypoints
    assert labels.valid.all() and (back - made).abs().max() < 1e-4


def test_a_body_is_cut_mirrored_and_learned():
    scene = generate_scene(3, 6.0)
    body, names = seated_body(scene)
    assert sorted(names) == sorted(BODY_NAMES)
    episode = type(scene.episode)(**vars(scene.episode) | {"body": body, "body_names": names})
    forecaster = untrained("egoh4-small")
    spec = forecaster.spec
    cut = cut_windows(episode, np.array([70, 90]), spec.step, spec.window_length, spec.horizon_steps)
    assert np.allclose(cut.body[:, spec.window_length - 1], body[[70, 90]], atol=1e-9)
    batch = EgoH4Objective(forecaster, EgoH4Objective.Weights()).prepare([cut])
    assert batch["known"].all()
    flipped = mirror(cut)
    left, right = names.index("left_elbow"), names.index("right_elbow")
    assert np.allclose(flipped.body[:, :, left], cut.body[:, :, right] * [1.0, -1.0, 1.0])
    assert np.allclose(mirror(flipped).body, cut.body)
    bare = EgoH4Objective(forecaster, EgoH4Objective.Weights()).prepare(
        [cut_windows(scene.episode, np.array([70]), spec.step, spec.window_length, spec.horizon_steps)]
    )
    assert not bare["known"][:, :, : len(BODY_NAMES)].any() and bare["known"][:, :, len(BODY_NAMES) :].all()
