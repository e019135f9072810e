"""The set-up of .venv finds the right ROS 2, and .venv gives its processes the right environment variables."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def venv_environment(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("venv_environment")


@pytest.fixture
def setup_venv(monkeypatch):
    """The set-up script, in a shell that has sourced nothing and activated no .venv."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    below = Path(getattr(sys, "_base_executable", sys.executable)).parent
    monkeypatch.setenv("PATH", os.pathsep.join([str(below), os.environ["PATH"]]))
    for name in ("AMENT_PREFIX_PATH", "ROS_DISTRO", "PYTHONPATH", "LD_LIBRARY_PATH", "CMAKE_PREFIX_PATH"):
        monkeypatch.delenv(name, raising=False)
    return importlib.import_module("setup_venv")


def make_ros(prefix: Path) -> Path:
    """A folder that looks like the prefix of a ROS 2 installation."""
    (prefix / "share" / "rclpy").mkdir(parents=True)
    (prefix / "python" / "rclpy").mkdir(parents=True)
    (prefix / "python" / "rclpy" / "__init__.py").write_text("")
    return prefix


def source(monkeypatch, prefix: Path, distro: str = "jazzy"):
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(prefix))
    monkeypatch.setenv("PYTHONPATH", f"{prefix}/python:/mine")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/mine:{prefix}/lib")
    monkeypatch.setenv("ROS_DISTRO", distro)


# --- Which ROS 2 ------------------------------------------------------------------------------------------------------


def test_a_sourced_ros_is_used(setup_venv, monkeypatch, tmp_path):
    ros = make_ros(tmp_path / "ros")
    source(monkeypatch, ros)
    found = setup_venv.find_ros({})
    assert found["flavour"] == "sourced"
    assert found["variables"]["AMENT_PREFIX_PATH"] == [str(ros)]
    assert found["variables"]["PYTHONPATH"] == [f"{ros}/python"]
    assert found["variables"]["LD_LIBRARY_PATH"] == [f"{ros}/lib"]
    assert found["variables"]["ROS_DISTRO"] == "jazzy"


def test_a_sourced_ros_stays_in_use_in_other_shells_while_it_is_there(setup_venv, monkeypatch, tmp_path):
    ros = make_ros(tmp_path / "ros")
    with monkeypatch.context() as sourced:
        source(sourced, ros)
        earlier = setup_venv.find_ros({})
    assert setup_venv.find_ros({"ros": earlier}) == earlier
    shutil.rmtree(ros)
    assert setup_venv.find_ros({"ros": earlier})["flavour"] == "wheels"


def test_a_virtual_environment_and_this_package_are_no_sourced_ros(setup_venv, monkeypatch, tmp_path):
    venv, workspace = make_ros(tmp_path / "venv"), make_ros(tmp_path / "workspace")
    (venv / "pyvenv.cfg").write_text("")
    (workspace / "share" / "egohand_ros").mkdir()
    for prefix in (venv, workspace):
        source(monkeypatch, prefix)
        assert setup_venv.find_ros({})["flavour"] == "wheels"


def test_a_sourced_ros_that_cannot_be_used_is_an_error_with_the_way_out(setup_venv, monkeypatch, tmp_path):
    ros = make_ros(tmp_path / "ros")
    source(monkeypatch, ros, "humble")
    (ros / "python" / "rclpy" / "__init__.py").write_text("import sys; sys.version_info = (3, 10)")
    with pytest.raises(setup_venv.SetupError, match="humble is sourced, whose Python 3.10 is too old"):
        setup_venv.find_ros({})
    (ros / "python" / "rclpy" / "__init__.py").write_text("import _rclpy_of_another_python")
    with pytest.raises(setup_venv.SetupError, match="cannot import its rclpy .*_rclpy_of_another_python"):
        setup_venv.find_ros({})


def test_what_decides_on_the_build_changes_its_hash(setup_venv, monkeypatch, tmp_path):
    for name in ("msg", "scripts", "requirements", "config", "launch", "egohand_ros/nodes"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(setup_venv, "ROOT", tmp_path)
    monkeypatch.setattr(setup_venv, "REQUIREMENTS", tmp_path / "requirements")
    ros = {"flavour": "wheels", "python": sys.executable, "variables": {}}
    states = [setup_venv.wanted_state(ros)]

    def changed(*which):
        states.append(setup_venv.wanted_state(ros))
        return [name for name in ("packages", "build") if states[-1][name] != states[-2][name]] == list(which)

    (tmp_path / "msg" / "A.msg").write_text("int32 a")
    assert changed("build")
    (tmp_path / "msg" / "A.msg").write_text("int32 b")
    assert changed("build")
    (tmp_path / "egohand_ros" / "nodes" / "a.py").write_text("shared = 1\n")
    assert changed("build")  # a new file
    (tmp_path / "egohand_ros" / "nodes" / "a.py").write_text("shared = 2\n")
    assert changed()  # linked: an edit is live
    (tmp_path / "egohand_ros" / "nodes" / "a.py").write_text("def main():\n    return run_node(Node)\n")
    assert changed("build")  # a new executable
    (tmp_path / "requirements" / "runtime.txt").write_text("numpy==1.26.4")
    assert changed("packages", "build")


# --- The environment that .venv makes for itself ----------------------------------------------------------------------


def test_byte_code_is_made_where_python_is_told_to_make_none(setup_venv, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert "PYTHONDONTWRITEBYTECODE" not in setup_venv.step_environment(setup_venv.find_ros({}))
    torch = Path(importlib.util.find_spec("torch").origin)
    if Path(sys.prefix) in torch.parents:  # of this project's own environment
        assert list((torch.parent / "__pycache__").glob("__init__.*.pyc"))


def test_environment_puts_overlays_first_and_our_prefix_before_all_else(venv_environment, tmp_path):
    environ = {
        "AMENT_PREFIX_PATH": "/overlay",
        "PYTHONPATH": "/mine:/overlay/python",
        "LD_LIBRARY_PATH": "/cuda/lib:/overlay/lib",
        "HOME": "/me",
    }
    wanted = venv_environment.wanted(environ, str(tmp_path), {"ROS_DISTRO": "jazzy"})
    assert wanted["AMENT_PREFIX_PATH"] == f"/overlay:{tmp_path}"
    assert wanted["LD_LIBRARY_PATH"] == f"/overlay/lib:{tmp_path}/lib:/cuda/lib"
    assert wanted["PYTHONPATH"] == "/overlay/python:/mine"
    assert wanted["ROS_DISTRO"] == "jazzy"
    assert "HOME" not in wanted
    again = venv_environment.wanted({**environ, **wanted}, str(tmp_path), {"ROS_DISTRO": "jazzy"})
    assert again == wanted  # or a process would restart for ever


def test_environment_drops_another_ros(venv_environment, tmp_path):
    other = make_ros(tmp_path / "other")
    environ = {
        "AMENT_PREFIX_PATH": f"/overlay:{other}",
        "PYTHONPATH": f"{other}/python",
        "LD_LIBRARY_PATH": f"{other}/lib:/cuda",
    }
    wanted = venv_environment.wanted(environ, str(make_ros(tmp_path / "venv")), {})
    assert str(other) not in " ".join(wanted.values())
    assert wanted["AMENT_PREFIX_PATH"].startswith("/overlay:") and wanted["LD_LIBRARY_PATH"].endswith(":/cuda")


def test_another_virtual_environment_is_no_overlay(venv_environment, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "pyvenv.cfg").write_text("")
    wanted = venv_environment.wanted({"AMENT_PREFIX_PATH": f"{tmp_path}/other"}, "/venv", {})
    assert wanted["AMENT_PREFIX_PATH"] == f"/venv:{tmp_path}/other"


def test_environment_keeps_the_sourced_ros_below(venv_environment, tmp_path):
    below = str(make_ros(tmp_path / "ros"))
    underlay = {"AMENT_PREFIX_PATH": [below], "LD_LIBRARY_PATH": [f"{below}/lib"], "PYTHONPATH": [f"{below}/python"]}
    for environ in (
        {},
        {"AMENT_PREFIX_PATH": below, "LD_LIBRARY_PATH": f"{below}/lib", "PYTHONPATH": f"{below}/python"},
    ):
        wanted = venv_environment.wanted(environ, "/venv", underlay)
        assert wanted["AMENT_PREFIX_PATH"] == f"/venv:{below}"
        assert wanted["LD_LIBRARY_PATH"] == f"/venv/lib:{below}/lib"
        assert wanted["PYTHONPATH"] == f"{below}/python"


def test_a_child_of_another_environment_finds_its_own_libraries(tmp_path):
    """The guard and the library path of the wheels' own bootstrapper, inherited from a process of another .venv."""
    if not (Path(sys.prefix) / "share" / "egohand_ros").is_dir():
        pytest.skip(f"egohand_ros is not installed in {sys.prefix}: make build")
    other = make_ros(tmp_path / "other")
    code = "import os, rclpy; from egohand_ros.msg import HandPose; rclpy.init(); print(os.environ['LD_LIBRARY_PATH'])"
    inherited = {
        "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1",
        "AMENT_PREFIX_PATH": str(other),
        "LD_LIBRARY_PATH": f"{other}/lib",
        "HOME": str(tmp_path),
        "ROS_DOMAIN_ID": os.environ.get("ROS_DOMAIN_ID", "0"),
    }
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=inherited, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert str(other) not in result.stdout
