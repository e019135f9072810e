"""`make build`: makes `.venv`, a virtual environment in which egohand_ros runs with nothing sourced.

Where a ROS 2 is sourced, its rclpy, messages and build tools are used; elsewhere ROS 2 itself is installed from wheels.
Then the messages are built and installed into `.venv`, with the Python code linked, so that edits need no rebuild. What
is there already and unchanged (by the hashes in STATE) is not done again. Needs Python alone; output of every step goes
to LOGS.
"""

import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import venv_environment

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
BUILD = ROOT / "build" / "venv"
LOGS = ROOT / "build" / "log"
STATE = VENV / "egohand_ros_state.json"
REQUIREMENTS = ROOT / "requirements"
WHEELS_DISTRO = "jazzy"
OLDEST_PYTHON = (3, 11)
SLOW_TO_IMPORT = (
    *(f"egohand_ros.nodes.{name}" for name in ("forecaster", "foxglove", "hand_tracker", "handover", "player")),
    *(f"egohand_ros.nodes.{name}" for name in ("recorder", "retargeter", "sim_hand", "sim_handover", "viewer")),
    *("egohand_ros.nodes.session.run", "egohand_ros.nodes.session.handover_run"),
    *("egohand_ros.evaluation.session", "egohand_ros.evaluation.pages.report", "egohand_ros.training.session"),
    *("mediapipe.python.solutions.hands", "torch._dynamo", "torch.distributed.run", "accelerate", "transformers"),
    *("scipy.optimize", "scipy.stats", "matplotlib.pyplot", "pyarrow", "pytorch_kinematics", "smplx", "trimesh"),
    *("viser", "pytest", "hypothesis", "xdist"),
)


class SetupError(Exception):
    """What stopped the set-up, and what to do about it."""


# --- Showing and logging ----------------------------------------------------------------------------------------------


def run_step(title, env, **chains):
    """Shows the title and the seconds while chains of commands run side by side; raises SetupError where a command
    fails.

    chains: log name = commands, lists of arguments, that are run one after the other.
    """
    started, interactive = time.monotonic(), sys.stdout.isatty()
    print(f"  {title} …", end="", flush=True)
    running = [Chain(name, commands, env) for name, commands in chains.items()]
    try:
        while not all([chain.advance() for chain in running]):  # noqa: C419, each has to advance
            time.sleep(0.1)
            if interactive:  # chr(13) returns to the start of the line
                print(f"{chr(13)}  {title} … {time.monotonic() - started:.0f} s", end="", flush=True)
    finally:
        for chain in running:
            chain.stop()
    print(
        f"{chr(13) + '  ' + title + ' …' if interactive else ''} {time.monotonic() - started:.0f} s, done", flush=True
    )


class Chain:
    """Commands run one after the other in the background, with a common log file."""

    def __init__(self, name, commands, env):
        self.commands = list(commands)
        self.env = env
        self.process = None
        LOGS.mkdir(parents=True, exist_ok=True)
        self.path = LOGS / f"{name}.log"
        self.log = self.path.open("w")

    def advance(self):
        """Starts the next command where the last has ended; returns whether all have; raises SetupError where one
        failed.
        """
        if self.process is not None:
            status = self.process.poll()
            if status is None:
                return False
            if status:
                raise SetupError(self.failure(status))
            self.process = None
        if not self.commands:
            return True
        command = [str(argument) for argument in self.commands.pop(0)]
        self.log.write("$ " + " ".join(command) + "\n")
        self.log.flush()
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=self.env, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT
        )
        return False

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        self.log.close()

    def failure(self, status):
        self.log.flush()
        lines = self.path.read_text(errors="replace").splitlines()
        errors = [line for line in lines if "error" in line.lower()][:5]
        tail = "\n    ".join([*[line for line in errors if line not in lines[-25:]], *lines[-25:]])
        return f"this failed with status {status}:\n    {tail}\n  The whole log: {self.path.relative_to(ROOT)}"


# --- Which ROS 2, which Python ----------------------------------------------------------------------------------------


def find_ros(state):
    """Describes the ROS 2 to use: {"flavour": "sourced" or "wheels", "python": path, "variables": for
    venv_environment.py}.

    Where nothing is sourced, `.venv` stays with what it was made with, whatever Python this shell has.
    """
    ros = sourced_ros()
    if ros:
        return ros
    earlier = state.get("ros")
    if earlier and all(map(os.path.exists, [earlier["python"], *earlier["variables"].get("AMENT_PREFIX_PATH", [])])):
        return earlier
    return {
        "flavour": "wheels",
        "python": find_python(),
        "variables": {"ROS_DISTRO": WHEELS_DISTRO, "ROS_VERSION": "2", "ROS_PYTHON_VERSION": "3"},
    }


def sourced_ros():
    """Describes the ROS 2 that this shell has sourced, or returns None where there is none."""
    prefixes = [
        entry
        for entry in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
        if entry
        and not (Path(entry) / "pyvenv.cfg").exists()  # a .venv, made by us
        and not (Path(entry) / "share" / "egohand_ros").exists()
    ]  # another build of this package
    distro = os.environ.get("ROS_DISTRO")
    if not distro or not any((Path(prefix) / "share" / "rclpy").is_dir() for prefix in prefixes):
        return None
    python = shutil.which("python3")
    version, executable = probe_sourced_python(python, distro)
    if version < OLDEST_PYTHON:
        raise SetupError(
            f"ROS 2 {distro} is sourced, whose Python {'.'.join(map(str, version))} is too old: Jazzy or newer is "
            "needed. In a shell that has not sourced it, `make` gets its own ROS 2."
        )

    def below(name):
        entries = [entry for entry in os.environ.get(name, "").split(os.pathsep) if entry]
        return [
            entry for entry in entries if any((entry + "/").startswith(prefix.rstrip("/") + "/") for prefix in prefixes)
        ]

    variables = {
        name: os.environ[name] for name in ("ROS_DISTRO", "ROS_VERSION", "ROS_PYTHON_VERSION") if name in os.environ
    }
    variables["AMENT_PREFIX_PATH"] = prefixes
    variables.update({name: below(name) for name in ("CMAKE_PREFIX_PATH", "LD_LIBRARY_PATH", "PYTHONPATH")})
    return {"flavour": "sourced", "python": executable, "variables": variables}


def probe_sourced_python(python, distro):
    """Returns the version and the path, below any virtual environment, of the Python that can import the sourced
    rclpy.
    """
    probe = subprocess.run(
        [python, "-c", "import sys, rclpy; print(*sys.version_info[:2]); print(sys._base_executable)"],
        capture_output=True,
        text=True,
    )
    if probe.returncode:
        raise SetupError(
            f"ROS 2 {distro} is sourced, but {python} cannot import its rclpy "
            f"({(probe.stderr.strip().splitlines() or ['no message'])[-1]}). "
            "Deactivate other Python environments, or use a shell that has not sourced ROS 2."
        )
    version, executable = probe.stdout.splitlines()[:2]
    return tuple(map(int, version.split())), executable


def find_python():
    """The Python to make `.venv` with: this one or another on PATH, by preference one that every dependency
    supports.
    """
    # Of an activated .venv, the Python below it: .venv itself may have to go.
    names = ("python3.12", "python3.11", "python3.13", "python3.14")
    candidates = [getattr(sys, "_base_executable", sys.executable), *filter(None, map(shutil.which, names))]
    found = []
    for python in candidates:
        probe = subprocess.run(
            [python, "-c", "import sys; print(*sys.version_info[:2])"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if probe.returncode == 0:
            found.append((tuple(map(int, probe.stdout.splitlines()[0].split())), python))
    usable = [python for version, python in found if (3, 11) <= version <= (3, 12)] or [
        python for version, python in found if version >= OLDEST_PYTHON
    ]
    if not usable:
        has = ", ".join(sorted({".".join(map(str, version)) for version, _ in found}))
        raise SetupError(f"Python 3.11 or newer is needed (3.11 and 3.12 have every feature); found {has}.")
    return usable[0]


# --- What has to be on the system -------------------------------------------------------------------------------------


def loadable(*names):
    """Whether one of these shared libraries is there."""
    for name in names:
        try:
            ctypes.CDLL(name)
            return True
        except OSError:
            pass
    return False


def missing_packages(python):
    """Names, as Debian and Ubuntu call them, of the system packages that are missing."""
    probe = (
        "import importlib.util, os, sys, sysconfig; print('python%d.%d' % sys.version_info[:2],"
        " importlib.util.find_spec('ensurepip') is not None,"
        " os.path.exists(os.path.join(sysconfig.get_paths()['include'], 'Python.h')))"
    )
    name, venv, headers = subprocess.run(
        [python, "-c", probe], stdout=subprocess.PIPE, check=True, text=True
    ).stdout.split()
    needs = {
        "g++": shutil.which("c++") or shutil.which("g++"),
        "cmake": shutil.which("cmake"),
        "make": shutil.which("make") or shutil.which("ninja"),
        f"{name}-venv": venv == "True",
        f"{name}-dev": headers == "True",
        "libgl1": loadable("libGL.so.1"),  # OpenCV
        "libglib2.0-0": loadable("libgthread-2.0.so.0"),  # OpenCV
        "libegl1": loadable("libEGL.so.1") or loadable("libOSMesa.so.8", "libOSMesa.so.6"),  # MuJoCo without a display
    }
    return [package for package, there in needs.items() if not there]


def provide_system_packages(python, env):
    """Installs what is missing with apt-get where that is permitted; raises SetupError with the command to type
    elsewhere.
    """
    missing = missing_packages(python)
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise SetupError(f"these system packages are missing (names as in Debian and Ubuntu): {' '.join(missing)}")
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() == 0:
        prefix = []
    elif shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], stderr=subprocess.DEVNULL).returncode == 0:
        prefix = ["sudo", "-n"]
    else:
        raise SetupError(f"system packages are missing. Type this, then make again:\n    sudo {' '.join(install)}")
    run_step(
        f"Installing system packages {' '.join(missing)}",
        {**env, "DEBIAN_FRONTEND": "noninteractive"},
        system=[[*prefix, "apt-get", "update"], [*prefix, *install]],
    )


# --- The steps --------------------------------------------------------------------------------------------------------


def make_venv(ros, env):
    """Makes `.venv`, unless a fitting one is there."""
    system_site = ros["flavour"] == "sourced"
    if not venv_fits(ros, system_site):
        if VENV.exists():
            shutil.rmtree(VENV)
        flags = ["--system-site-packages"] if system_site else []
        run_step("Making .venv", env, venv=[[ros["python"], "-m", "venv", *flags, VENV]])
    write_environment_hook(ros)


def venv_fits(ros, system_site):
    """Whether `.venv` works, has the wanted Python and lies where it was made (its scripts hold its path)."""
    config = VENV / "pyvenv.cfg"
    python = VENV / "bin" / "python"
    if not config.exists() or not python.exists():
        return False
    shebangs = [path.read_bytes().splitlines()[:1] for path in (VENV / "bin").glob("pip")]
    if [f"#!{VENV}/bin/".encode() in line for lines in shebangs for line in lines] != [True]:
        return False
    versions = [
        subprocess.run([binary, "-S", "-c", "import sys; print(sys.version)"], stdout=subprocess.PIPE).stdout
        for binary in (python, ros["python"])
    ]
    shared = f"include-system-site-packages = {'true' if system_site else 'false'}" in config.read_text()
    return shared and versions[0] == versions[1]


def site_packages():
    return next(VENV.glob("lib/python3.*/site-packages"))


def write_environment_hook(ros):
    """Makes every Python of `.venv` set the environment variables of ROS 2 for itself (see venv_environment.py)."""
    shutil.copy(ROOT / "scripts" / "venv_environment.py", site_packages() / "egohand_ros_environment.py")
    hook = f"import egohand_ros_environment; egohand_ros_environment.apply({ros['variables']!r})\n"
    (site_packages() / "egohand_ros_environment.pth").write_text(hook)


def step_environment(ros):
    """The environment variables in which the steps run: ROS 2 is the one of `ros`, and nothing of another leaks in."""
    left = ("PYTHONHOME", "COLCON_PREFIX_PATH", "PYTHONDONTWRITEBYTECODE")  # see `check_imports`
    env = {name: value for name, value in os.environ.items() if name not in left}
    env.update(venv_environment.wanted(env, str(VENV), ros["variables"]))
    env["VIRTUAL_ENV"] = str(VENV)
    env["PATH"] = os.pathsep.join([str(VENV / "bin"), env.get("PATH", os.defpath)])
    env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    return env


def pip_install(*arguments):
    # Byte code is made at the first import: compiling all that is installed takes half of the time, and most is never
    # imported.
    return [VENV / "bin" / "python", "-m", "pip", "install", "--no-compile", "--no-input", *arguments]


def install_packages(ros, env):
    """Installs the pinned packages, and builds the messages meanwhile."""
    constraints = ["-c", REQUIREMENTS / "constraints.txt"]
    first = [pip_install(*constraints, "pip", "setuptools", "numpy")]
    if ros["flavour"] == "wheels":
        first.append(pip_install(*constraints, "-r", REQUIREMENTS / "ros2-jazzy.txt"))
    run_step("Installing ROS 2 Jazzy wheels" if ros["flavour"] == "wheels" else "Preparing .venv", env, ros=first)
    if ros["flavour"] == "wheels":
        repair_cmake_paths(env)
    names = ("runtime", "datasets", "handover", "viewer", "foxglove", "training", "test")
    wanted = [argument for name in names for argument in ("-r", REQUIREMENTS / f"{name}.txt")]
    rest = pip_install(*constraints, *wanted)
    tf2 = {"tf2": tf2_build()} if ros["flavour"] == "wheels" else {}
    run_step("Installing packages, building messages", env, packages=[rest], messages=cmake_build(), **tf2)


def repair_cmake_paths(env):
    """Replaces the paths of the machine that built the wheels, in their CMake files, by those of this one."""
    code = """
import pathlib, re, sys, sysconfig, numpy
python = "/opt/python/cp[0-9]+-cp[0-9]+/"
replacements = [(python + "lib/python3[.][0-9]+/site-packages/numpy/_?core/include", numpy.get_include()),
                (python + "lib/python3[.][0-9]+/site-packages", sysconfig.get_paths()["purelib"]),
                (python + "include/python3[.][0-9]+", sysconfig.get_paths()["include"])]
for path in pathlib.Path(sys.prefix, "share").rglob("*.cmake"):
    repaired = text = path.read_text()
    for pattern, replacement in replacements:
        repaired = re.sub(pattern, lambda match: replacement, repaired)
    if repaired != text:
        path.write_text(repaired)
"""
    subprocess.run([VENV / "bin" / "python", "-c", code], env=env, check=True)


def cmake_build(source=ROOT, build=BUILD):
    """The commands that configure and compile; the interpreter and generator of an older build directory do not
    matter.
    """
    generator = ["-GNinja"] if shutil.which("ninja") else ["-GUnix Makefiles"]
    configure = [
        "cmake",
        "-S",
        source,
        "-B",
        build,
        *generator,
        f"-DCMAKE_INSTALL_PREFIX={VENV}",
        "-DBUILD_TESTING=OFF",
        f"-DPython3_EXECUTABLE={VENV}/bin/python",
        *(["-DEGOHAND_LIVE_SOURCES=ON"] if source == ROOT else []),
        f"-DPYTHON_INSTALL_DIR={site_packages().relative_to(VENV)}",
    ]
    return [configure, ["cmake", "--build", build, "--parallel", os.cpu_count() or 1]]


def tf2_build():
    """The commands that make and install the message of /tf, which ROS 2's wheels lack."""
    return [*cmake_build(ROOT / "scripts" / "tf2_msgs", BUILD / "tf2_msgs"), ["cmake", "--install", BUILD / "tf2_msgs"]]


def install_package(env):
    """Installs the messages, the executables and links to the Python code and data, and registers the package with
    pip.
    """
    manifest = BUILD / "install_manifest.txt"
    before = set(manifest.read_text().splitlines()) if manifest.exists() else set()
    editable = pip_install("--no-deps", "--no-build-isolation", "--editable", ROOT)
    run_step("Installing egohand_ros", env, install=[["cmake", "--install", BUILD], *remove_egg_info(), editable])
    for path in map(
        Path, before - set(manifest.read_text().splitlines())
    ):  # installed last time, gone from the sources
        if VENV in path.parents and (path.is_symlink() or path.exists()):
            path.unlink()


def remove_egg_info():
    """rosidl registers its Python package as a distribution that pip cannot replace; pip's own is the one to keep."""
    code = (
        "import pathlib, shutil, sys;"
        "[shutil.rmtree(path) for path in pathlib.Path(sys.argv[1]).glob('egohand_ros-*.egg-info')]"
    )
    return [[sys.executable, "-c", code, site_packages()]]


def check_imports(env):
    """Imports what the nodes need once: a missing system library shows here. And makes the byte code of that and of
    what else takes long: without it every start of a node takes twice the time, and where PYTHONDONTWRITEBYTECODE is
    set, as in many containers, nobody else makes it."""
    needed = "import rclpy, cv2, torch, mujoco, matplotlib, scipy.spatial; from egohand_ros.msg import HandPose"
    slow = f"""
import contextlib, importlib
for name in {" ".join(SLOW_TO_IMPORT)!r}.split():
    with contextlib.suppress(Exception):
        importlib.import_module(name)
"""
    python = VENV / "bin" / "python"
    run_step("Checking that everything imports", env, imports=[[python, "-c", needed], [python, "-c", slow]])


# --- What has changed -------------------------------------------------------------------------------------------------


def digest(*paths, extra=""):
    """A hash of the contents of files, of the names in folders, and of `extra`."""
    total = hashlib.sha256(extra.encode())
    for path in sorted(paths):
        total.update(str(path.relative_to(ROOT)).encode())
        if path.is_dir():
            names = (entry.name for entry in path.iterdir() if not entry.name.startswith((".", "__pycache__")))
            total.update("\n".join(sorted(names)).encode())
        elif path.exists():
            total.update(path.read_bytes())
    return total.hexdigest()


def wanted_state(ros):
    """What a finished `.venv` notes: the ROS 2 it uses, and hashes of what decides on packages and on the build."""
    scripts = ROOT / "scripts"
    packages = digest(
        *REQUIREMENTS.glob("*.txt"),
        *scripts.glob("tf2_msgs/**/*.*"),
        scripts / "setup_venv.py",
        extra=json.dumps([ros, str(VENV)], sort_keys=True),
    )
    folders = [ROOT / name for name in ("egohand_ros", "egohand_ros/nodes", "launch", "config")]
    files = [*ROOT.glob("egohand_ros/nodes/*.py"), *ROOT.glob("egohand_ros/nodes/*/node.py")]
    nodes = [str(path) for path in files if "\n    return run_node(" in path.read_text()]
    build = digest(
        *ROOT.glob("msg/*.msg"),
        *ROOT.glob("srv/*.srv"),
        *ROOT.glob("action/*.action"),
        *folders,
        *scripts.glob("*.*"),
        ROOT / "CMakeLists.txt",
        ROOT / "package.xml",
        ROOT / "setup.py",
        ROOT / "egohand_ros" / "__init__.py",
        extra=packages + " ".join(sorted(nodes)),
    )
    return {"ros": ros, "packages": packages, "build": build}


def read_state():
    try:
        return json.loads(STATE.read_text())
    except (OSError, ValueError):
        return {}


def set_up():
    """Does what has to be done."""
    state = read_state()
    ros = find_ros(state)
    wanted = wanted_state(ros)
    if state == wanted:
        return
    env = step_environment(ros)
    print(
        f"Setting up .venv with {'the sourced' if ros['flavour'] == 'sourced' else 'wheels of'} ROS 2 "
        f"{ros['variables']['ROS_DISTRO'].capitalize()} (logs: {LOGS.relative_to(ROOT)}/)",
        flush=True,
    )
    if state.get("packages") != wanted["packages"]:
        provide_system_packages(ros["python"], env)
        shutil.rmtree(BUILD, ignore_errors=True)  # it holds paths of the interpreter and of ROS 2
        make_venv(ros, env)
        install_packages(ros, env)
    else:
        write_environment_hook(ros)
        run_step("Building messages", env, messages=cmake_build())
    install_package(env)
    check_imports(env)
    STATE.write_text(json.dumps(wanted))
    if site_packages().parent.name not in ("python3.11", "python3.12"):
        print(
            "Without the hand_tracker node: mediapipe 0.10.21 is made for Python 3.11 and 3.12.\n"
            "With one of them on PATH, `make clean build` takes it."
        )
    print("Ready: .venv/bin/egohand --help", flush=True)


def main():
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two `make` at the same time
        try:
            set_up()
        except SetupError as error:
            return f"\nerror: {error}"
        except KeyboardInterrupt:
            return "\nstopped; the next `make` goes on from here"
    return 0


if __name__ == "__main__":
    sys.exit(main())
