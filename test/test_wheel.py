"""`pip install` of a wheel, in an environment of its own with no checkout and no ROS: the offline commands work."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from egohand_ros.robot.hands.library import list_hands

ROOT = Path(__file__).resolve().parents[1]
OURS = ("egohand_ros", "__editable__", "__pycache__")  # how the entries of this package's own install begin


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A new environment with the wheel, outside the repository; the packages that it needs are links to those here."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(
        ".*", "build", "install", "log", "out", "docs", "test", "*.egg-info", "__pycache__"
    )
    source = shutil.copytree(ROOT, folder / "source", ignore=ignored)  # a build leaves its own files beside the sources
    pip = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check"]
    run(*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    shutil.rmtree(source)
    environment = folder / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    run(*pip, "--python", environment / "bin" / "python", "install", "--quiet", "--no-deps", *folder.glob("*.whl"))
    packages = folder / "packages"
    packages.mkdir()
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(place).iterdir():
            if not entry.name.startswith(OURS) and entry.suffix != ".pth" and not (packages / entry.name).exists():
                (packages / entry.name).symlink_to(entry)
    site_packages = next(environment.glob("lib/python3.*/site-packages"))
    (site_packages / "packages.pth").write_text(f"{packages}\n")
    return environment


def run(*command, **options) -> str:
    """What a command prints, run without any variable of ROS or of this environment."""
    variables = {name: os.environ[name] for name in ("PATH", "HOME", "OMP_NUM_THREADS") if name in os.environ}
    done = subprocess.run([*map(str, command)], env=variables, capture_output=True, text=True, timeout=240, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def egohand(installed, tmp_path):
    return lambda *arguments: run(installed / "bin" / "egohand", *arguments, cwd=tmp_path)


def test_what_is_imported_is_the_wheel_alone(installed, tmp_path):
    code = "import egohand_ros, egohand_ros.shipped as s; print(egohand_ros.__path__, s.config_folder())"
    paths = run(installed / "bin" / "python", "-c", code, cwd=tmp_path)
    assert str(ROOT) not in paths and paths.count(str(installed)) == 2, paths
    package = next(installed.glob("lib/python3.*/site-packages/egohand_ros"))
    assert (package / "py.typed").is_file()
    shipped = {path.relative_to(ROOT / "config") for path in (ROOT / "config").rglob("*") if path.is_file()}
    assert shipped == {p.relative_to(package / "shipped_config") for p in package.rglob("shipped_config/**/*.*")}


def test_the_hands_are_there(egohand):
    listing = egohand("hands")
    assert all(name in listing for name in list_hands())


def test_shared_recordings_are_evaluated_and_retargeted(egohand, shared_data, tmp_path):
    recording = next((shared_data / "hand_mocap").glob("*.tsv"))
    out = tmp_path / "metrics.json"
    egohand("evaluate", recording, "--forecaster", "persistence,egohand-small", "--json", out)
    assert "egohand-small" in json.dumps(json.loads(out.read_text()))
    keypoints = next((shared_data / "hand_keypoints").glob("*.pkl"))
    egohand("retarget", keypoints, "--hand", "allegro_right", "--out", tmp_path / "q.npz")
    assert (tmp_path / "q.npz").stat().st_size > 1000
