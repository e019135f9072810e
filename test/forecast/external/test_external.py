"""A forecaster in a process of its own: what it is asked and answers, and what becomes of one that is dead or slow."""

import json
import shlex
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from egohand_ros.errors import UserError
from egohand_ros.forecast.common.protocol import MissingInput
from egohand_ros.forecast.external.arrays import pack, unpack
from egohand_ros.forecast.external.forecaster import ExternalForecaster
from egohand_ros.forecast.live.continued import ContinuedForecaster
from egohand_ros.forecast.live.runtime import ForecastRuntime
from egohand_ros.forecast.registry import check_forecaster, make_forecaster
from egohand_ros.stream.warmup import example_window

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "external_forecaster" / "mine.py"
COMMAND = f"{sys.executable} {EXAMPLE}"


@pytest.fixture(scope="module")
def example():
    forecaster = make_forecaster(f"external:{COMMAND}")
    yield forecaster
    forecaster.close()


@pytest.fixture
def script(tmp_path):
    """A command of a few lines: `said` is printed for the spec, then the body runs for every forecast."""
    made = []

    def write(body: str, **options) -> ExternalForecaster:
        path = tmp_path / f"script_{len(made)}.py"
        lines = """
            import json, os, sys, time
            for number, line in enumerate(sys.stdin):
                asked = json.loads(line)
                if asked["ask"] == "spec":
                    print("a library greets", flush=True)
                    print(json.dumps({"name": "script", "needs": [["images", "script needs images"]]}), flush=True)
                    continue
        """
        path.write_text(textwrap.dedent(lines) + textwrap.indent(textwrap.dedent(body), "    "))
        made.append(ExternalForecaster(f"{sys.executable} {path}", **options))
        return made[-1]

    yield write
    for forecaster in made:
        forecaster.close()


def test_the_example_forecasts_in_its_own_process(example):
    window = example_window(example.spec)
    given = example.forecast(window)
    assert example.spec.name == "mine" and given.keypoints.shape == (1, 1, 10, 2, 21, 3)
    step = (window.keypoints[:, -1] - window.keypoints[:, -2])[:, None]
    assert np.allclose(given.keypoints[:, :, 0], window.keypoints[:, -1, None] + 0.8 * step)
    assert given.wrist_rotation.isfinite().all() and given.valid.all()


def test_it_is_a_forecaster_like_any_other_and_runs_warm():
    check_forecaster(f"external:{COMMAND}")
    runtime = ForecastRuntime(f"external:{COMMAND}")
    assert runtime.load().valid.all() and runtime.spec.name == "mine"
    with pytest.raises(UserError, match="without a command"):
        make_forecaster("external:")
    with pytest.raises(UserError, match="'no/such/thing' cannot be run: No such file"):
        make_forecaster("external:no/such/thing")


def test_arrays_go_there_and_back_as_they_are():
    given = {"a": np.arange(6, dtype=np.uint8).reshape(2, 3), "b": np.array([[np.nan, 1.5]])}
    back = unpack(pack(given))
    assert all(np.array_equal(back[name], value, equal_nan=name == "b") for name, value in given.items())
    with pytest.raises(ValueError, match="no .npz"):
        unpack("bm8=")


@pytest.mark.parametrize(
    "body, said",
    [
        ("sys.exit('weights are missing')", r"ended with status 1: weights are missing$"),
        ("os.kill(os.getpid(), 9)", "ended with status -9$"),
        ("time.sleep(60)", "gave no answer within 0.5 s$"),
        ("print('{broken', flush=True)", "said what is no JSON: '{broken'$"),
        ("print(json.dumps({'error': 'out of\\nmemory'}), flush=True)", "says: out of memory$"),
        ("print(json.dumps({'keypoints': [[1, 2]]}), flush=True)", r"keypoints of shape \(1, 2\); expected \(1, K, 10"),
        ("print(json.dumps({'npz': 'xx'}), flush=True)", "answered no .npz in base64"),
        ("print(json.dumps({}), flush=True)", "answered no keypoints$"),
    ],
)
def test_one_that_fails_is_one_line(script, body, said):
    forecaster = script(body, timeout=0.5 if "sleep" in body else 30.0)
    window = example_window(forecaster.spec.__class__("x", modalities=("keypoints", "images"), image_offsets=(0,)))
    with pytest.raises(UserError, match=said) as told:
        forecaster.forecast(window)
    assert "\n" not in str(told.value) and str(told.value).startswith("external command ")


def test_one_that_died_is_started_again_but_not_at_once(script):
    forecaster = script("sys.exit(3)")
    window = example_window(forecaster.spec.__class__("x", modalities=("keypoints", "images"), image_offsets=(0,)))
    with pytest.raises(UserError, match="ended with status 3$"):
        forecaster.forecast(window)
    with pytest.raises(UserError, match="ended with status 3; it is tried again in"):
        forecaster.forecast(window)
    assert forecaster._process.starts == 1
    forecaster._process._rest = 0.0
    with pytest.raises(UserError, match="ended with status 3$"):
        forecaster.forecast(window)
    assert forecaster._process.starts == 2


SLOW = """
import io, json, os, sys, time
said = json.loads(sys.argv[1])
for number, line in enumerate(sys.stdin):
    if number > 3 and os.path.exists(sys.argv[2]):
        sys.exit("weights are gone")
    asked = json.loads(line)["ask"]
    if asked == "forecast":
        time.sleep(0.05)
    hands = {"keypoints": [[[[[[0.0, 0.0, 0.0]] * 21] * 2]]]}
    print(json.dumps({"name": "late", "horizon_steps": 1, **said} if asked == "spec" else hands), flush=True)
"""


@pytest.mark.parametrize("said, beside", [({}, True), ({"slow": True}, True), ({"slow": False}, False)])
def test_one_that_is_slower_than_the_stream_works_beside_it(tmp_path, said, beside):
    path = tmp_path / "late.py"
    path.write_text(SLOW)
    command = shlex.join([sys.executable, str(path), json.dumps(said), str(tmp_path / "gone")])
    live = ForecastRuntime(f"external:{command}", device="cpu", background=True)
    try:
        assert live.load().valid.all() and (live.age is not None) == beside
    finally:
        live.close()


def test_one_that_dies_beside_the_stream_is_one_line_for_who_asks(tmp_path):
    path = tmp_path / "late.py"
    path.write_text(SLOW)
    forecaster = ExternalForecaster(shlex.join([sys.executable, str(path), '{"slow": true}', str(tmp_path / "gone")]))
    beside, window = ContinuedForecaster(forecaster), example_window(forecaster.spec)
    try:
        assert beside.forecast(window).valid.all()
        (tmp_path / "gone").touch()
        told = ""
        for number in range(1, 10_000):
            try:
                beside.forecast(replace(window, stamp=window.stamp + 1e-4 * number))
            except UserError as error:
                told = str(error)
                break
            time.sleep(0.01)
        assert "weights are gone" in told and "\n" not in told
    finally:
        forecaster.close()


def test_what_it_needs_is_said_before_it_is_asked(script):
    forecaster = script("sys.exit('must not be asked')")
    with pytest.raises(MissingInput, match="^script needs images$"):
        forecaster.forecast(example_window(forecaster.spec))


@pytest.mark.parametrize(
    "answer, said",
    [
        ({}, "expected at least a name"),
        ({"name": "x", "rate": 3}, "unknown rate; known: name, step"),
        ({"name": "x", "gives": ["tail"]}, "gives has tail; known: wrist_position"),
        ({"name": "x", "step": -1.0}, "have to be positive"),
    ],
)
def test_a_wrong_spec_is_one_line(tmp_path, answer, said):
    path = tmp_path / "spec.py"
    path.write_text(f"input()\nprint({__import__('json').dumps(answer)!r}, flush=True)\ninput()\n")
    with pytest.raises(UserError, match=said):
        ExternalForecaster(f"{sys.executable} {path}")
