"""Nodes as operating-system processes: started, watched, restarted and never left behind. No rclpy here."""

import contextlib
import ctypes
import math
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import UserError
from ...locks import lock_domain
from ...shipped import config_folder
from .process_usage import cpu_seconds

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
MAX_RESPAWNS = 5

# Domains above 101 use ports that Linux hands out to clients; the first few are what people type.
_DOMAINS = range(20, 101)
_DOMAIN_LOCK_PORT = 32768


def ros_environment(domain: int, localhost_only: bool = True) -> dict[str, str]:
    """The environment of a node process: this one's, with a DDS domain of its own and where the packages are."""
    environment = dict(os.environ)
    environment["ROS_DOMAIN_ID"] = str(domain)
    if localhost_only:
        environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    environment.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    environment.setdefault("OMP_NUM_THREADS", "1")  # models are small; more threads only fight over the cores
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def large_message_environment() -> dict[str, str]:
    """What a process that publishes raw images needs besides: a Fast DDS profile with room for them in shared
    memory.
    """
    if "FASTRTPS_DEFAULT_PROFILES_FILE" in os.environ or "FASTDDS_DEFAULT_PROFILES_FILE" in os.environ:
        return {}
    return {"FASTRTPS_DEFAULT_PROFILES_FILE": str(config_folder() / "fastdds.xml")}


@contextlib.contextmanager
def private_domain():
    """A DDS domain that no participant on this machine uses, and that no other session here takes meanwhile.

    A TCP port stands for each domain, as a lock that the operating system frees whatever happens. It is the port that
    ROS's own test tools lock (package domain_coordinator), so that tests and sessions keep out of each other's way.
    """
    order = random.sample(_DOMAINS, len(_DOMAINS))
    for domain in order:
        with contextlib.ExitStack() as held:
            lock = held.enter_context(socket.socket())
            try:
                lock.bind(("", _DOMAIN_LOCK_PORT + domain))
                held.enter_context(lock_domain(domain))
            except (OSError, UserError):
                continue
            if _domain_is_quiet(domain):
                yield domain
                return
    raise UserError("no free ROS_DOMAIN_ID between 20 and 100; end other sessions or give --domain")


def _domain_is_quiet(domain: int) -> bool:
    """Whether nobody listens where the domain's first DDS participant would (RTPS 2.5, section 9.6.2.3)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("0.0.0.0", 7400 + 250 * domain + 10))
        except OSError:
            return False
    return True


def _prepare(parent: int, niceness: int):
    """What a child does before it becomes the node: it ends in order when the session's process disappears."""

    def prepare() -> None:
        os.nice(niceness)
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it disappeared before the line above
            os._exit(1)

    return prepare


@dataclass
class NodeProcess:
    """One node's process. `exits` lists the exit codes of processes that ended without being asked to."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    niceness: int = 0
    exits: list[int] = field(default_factory=list)
    _process: subprocess.Popen | None = None
    _stopping: bool = False
    _started: float = 0.0

    def start(self) -> None:
        """Start it in a process group of its own, its output appended to the log.

        Must be called from the thread that lives longest: the kernel ties the child's life to the starting thread.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,  # not a session: Linux would give each one an equal share, whatever its niceness
                preexec_fn=_prepare(os.getpid(), self.niceness),
            )
        self._started = time.monotonic()

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self.running else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def respawns(self) -> int:
        """How often it was started again."""
        return len(self.exits)

    def died(self) -> bool:
        """Whether it has ended by itself since the last call; notes the exit code once."""
        if self._process is None or self._stopping or self._process.poll() is None:
            return False
        self.exits.append(self._process.returncode)
        self._process = None
        return True

    def ask_to_stop(self) -> None:
        """SIGINT to its group, once: the node deactivates, sends its safe command and ends."""
        if not self._stopping:
            self._stopping = True
            self._signal(signal.SIGINT)

    def stop(self, timeout: float) -> bool:
        """Stop and wait; after `timeout` s by force. True when it ended in order."""
        self.ask_to_stop()
        if self._process is None:
            return True
        try:
            self._process.wait(timeout)
            return True
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
            return False

    def last_lines(self, count: int = 5) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
        except OSError:
            return ""

    def cpu_seconds(self) -> float:
        """Processor time that it has used, user and system; 0 when it does not run."""
        used = cpu_seconds(self.pid)
        return 0.0 if math.isnan(used) else used

    def _signal(self, number: int) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
