"""The examples, run as they are."""

import runpy
import sys
from pathlib import Path

import pytest

from egohand_ros.forecast import registry

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name: str, *arguments: str) -> None:
    runpy.run_path(str(next(EXAMPLES.glob(f"{name}_*.py"))))["main"](*arguments)


def test_there_are_five_in_order():
    assert [path.name[:2] for path in sorted(EXAMPLES.glob("*.py"))] == ["01", "02", "03", "04", "05"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("01", "right wrist in 1.0 s"),
        ("02", "egohand-small   ADE"),
        ("03", "hands: ability_left"),
        ("04", "90 % region reaches"),
    ],
)
def test_an_example_runs(name, said, capsys):
    run(name)
    assert said in capsys.readouterr().out


@pytest.fixture
def restored(monkeypatch):
    """The registry and what is imported are as before, afterwards."""
    registry.presets()
    monkeypatch.setattr(registry, "_PRESETS", dict(registry._PRESETS))
    monkeypatch.setattr(registry, "_SYSTEMS", dict(registry._SYSTEMS))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "wrist_mlp"]:
        del sys.modules[name]


@pytest.mark.usefixtures("quickly_fitted")
def test_a_forecaster_of_ones_own_is_trained_and_compared(tmp_path, capsys, monkeypatch, restored):
    monkeypatch.setattr("egohand_ros.training.session._VALIDATION_SCENES", 1)
    run("05", str(tmp_path / "out"), "10", "2")
    shown = capsys.readouterr().out
    assert "wrist-mlp" in shown and "wrist-mlp    ADE" in shown
