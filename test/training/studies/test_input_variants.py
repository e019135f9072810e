"""MEgoHand trained without each of its inputs: every variant is made, trained and scored against the whole."""

import pytest
import yaml
from tiny_megohand import TINY

from egohand_ros.config import to_mapping
from egohand_ros.training.studies import input_variants
from egohand_ros.training.studies.study import Study
from egohand_ros.training.windows.goal_windows import see_goals


def in_this_process(first, count, size, spec, progress):
    """What `see_many` gives, without processes of its own."""
    shape = (size, spec.step, spec.window_length, spec.horizon_steps, "depth" in spec.modalities)
    return [see_goals(first + i, *shape) for i in range(count)]


def test_each_variant_is_trained_and_compared_with_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(input_variants, "see_many", in_this_process)
    monkeypatch.setattr(input_variants, "_STRIDE", 30)
    training = {"steps": 2, "batch": 8, "group": 4, "learning_rate": 0.001, "save_every": 2, "validate_every": 100}
    model = to_mapping(TINY) | {"horizon_steps": 10}
    preset = tmp_path / "tiny.yaml"
    preset.write_text(yaml.safe_dump({"forecaster": "megohand", "name": "tiny", "model": model, "training": training}))
    told = []
    report = lambda name, step, steps: told.append(name)  # noqa: E731
    found = input_variants.run(Study(str(preset), tmp_path, 2, 1, 1, device="cpu", report=report))
    assert list(found["rows"]) == list(input_variants.VARIANTS)
    assert found["rows"][input_variants.WHOLE]["MPJPE"] == (1.0, 1.0, 1.0)
    others = [row["MPJPE"][0] for name, row in found["rows"].items() if name != input_variants.WHOLE]
    assert all(ratio > 0.0 for ratio in others) and len(set(others)) > 1
    assert found["baselines"]["persistence"]["MPJPE"] > 0.0 and "without text, seed 1" in told
    assert found["errors"]["without text"][0]["MPJPE"] == pytest.approx(
        found["errors"][input_variants.WHOLE][0]["MPJPE"] * found["rows"]["without text"]["MPJPE"][0]
    )
