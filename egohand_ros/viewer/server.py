"""`LocalServer`: viser's web server, for this machine alone and for pages that it served itself.

viser binds every interface unless told otherwise, and accepts a WebSocket from any page that a browser has open: a
hostile one could read the camera's images. So the server binds the loopback interface, and each request is looked at
before viser sees it (`refusal`). From another machine: `ssh -L 8080:127.0.0.1:8080 robot`.
"""

import contextlib
import http
import importlib.util
import logging
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

from ..errors import UserError

HOST = "127.0.0.1"
DEFAULT_PORT = 8080
_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")
_LARGEST_MESSAGE = 2**20  # bytes from a page, which has little to say
_STRANGER = "http://stranger.invalid"
_making = threading.Lock()

# Browsers open connections in advance and never use them, which websockets reports with a traceback each.
_QUIET = logging.getLogger(f"{__name__}.websockets")
_QUIET.setLevel(logging.CRITICAL)


def check_installed() -> None:
    """Raises `UserError` where viser, an extra, is missing."""
    if importlib.util.find_spec("viser") is None:
        raise UserError("the viewer needs viser, which is not installed: pip install 'egohand_ros[viewer]'")


def refusal(hosts: list[str], origins: list[str]) -> str:
    """Why a request with these Host and Origin headers is refused; "" for one that is let in.

    Host has to be a name of this machine: otherwise a name of the attacker's points here (DNS rebinding). A browser
    says in Origin whose page asks: only ours may, which is the one that came from the same host and port. What sends
    no Origin is no page.
    """
    if len(hosts) != 1 or not _LOOPBACK.fullmatch(hosts[0].lower()):
        return "this page is for the machine that it runs on; forward the port with ssh -L and open localhost"
    if origins and [origin.lower() for origin in origins] != [f"http://{hosts[0].lower()}"]:
        return "another page may not look at this one"
    return ""


def free_port(first: int = DEFAULT_PORT) -> int:
    """The first port from `first` on that nobody listens on."""
    for port in range(first, min(first + 1000, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return port
    raise UserError(f"no free port from {first} on; give another with --port or viewer.port")


def make_server(port: int, title: str) -> Any:
    """A running `viser.ViserServer` on the loopback interface, at `port` or the first free one after it.

    Raises `UserError` where viser is missing, and where this version of it can be reached by a page of others.
    """
    check_installed()
    import rich
    import viser

    class LocalServer(viser.ViserServer):  # type: ignore[misc, unused-ignore]
        """Never anywhere but here."""

        def request_share_url(self, verbose: bool = True) -> None:
            """Any page may ask for a public address of the server; it gets none."""
            return None

    rich.get_console().quiet = True  # viser announces itself there
    with _making, _guarded_serving():
        server = LocalServer(HOST, free_port(port), label=title, verbose=False)
    if answer_to(server.get_port(), _STRANGER) != http.HTTPStatus.FORBIDDEN:
        server.stop()
        raise UserError(f"viser {viser.__version__} lets pages of others in; pip install 'egohand_ros[viewer]'")
    return server


def answer_to(port: int, origin: str) -> int:
    """The HTTP status that a WebSocket handshake from a page of `origin` gets; 101 is a connection."""
    request = (
        f"GET / HTTP/1.1\r\nHost: {HOST}:{port}\r\nOrigin: {origin}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with socket.create_connection((HOST, port), timeout=10.0) as connection:
        connection.sendall(request.encode())
        status = connection.recv(64).split(b" ", 2)[1:2]
    return int(status[0]) if status and status[0].isdigit() else 0


@contextlib.contextmanager
def _guarded_serving() -> Iterator[None]:
    """viser has no setting for who may connect, so while it starts, what it starts with is given one more check."""
    from websockets.asyncio import server as websocket_server

    serve = websocket_server.serve

    def guarded(*args: Any, process_request: Any, **options: Any) -> Any:
        def checked(connection: Any, request: Any) -> Any:
            reason = refusal(request.headers.get_all("Host"), request.headers.get_all("Origin"))
            if reason:
                return connection.respond(http.HTTPStatus.FORBIDDEN, f"{reason}\n")
            return process_request(connection, request)

        ours = {"process_request": checked, "max_size": _LARGEST_MESSAGE, "logger": _QUIET}
        return serve(*args, **(options | ours))

    websocket_server.serve = guarded
    try:
        yield
    finally:
        websocket_server.serve = serve
