"""What is installed is what the sources say, and it runs with nothing sourced."""

import ast
import functools
import importlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from imports import imports_of
from packaging.requirements import Requirement

import egohand_ros

ROOT = Path(__file__).resolve().parents[1]
PREFIX = Path(sys.prefix)
DEPEND_TAGS = ("depend", "exec_depend", "test_depend", "build_depend", "buildtool_depend")

# Import name -> rosdep key or ROS package, where they differ; None: rosdep has no key, or it belongs to an extra that
# not every robot needs (requirements/datasets.txt, foxglove.txt, handover.txt, shapes.txt, aria.txt, training.txt,
# viewer.txt); then requirements/ alone lists it.
KEYS = {
    "PIL": "python3-pil",
    "accelerate": None,
    "argcomplete": "python3-argcomplete",
    "cv2": "python3-opencv",
    "fcl": None,
    "foxglove": None,
    "h5py": None,
    "huggingface_hub": "python3-huggingface-hub-pip",
    "hypothesis": "python3-hypothesis",
    "jinja2": "python3-jinja2",
    "matplotlib": "python3-matplotlib",
    "mediapipe": "python3-mediapipe-pip",
    "mink": None,
    "msgspec": None,
    "mujoco": "python3-mujoco-pip",
    "numpy": "python3-numpy",
    "projectaria_tools": None,
    "psutil": "python3-psutil",
    "packaging": "python3-packaging",
    "pyarrow": None,
    "pytest": "python3-pytest",
    "pytorch_kinematics": None,
    "ray": None,
    "rich": "python3-rich",
    "rosbags": "python3-rosbags-pip",
    "ruckig": None,
    "safetensors": None,
    "scipy": "python3-scipy",
    "smplx": None,
    "tf2_ros": "tf2_ros_py",
    "tokenizers": None,
    "torch": "python3-torch",
    "transformers": "python3-transformers-pip",
    "trimesh": None,
    "viser": None,
    "websockets": None,
    "yaml": "python3-yaml",
}
ELSEWHERE = {
    "dex_retargeting"
}  # imported in a Python of its own: it needs NumPy 2 (evaluation/bench/dex_comparison.py)
TOOLS = {"mypy", "pytest-xdist", "ruff", "types-psutil", "types-pyyaml"}  # run, never imported
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-contrib-python",
    "fcl": "python-fcl",
    "foxglove": "foxglove-sdk",
    "yaml": "pyyaml",
}  # import name -> PyPI, where they differ


def package_xml() -> ElementTree.Element:
    return ElementTree.parse(ROOT / "package.xml").getroot()


@functools.cache
def imported(*folders: str) -> dict[str, str]:
    """{third-party import name: a file that imports it} of the Python files in these folders of the repository."""
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    local = {"egohand_ros", *(path.stem for path in files), *(path.stem for path in (ROOT / "scripts").glob("*.py"))}
    names = {}
    for path in files:
        for name in (found.module.split(".")[0] for found in imports_of(path.read_text()) if not found.level):
            if name not in sys.stdlib_module_names and name not in local | ELSEWHERE:
                names[name] = str(path.relative_to(ROOT))
    return names


def requirement_lines(name: str) -> list[str]:
    lines = (line.split("#")[0].strip() for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines())
    return [line for line in lines if line and not line.startswith("-r ")]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def run_bare(*command, cwd, **environment) -> subprocess.CompletedProcess:
    """Runs a command with no environment variables but those given, outside the repository."""
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
    )


def node_modules() -> list[str]:
    """Names of the modules whose `main` runs a node."""
    names = []
    nodes = ROOT / "egohand_ros" / "nodes"
    for path in (*nodes.glob("*.py"), *nodes.glob("*/node.py")):
        mains = [
            node
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.FunctionDef) and node.name == "main"
        ]
        if any(isinstance(node, ast.Name) and node.id == "run_node" for main in mains for node in ast.walk(main)):
            names.append(path.stem if path.stem != "node" else path.parent.name)
    return sorted(names)


needs_install = pytest.mark.skipif(
    not (PREFIX / "share" / "egohand_ros").is_dir(), reason=f"egohand_ros is not installed in {PREFIX}: make build"
)


# --- Declarations -----------------------------------------------------------------------------------------------------


def test_package_xml_is_valid_and_found_by_colcon():
    package = pytest.importorskip("catkin_pkg.package")
    warnings = []
    package.parse_package(str(ROOT), warnings=warnings)
    assert not warnings
    colcon = shutil.which("colcon", path=os.pathsep.join([str(PREFIX / "bin"), os.environ.get("PATH", "")]))
    if colcon:
        listing = subprocess.run([colcon, "list", "--paths", str(ROOT)], capture_output=True, text=True, check=True)
        assert listing.stdout.split() == ["egohand_ros", str(ROOT), "(ros.ament_cmake)"]


def test_package_xml_declares_every_import():
    declared = {element.text for tag in DEPEND_TAGS for element in package_xml().findall(tag)}
    runtime = {element.text for tag in ("depend", "exec_depend") for element in package_xml().findall(tag)}
    used = {name: (runtime, path) for name, path in imported("egohand_ros", "launch").items()}
    used = {**{name: (declared, path) for name, path in imported("test").items()}, **used}
    missing = {
        f"{name} ({path})": KEYS.get(name, name)
        for name, (keys, path) in used.items()
        if KEYS.get(name, name) is not None and KEYS.get(name, name) not in keys
    }
    assert not missing, f"package.xml does not declare: {missing}"


def test_requirements_list_every_import_and_nothing_else():
    names = imported("egohand_ros", "launch", "test")
    from_ros = {name for name in names if KEYS.get(name, name) in (name, "tf2_ros_py")}
    distributions = {canonical(DISTRIBUTIONS.get(name, name)) for name in set(names) - from_ros}
    extras = ("aria", "cluster", "datasets", "foxglove", "handover", "shapes", "training", "viewer")
    lines = [line for name in ("runtime", "test", *extras) for line in requirement_lines(name)]
    listed = {canonical(Requirement(line).name) for line in lines}
    assert distributions - listed == set(), "imported, but not in requirements/"
    assert listed - distributions - TOOLS == set(), "in requirements/, but never imported"


def pins() -> dict[str, str]:
    """Version by distribution, of constraints.txt, for this Python."""
    requirements = [Requirement(line) for line in requirement_lines("constraints")]
    ours = [r for r in requirements if r.marker is None or r.marker.evaluate()]
    wrong = [str(r) for r in ours if re.fullmatch(r"==[\w.+]+", str(r.specifier)) is None]
    assert not wrong, f"not a pin: {wrong}"
    return {canonical(r.name): str(r.specifier).removeprefix("==") for r in ours}


@pytest.mark.parametrize(
    "name", ["runtime", "test", "cluster", "datasets", "foxglove", "handover", "training", "viewer", "ros2-jazzy"]
)
def test_every_requirement_admits_what_is_tested(name):
    pinned = pins()
    for requirement in map(Requirement, requirement_lines(name)):
        if requirement.marker is None or requirement.marker.evaluate():
            assert requirement.specifier.contains(pinned.get(canonical(requirement.name), "none")), requirement


def test_what_is_installed_is_what_is_pinned():
    pinned = pins()
    files = ("runtime", "test", "datasets", "handover", "viewer", "foxglove")
    names = [Requirement(line).name for name in files for line in requirement_lines(name)]
    installed = {name: importlib.metadata.version(name).split("+")[0] for name in names}
    assert installed == {name: pinned[canonical(name)] for name in names}


def test_what_is_shared_with_other_work_is_a_range():
    """A lab has its own torch and numpy: a package that asks for one version breaks their environment."""
    for name in ("runtime", "datasets", "handover", "training", "viewer", "foxglove"):
        exact = [line for line in requirement_lines(name) if "==" in line.split(";")[0]]
        assert not exact


@needs_install
def test_versions_agree():
    version = package_xml().findtext("version")
    assert importlib.metadata.version("egohand_ros") == version
    assert egohand_ros.__version__ == version
    assert f"<version>{version}</version>" in (PREFIX / "share" / "egohand_ros" / "package.xml").read_text()
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    changelog = ROOT / "CHANGELOG.md"
    if changelog.exists():
        assert version in changelog.read_text()


# --- The installed package --------------------------------------------------------------------------------------------


def test_every_message_is_generated_and_survives_serialisation():
    serialization = pytest.importorskip("rclpy.serialization")
    generated = importlib.import_module("egohand_ros.msg")
    names = sorted(path.stem for path in (ROOT / "msg").glob("*.msg"))
    assert names
    for name in names:
        message = getattr(generated, name)()
        assert serialization.deserialize_message(serialization.serialize_message(message), type(message)) == message
        fields = [line.split("#")[0].split() for line in (ROOT / "msg" / f"{name}.msg").read_text().splitlines()]
        declared = [parts[1].split("=")[0] for parts in fields if len(parts) == 2 and "=" not in "".join(parts)]
        assert list(message.get_fields_and_field_types()) == declared, f"{name} is not the built one: make build"


@needs_install
def test_every_node_has_an_executable_and_they_are_the_known_ones():
    installed = {path.name: path for path in (PREFIX / "lib" / "egohand_ros").iterdir()}
    assert sorted(installed) == node_modules()
    assert {"forecaster", "hand_tracker", "player", "recorder", "retargeter", "sim_hand"} <= set(installed)
    for name, path in installed.items():
        text = path.read_text()
        assert os.access(path, os.X_OK)
        interpreter = Path(text.splitlines()[0].removeprefix("#!"))
        assert interpreter.exists() and interpreter.parent == PREFIX / "bin", f"{name} would run in {interpreter}"
        assert f"from egohand_ros.nodes.{name} import main" in text


@needs_install
def test_an_executable_starts_with_an_empty_environment(tmp_path):
    """`--ros-args` with an argument that rcl refuses: the node gets as far as rclpy.init() and says so."""
    result = run_bare(PREFIX / "lib" / "egohand_ros" / "retargeter", "--ros-args", "--remap", "no-rule", cwd=tmp_path)
    assert result.returncode != 0
    assert "no-rule" in result.stderr + result.stdout


@needs_install
def test_egohand_runs_with_an_empty_environment(tmp_path):
    result = run_bare(PREFIX / "bin" / "egohand", "--help", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for command in ("run", "evaluate", "retarget", "hands", "forecasters"):
        assert re.search(rf"^\s+{command}\b", result.stdout, re.MULTILINE), result.stdout


@needs_install
def test_the_package_works_with_an_emptied_init(tmp_path):
    """Some installs leave rosidl's empty `__init__.py` of the generated package in place of ours."""
    site_packages = next(PREFIX.glob("lib/python3.*/site-packages"))
    shutil.copytree(site_packages / "egohand_ros", tmp_path / "egohand_ros", symlinks=True)
    (tmp_path / "egohand_ros" / "__init__.py").write_text("")
    code = (
        "import egohand_ros, egohand_ros.hand.skeleton, egohand_ros.errors; from egohand_ros.msg import HandPose;"
        "print(egohand_ros.__file__)"
    )
    result = run_bare(PREFIX / "bin" / "python", "-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert result.stdout.strip() == str(tmp_path / "egohand_ros" / "__init__.py"), result.stderr


def test_messages_alone_are_configured_without_any_python_of_ours(tmp_path):
    """What a C++ consumer or a second machine builds. Building takes minutes; here: it needs and installs no more."""
    cmake = shutil.which("cmake")
    if cmake is None or not (PREFIX / "share" / "rosidl_default_generators").is_dir():
        pytest.skip("no CMake and message generators here")
    source, build = tmp_path / "source", tmp_path / "build"
    for name in ("msg", "action"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("CMakeLists.txt", "package.xml", "LICENSE"):
        shutil.copy(ROOT / name, source)
    given = ["-DEGOHAND_INTERFACES_ONLY=ON", "-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={sys.executable}"]
    paths = {name: str(PREFIX) for name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH")}
    path = os.pathsep.join([str(PREFIX / "bin"), os.environ["PATH"]])
    command, environment = [cmake, "-S", source, "-B", build, *given], os.environ | paths | {"PATH": path}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    installed = (build / "cmake_install.cmake").read_text()
    assert "/msg/HandPose.msg" in installed and "/egohand_rosConfig.cmake" in installed
    assert "nodes" not in installed and "launch" not in installed


def test_pytest_starts_where_a_ros_is_sourced(tmp_path):
    """Its pytest plugins are then on the path; those of Jazzy fail with the pytest that is used here."""
    for name in ("launch_testing", "launch_ros"):
        (tmp_path / f"{name}-1.dist-info").mkdir()
        (tmp_path / f"{name}-1.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (tmp_path / f"{name}-1.dist-info" / "entry_points.txt").write_text(f"[pytest11]\n{name} = fails_to_load\n")
    (tmp_path / "fails_to_load.py").write_text("raise ImportError('made for another pytest')\n")
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "test/test_config.py"]
    result = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr
