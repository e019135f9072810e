"""A program that speaks to the page as a browser does: it says where its camera is, and counts what comes."""

import threading

import msgspec
import viser
from viser import _messages
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

PROTOCOL = f"viser-v{viser.__version__}"


class PlainClient:
    """A context. `origin`: whose page a browser would say it is of."""

    def __init__(self, port: int, origin: str | None = None):
        self._port, self._origin = port, origin
        self.received = 0

    def __enter__(self) -> "PlainClient":
        self._socket = connect(
            f"ws://127.0.0.1:{self._port}/", origin=self._origin, subprotocols=[PROTOCOL], max_size=None
        )
        self.say(
            _messages.ViewerCameraMessage(
                (1.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1.0, 0.01, 100.0, 480, 640, (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)
            )
        )
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._socket.close()

    def say(self, message) -> None:
        """Send one message of viser's."""
        self._socket.send(msgspec.msgpack.encode(message.as_serializable_dict()))

    def _listen(self) -> None:
        try:
            for _ in self._socket:
                self.received += 1
        except ConnectionClosed:
            return
