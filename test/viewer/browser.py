"""A headless Chromium, driven over its DevTools protocol: opens pages, runs script in them, takes pictures."""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TIMEOUT = 120.0  # s; two cores may have much else to do
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader",
    "--no-first-run", "--disable-extensions", "--disable-background-networking", "--mute-audio",
    "--remote-debugging-port=0", "--window-size=1400,900", "--host-resolver-rules=MAP hostile.test 127.0.0.1",
)  # fmt: skip


class Browser:
    """A context. Everything it makes is in `folder`."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __enter__(self) -> "Browser":
        log = self._folder / "chromium.log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [CHROMIUM, *_FLAGS, f"--user-data-dir={self._folder / 'profile'}", "about:blank"],
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + TIMEOUT
        while not (found := re.search(r"DevTools listening on ws://127\.0\.0\.1:(\d+)/", log.read_text())):
            assert time.monotonic() < end and self._process.poll() is None, log.read_text()
            time.sleep(0.1)
        self._port = int(found[1])
        return self

    def __exit__(self, *_) -> None:
        self.send(signal.SIGKILL)
        self._process.wait()

    def send(self, number: int) -> None:
        """A signal to all its processes: SIGSTOP freezes them."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def open(self, url: str) -> "Tab":
        """A new tab."""
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/json/new?{url}", method="PUT")
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return Tab(json.load(answer)["webSocketDebuggerUrl"])


class Tab:
    """One page that is open."""

    def __init__(self, url: str):
        self._socket = connect(url, max_size=None, open_timeout=TIMEOUT)
        self._numbers = itertools.count(1)
        self.ask("Page.enable")

    def ask(self, method: str, **parameters):
        """One command of the protocol and its answer."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=TIMEOUT))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def evaluate(self, script: str):
        """What a JavaScript expression is, promises awaited."""
        result = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def text(self) -> str:
        """All that can be read on the page."""
        return self.evaluate("document.body ? document.body.innerText : ''")

    def wait(self, condition, what: str) -> None:
        end = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < end, f"{what} did not come true:\n{self.text()}"
            time.sleep(0.2)

    def picture(self, path: Path) -> None:
        """A screenshot."""
        import base64

        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        self.ask("Page.close")
        self._socket.close()
