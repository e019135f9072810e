"""EggHand's ablations in miniature: every row of the paper's tables is run, and each leaves out what its name says."""

import json

import numpy as np
import pytest
import torch

from egohand_ros.cli.main import main
from egohand_ros.data.windows import cut_windows
from egohand_ros.evaluation.image_and_text_inputs import INPUTS, OURS, Pictures, Seeing, see_story
from egohand_ros.training.studies import ablations
from egohand_ros.training.studies.ablations import INITIALIZED, LOSSES, TABLES

SETTINGS = ["--scenes", "1", "--test-scenes", "1", "--set", "steps=2", "--set", "batch=8", "--device", "cpu"]


@pytest.fixture(scope="module", autouse=True)
def short_scenes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablations, "_DURATION", 6.0)
        patch.setattr("egohand_ros.training.loop._FIT_WINDOWS", 40)
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablations") / "new"
    assert main(["ablate", "--out", str(folder), *SETTINGS]) == 0
    return folder


class Recorder:
    """Remembers what it was shown."""

    def __init__(self, spec):
        self.spec = spec

    def forecast(self, window, hypotheses=1, seed=None):
        self.window = window


@pytest.fixture(scope="module")
def seen():
    return [see_story(1, number, 6.0, 10.0, 28) for number in (0, 1)]


def windows(seen, ends=(25, 40)):
    return cut_windows(seen.scene.episode, np.array(ends), 0.1, 20, 10).window


def test_every_row_of_the_tables_is_there(out):
    content = json.loads((out / "ablations.json").read_text())
    assert {number: tuple(rows) for number, rows in content["tables"].items()} == TABLES
    for rows in content["tables"].values():
        for row in rows.values():
            assert list(row) == ["ADE", "FDE", "MPJPE", "MPJPE-F", "ADE top 10 %", "MPJPE top 10 %"]
            assert all(np.isfinite(list(row.values())))
    assert list(content["baselines"]) == ["persistence", "kalman"] and content["data"]["windows"] == 60 - 29
    assert content["action_head"] == "pretrained on free motion, 2 steps"
    trained = {name: content["tables"]["2"][name]["ADE"] for name in (*LOSSES, OURS)}
    trained[INITIALIZED] = content["tables"]["5"][INITIALIZED]["ADE"]
    assert len(set(trained.values())) == len(trained), "every run is another network"


def written(folder):
    """When the state of each training was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("state.pt")}


def test_a_second_run_goes_on_where_the_first_ended(out, capsys):
    before, weights = (out / "ablations.json").read_text(), written(out)
    assert main(["ablate", "--out", str(out), *SETTINGS]) == 0
    shown = capsys.readouterr()
    assert weights and written(out) == weights, "nothing is trained again"
    assert "3 w. Noisy Vision & Dummy Language" in shown.out and "5 (initialized Action Head)" in shown.out
    after = json.loads((out / "ablations.json").read_text())
    assert after["tables"] == json.loads(before)["tables"]


def test_the_losses_are_those_of_table_2():
    weights = {name: (w.absolute, w.relative, w.pairwise) for name, w in LOSSES.items()}
    assert list(weights.values()) == [(0.6, 0.0, 0.0), (0.6, 0.0, 0.2), (0.6, 0.2, 0.0)]


def test_windows_get_the_pictures_of_their_own_moments(seen):
    from egohand_ros.forecast.registry import untrained

    spec = untrained("egghand-tiny", device="cpu").spec
    shown = Pictures(seen, spec).show(windows(seen[1])).images.numpy()
    assert shown.shape == (2, 4, 28, 37, 3)
    for row, end in enumerate((25, 40)):
        for view, offset in enumerate((-18, -12, -6, 0)):
            assert (shown[row, view] == seen[1].images[end + offset]).all()
    assert (shown[0] != shown[1]).any()


@pytest.mark.parametrize("noisy, dummy", [(False, False), *INPUTS.values()])
def test_inputs_are_replaced_as_table_3_says(seen, noisy, dummy):
    from egohand_ros.forecast.registry import untrained

    spec = untrained("egghand-tiny", device="cpu").spec
    pictures, recorder = Pictures(seen, spec), Recorder(spec)
    words = ["cup", "bottle", "left"]
    window = windows(seen[0])
    Seeing(recorder, pictures, noisy, dummy, words).forecast(window)
    true, shown = pictures.show(window), recorder.window
    assert torch.equal(shown.images, true.images) != noisy and (shown.prompt == true.prompt) != dummy
    assert torch.equal(shown.keypoints, true.keypoints)
    if noisy:
        assert abs(shown.images.double().mean().item() - 127.5) < 3 and shown.images.double().std() > 50
    if dummy:
        assert all(
            set(text.split()) <= set(words) and len(text.split()) == len(window.prompt[0].split())
            for text in shown.prompt
        )


def test_mistakes_are_explained(tmp_path, capsys):
    from egohand_ros.forecast.registry import untrained

    untrained("egohand-small").save_pretrained(tmp_path / "hands")
    for arguments, complaint in (
        (["--preset", "egohand-small", "--model", str(tmp_path / "hands")], "does not look at images"),
        (["--scenes", "0"], "need at least 1"),
        (["--set", "steps"], "expected KEY=VALUE"),
    ):
        assert main(["ablate", "--out", str(tmp_path / "out"), *arguments]) == 2
        assert complaint in capsys.readouterr().err
