"""A learned forecaster in one new folder, and one in a package of its own: each trains, is evaluated and runs in the
node, and no other file knows of it. The forecaster is that of the examples.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from egohand_ros import forecast
from egohand_ros.cli.main import main
from egohand_ros.data.synthetic import generate_scene
from egohand_ros.forecast import registry

SOURCE = Path(__file__).resolve().parents[2] / "examples" / "wrist_mlp"
FAST = [f"--set={s}" for s in ("steps=4", "batch=16", "group=8", "buffer=1", "reuse=1", "validate_every=4")]


@pytest.fixture
def fresh(monkeypatch):
    """The registry looks for records again, and forgets what it found afterwards."""
    registry.presets()
    monkeypatch.setattr(registry, "_PRESETS", dict(registry._PRESETS))
    monkeypatch.setattr(registry, "_SYSTEMS", dict(registry._SYSTEMS))
    monkeypatch.setattr(registry, "_loaded", False)
    yield
    for name in [name for name in sys.modules if "wrist_mlp" in name]:
        del sys.modules[name]


@pytest.fixture(params=["folder", "package"])
def own(request, fresh, tmp_path, monkeypatch):
    """Puts the forecaster beside the shipped ones, or installs it as a package with an entry point."""
    if request.param == "folder":
        shutil.copytree(SOURCE / "wrist_mlp", tmp_path / "forecast" / "wrist_mlp")
        monkeypatch.setattr(forecast, "__path__", [*forecast.__path__, str(tmp_path / "forecast")])
        return
    source, site = shutil.copytree(SOURCE, tmp_path / "source"), tmp_path / "site"
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--quiet", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True)
    monkeypatch.syspath_prepend(site)


@pytest.mark.usefixtures("quickly_fitted")
def test_a_forecaster_of_ones_own_trains_is_evaluated_and_runs(own, driver, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("egohand_ros.training.session._VALIDATION_SCENES", 1)
    out, recording, errors = (str(tmp_path / name) for name in ("out", "episode.npz", "errors.json"))
    generate_scene(0, 5.0).episode.save(recording)
    assert main(["forecasters"]) == 0 and "wrist-mlp" in capsys.readouterr().out

    assert main(["train", "wrist-mlp", "--synthetic", "2", "--out", out, "--device", "cpu", *FAST]) == 0
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert len(log) == 4 and all(line["loss"] > line["wrist"] > 0 for line in log), "its own objective and weights"

    model = f"{out}/model"
    assert main(["evaluate", recording, "--forecaster", f"{model},persistence", "--json", errors]) == 0
    told = json.loads(Path(errors).read_text())["forecasters"]
    assert told[model]["ADE"] != told["persistence"]["ADE"]

    d = driver(forecaster="wrist-mlp", checkpoint=model)
    futures = d.history()
    assert futures.model_id.startswith("wrist-mlp@") and len(futures.step_times) == 10
