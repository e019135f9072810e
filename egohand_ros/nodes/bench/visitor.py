"""`Visitor`: a program that has the page open as a browser has, without drawing it; for benchmarks and tests."""

import threading
from types import TracebackType
from typing import Any

from ...viewer.server import HOST, check_installed


class Visitor:
    """A context. `origin`: whose page a browser would say it is of; None: it does not say. A `frozen` one takes nothing
    that is sent to it. `received` counts what came.

    Raises OSError where nobody serves the port, `websockets.exceptions.InvalidStatus` where it is refused.
    """

    def __init__(self, port: int, origin: str | None = None, frozen: bool = False):
        check_installed()
        self._port, self._origin, self._frozen = port, origin, frozen
        self.received = 0

    def __enter__(self) -> "Visitor":
        import viser
        from viser import _messages as messages
        from websockets.sync.client import connect

        protocol: Any = f"viser-v{viser.__version__}"
        self._socket = connect(
            f"ws://{HOST}:{self._port}/", origin=self._origin, subprotocols=[protocol], max_size=None  # type: ignore[arg-type]
        )  # fmt: skip
        centre, up = (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)
        # Only who says where it looks from counts as a page that is open.
        self.say(messages.ViewerCameraMessage((1.0, *centre), (1.0, 1.0, 1.0), 1.0, 0.01, 100.0, 480, 640, centre, up))
        if not self._frozen:
            threading.Thread(target=self._listen, name="visitor", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._frozen:
            self._socket.socket.close()  # it would wait for an answer behind all that it has not read
        else:
            self._socket.close()

    def say(self, message: Any) -> None:
        """Send one message of viser's."""
        import msgspec

        self._socket.send(msgspec.msgpack.encode(message.as_serializable_dict()))

    def _listen(self) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            for _ in self._socket:
                self.received += 1
        except ConnectionClosed:
            return
