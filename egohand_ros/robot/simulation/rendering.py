"""Pictures of the simulated hand, off-screen.

`HandRenderer` draws in this process. `RenderProcess` draws in a child of low priority: OpenGL in software takes tens of
milliseconds a picture, and a driver that crashes must not take the robot with it. MuJoCo fixes its OpenGL back end
when it is imported, so a child is also how several can be tried.
"""

import contextlib
import os
import struct
import subprocess
import sys
from typing import IO, Any

import numpy as np

from ...errors import UserError

BACKENDS = ("egl", "osmesa")
INSTALL_HINT = "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri"
_READY = b"ready\n"
_NICENESS = 10
_QUIT_TIMEOUT = 5.0  # s


class HandRenderer:
    """Draws poses of a compiled scene (see `scene.build_scene`); close it, or use it in a `with` statement."""

    def __init__(self, model: Any, width: int = 480, height: int = 360):
        import mujoco

        from .mujoco_scene import CAMERA

        self._mujoco, self._camera = mujoco, CAMERA
        self._model, self._data = model, mujoco.MjData(model)
        self._renderer = mujoco.Renderer(model, height, width)

    def render(self, pose: np.ndarray) -> np.ndarray:
        """RGB picture (height, width, 3) uint8 of the scene's joint positions (nq,), and behind them, where bodies are
        moved from outside, their positions (M, 3) m and quaternions (M, 4) wxyz (`scene_pose`)."""
        nq, m = self._model.nq, self._model.nmocap
        self._data.qpos[:] = pose[:nq]
        if len(pose) > nq:
            self._data.mocap_pos[:] = pose[nq : nq + 3 * m].reshape(m, 3)
            self._data.mocap_quat[:] = pose[nq + 3 * m :].reshape(m, 4)
        self._mujoco.mj_kinematics(self._model, self._data)
        self._mujoco.mj_camlight(self._model, self._data)
        self._renderer.update_scene(self._data, self._camera)
        return self._renderer.render()

    def close(self) -> None:
        self._renderer.close()

    def __enter__(self) -> "HandRenderer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def scene_pose(data: Any) -> np.ndarray:
    """What a picture of a MuJoCo scene depends on: joint positions, then bodies that are moved from outside."""
    return np.concatenate([data.qpos, data.mocap_pos.ravel(), data.mocap_quat.ravel()])


class RenderProcess:
    """The same in a child process, with the first OpenGL back end that works; one user at a time.

    Raises `UserError`, with the command that installs what is missing, when none works. The child ends by itself when
    this process dies, however it dies.
    """

    def __init__(self, model: Any, width: int = 480, height: int = 360):
        self.size = (height, width, 3)
        data = _serialised(model)
        wanted = os.environ.get("MUJOCO_GL")
        failures = []
        for backend in (wanted,) if wanted else BACKENDS:
            self._child = _start_child(backend, width, height, data)
            self._input, self._output = _pipes(self._child)
            answer = self._output.readline()
            if answer == _READY:
                self.backend = backend
                return
            failures.append(f"{backend}: {answer.decode(errors='replace').strip() or 'crashed'}")
            self.close()
        raise UserError(f"no pictures of the simulated hand ({'; '.join(failures)}); to get them: {INSTALL_HINT}")

    def render(self, pose: np.ndarray) -> np.ndarray:
        """RGB picture (height, width, 3) uint8, read-only, of a pose as `HandRenderer` takes it. Raises `UserError`
        when the child died."""
        try:
            self._input.write(np.asarray(pose, dtype=np.float64).tobytes())
            self._input.flush()
            picture = _read_exactly(self._output, int(np.prod(self.size)))
        except (BrokenPipeError, EOFError, ValueError):
            raise UserError(f"the renderer ({self.backend}) died; to repair OpenGL: {INSTALL_HINT}") from None
        return np.frombuffer(picture, np.uint8).reshape(self.size)

    def close(self) -> None:
        """End the child. Safe to call twice."""
        for pipe in (self._input, self._output):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        try:
            self._child.wait(_QUIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def __enter__(self) -> "RenderProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serialised(model: Any) -> bytes:
    import mujoco

    data = np.empty((mujoco.mj_sizeModel(model), 1), dtype=np.uint8)
    mujoco.mj_saveModel(model, None, data)
    return data.tobytes()


def _start_child(backend: str, width: int, height: int, data: bytes) -> subprocess.Popen[bytes]:
    environment = os.environ | {"MUJOCO_GL": backend, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen(
        [sys.executable, "-m", __name__, str(width), str(height)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        # Ctrl-C is for the node, which then ends its child. Not a session of its own: Linux would give that as much of
        # the processors as all nodes together, whatever its priority.
        process_group=0,
    )
    try:
        pipe = _pipes(child)[0]
        pipe.write(struct.pack("<Q", len(data)) + data)
        pipe.flush()
    except BrokenPipeError:
        pass  # what it says, or fails to say, on its output tells why
    return child


def _pipes(child: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert child.stdin is not None and child.stdout is not None, "both were asked for"
    return child.stdin, child.stdout


def _read_exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _give_way() -> None:
    """Have this process run on what others leave of the processors, and be interrupted as soon as one wakes up."""
    os.nice(_NICENESS)
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _serve(width: int, height: int) -> None:
    """The child: a model in, then joint positions in and pictures out until the input ends."""
    _give_way()
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(2, 1)  # whatever a driver prints must not end up among the pictures
    (count,) = struct.unpack("<Q", _read_exactly(sys.stdin.buffer, 8))
    data = _read_exactly(sys.stdin.buffer, count)
    try:
        import mujoco

        model = mujoco.MjModel.from_binary_path("hand.mjb", {"hand.mjb": data})
        renderer = HandRenderer(model, width, height)
        renderer.render(model.qpos0)
    except Exception as error:  # whatever a missing or broken OpenGL raises is for the parent to tell
        output.write(f"{type(error).__name__} {' '.join(str(error).split())}\n".encode())
        return
    output.write(_READY)
    output.flush()
    while True:
        try:
            pose = np.frombuffer(_read_exactly(sys.stdin.buffer, 8 * (model.nq + 7 * model.nmocap)))
        except EOFError:
            break
        try:
            output.write(renderer.render(pose).tobytes())
            output.flush()
        except BrokenPipeError:
            break
    renderer.close()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
