"""Records of systems: what they name exists, what they lack is said, and others' are found."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from egohand_ros.errors import UserError
from egohand_ros.forecast import DEFAULT_FORECASTER, registry
from egohand_ros.forecast.registry import make_forecaster, presets, system_of, systems
from egohand_ros.forecast.system import Preset, PublicWeights, Stage, System, resolve


@pytest.fixture
def fresh(monkeypatch):
    """The registry as it is when nothing has been asked for, and as before afterwards."""
    presets()
    monkeypatch.setattr(registry, "_PRESETS", dict(registry._PRESETS))
    monkeypatch.setattr(registry, "_SYSTEMS", dict(registry._SYSTEMS))
    monkeypatch.setattr(registry, "_loaded", False)


def test_every_reference_of_every_record_leads_somewhere():
    for system in systems().values():
        named = [system.config, system.network, system.forecaster, system.spec]
        named += [public.load for public in system.public]
        for stage in system.stages:
            named += [stage.objective] + ([stage.prepare] if stage.prepare else [])
        assert all(callable(resolve(reference)) for reference in named)
        assert hasattr(resolve(system.forecaster), "from_pretrained")


def test_every_preset_says_what_it_needs_and_that_is_what_its_forecaster_says():
    for name in ("egohand-small", "egohand-follow", "kalman", "persistence"):
        told, made = presets()[name].spec(), make_forecaster(name).spec
        assert vars(told) | {"checkpoint_hash": ""} == vars(made) | {"checkpoint_hash": ""}


def test_a_hash_of_weights_is_as_long_as_its_message_says():
    comment = (Path(__file__).resolve().parents[2] / "msg" / "ForecasterInfo.msg").read_text()
    digits = int(re.search(r"checkpoint_hash +# first (\d+) hex digits", comment)[1])
    one = f"[0-9a-f]{{{digits}}}"
    for name in (DEFAULT_FORECASTER, "egohand-small"):
        assert re.fullmatch(rf"{one}(\+{one})*", make_forecaster(name).spec.checkpoint_hash), name
    assert make_forecaster("kalman").spec.checkpoint_hash == ""


def test_stages_are_found_by_name_and_by_what_they_are_trained_on():
    system = system_of("egohand-follow")
    assert system.name == "egohand-small" and system.stage().name == "hands"
    assert system.stage("grounding") == system.stage(trains_on="goals")
    with pytest.raises(UserError, match=r"egghand has no stage that is trained on goals; it has all \("):
        system_of("egghand").stage(trains_on="goals")
    with pytest.raises(UserError, match="egohand-small has no stage 'last'"):
        system.stage("last")


def test_what_a_preset_does_not_take_is_refused(tmp_path):
    with pytest.raises(
        TypeError, match="egohand-small takes no precision; it takes checkpoint, device, goals, untrained"
    ):
        make_forecaster("egohand-small", precision="float16")
    with pytest.raises(UserError, match="egghand has no shipped weights; give checkpoint=FOLDER"):
        make_forecaster("egghand")
    with pytest.raises(UserError, match="action_head= is for new weights"):
        make_forecaster("egghand", checkpoint=tmp_path, action_head=tmp_path)


@dataclass(frozen=True)
class Nothing:
    """A config without fields."""


class Told:
    """A pretended network, forecaster and loader in one: keeps what it was given."""

    def __init__(self, config=None, network=None, preset="", device=""):
        self.network, self.preset, self.read = network, preset, None


def test_the_authors_own_file_is_read_by_the_key_map(fresh, tmp_path):
    (tmp_path / "preset.yaml").write_text("forecaster: told\nname: told\n")
    (tmp_path / "model_v2.ckpt").write_bytes(b"theirs")
    system = System(
        name="told",
        config=Nothing,
        network=lambda config: Told(),
        forecaster=Told,
        spec=lambda config, preset, calibrated=False: None,
        presets=(Preset("told", "of a test", settings=tmp_path / "preset.yaml"),),
        stages=(Stage("all", "everything", Told),),
        public=(PublicWeights("checkpoint", "the authors'", lambda network, path: setattr(network, "read", path)),),
    )
    registry.register_system(system)
    made = make_forecaster("told", checkpoint=tmp_path / "model_v2.ckpt")
    assert made.network.read == tmp_path / "model_v2.ckpt" and made.preset == "told"


def test_a_package_that_cannot_be_imported_is_left_out_with_one_line(fresh, tmp_path, monkeypatch, caplog):
    (tmp_path / "broken.py").write_text("raise OSError('no such library')")
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[egohand_ros.forecasters]\nbroken = broken\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "kalman" in presets()
    assert "forecasters of entry point broken = broken are left out: no such library" in caplog.text
    sys.modules.pop("broken", None)
