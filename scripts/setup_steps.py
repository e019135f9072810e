"""Steps of `make build` (`setup_venv.py`): commands that run while a title and the seconds are shown, their output in
LOGS. Needs Python alone.
"""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "build" / "log"


class SetupError(Exception):
    """What stopped the set-up, and what to do about it."""


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
