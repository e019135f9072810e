"""Who may look at the page: this machine, and no page of others that its browser has open."""

import importlib.util
import socket
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest

from egohand_ros.errors import UserError
from egohand_ros.viewer import server as server_module
from egohand_ros.viewer.server import answer_to, check_installed, free_port, make_server, refusal


@pytest.mark.parametrize(
    "hosts, origins, let_in",
    [
        (["127.0.0.1:8080"], [], True),
        (["127.0.0.1:8080"], ["http://127.0.0.1:8080"], True),
        (["LOCALHOST:9000"], ["http://localhost:9000"], True),  # through ssh -L 9000:127.0.0.1:8080
        (["[::1]:8080"], ["http://[::1]:8080"], True),
        (["127.0.0.1:8080"], ["http://hostile.test"], False),
        (["127.0.0.1:8080"], ["http://127.0.0.1:8081"], False),  # another program's page on this machine
        (["127.0.0.1:8080"], ["https://127.0.0.1:8080"], False),
        (["127.0.0.1:8080"], ["null"], False),  # a file, or a page in a sandbox
        (["127.0.0.1:8080"], [""], False),
        (["127.0.0.1:8080"], ["http://127.0.0.1:8080", "http://hostile.test"], False),
        (["hostile.test:8080"], ["http://hostile.test:8080"], False),  # its name points at this machine
        (["127.0.0.1.hostile.test"], [], False),
        (["127.0.0.1:8080", "hostile.test"], [], False),
        ([], [], False),
    ],
)
def test_only_this_machine_and_the_page_itself_are_let_in(hosts, origins, let_in):
    assert (refusal(hosts, origins) == "") == let_in


def test_a_missing_extra_is_one_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'egohand_ros\[viewer\]'"):
        check_installed()


def test_a_port_that_is_taken_is_passed_over(port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert free_port(port) > port


@pytest.fixture
def served(port):
    pytest.importorskip("viser")
    server = make_server(port, "a test")
    yield server
    server.stop()


def test_a_hostile_page_gets_no_connection_and_its_own_gets_one(served, wait):
    from websockets.exceptions import InvalidStatus

    from egohand_ros.nodes.bench.visitor import Visitor

    port = served.get_port()
    for origin in ("http://hostile.test", "null", f"http://localhost:{port}", f"http://127.0.0.1:{port + 1}"):
        assert answer_to(port, origin) == 403
        with pytest.raises(InvalidStatus, match="403"), Visitor(port, origin):
            pass
    assert not served.get_clients()
    with Visitor(port, f"http://127.0.0.1:{port}") as page, Visitor(port) as program:
        wait(lambda: len(served.get_clients()) == 2 and page.received and program.received, "both see the scene")


def test_nobody_gets_the_page_under_a_foreign_name(served):
    url = f"http://127.0.0.1:{served.get_port()}/"
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert b"<html" in answer.read().lower()
    for headers in ({"Host": "hostile.test"}, {"Origin": "http://hostile.test"}):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30)


def test_it_listens_on_the_loopback_interface_alone(served):
    import psutil

    mine = [c for c in psutil.Process().net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert {c.laddr.ip for c in mine if c.laddr.port == served.get_port()} == {"127.0.0.1"}


def test_a_page_that_asks_for_a_public_address_gets_none(served, wait, monkeypatch):
    import viser
    from viser import _messages

    from egohand_ros.nodes.bench.visitor import Visitor

    made, asked = [], []
    monkeypatch.setattr(viser._viser, "ViserTunnel", lambda *a: made.append(a))
    submit = served._thread_executor.submit
    monkeypatch.setattr(served._thread_executor, "submit", lambda f, *a: asked.append(f) or submit(f, *a))
    with Visitor(served.get_port()) as page:
        page.say(_messages.ShareUrlRequest())
        wait(lambda: asked, "the question has come")
        assert asked[0]() is None and not made


def test_a_viser_that_lets_everyone_in_is_not_used(port, monkeypatch):
    pytest.importorskip("viser")

    @contextmanager
    def unguarded():
        yield

    monkeypatch.setattr(server_module, "_guarded_serving", unguarded)
    with pytest.raises(UserError, match="lets pages of others in"):
        make_server(port, "a test")


def test_a_frozen_browser_holds_up_neither_the_page_nor_another_browser(served, wait):
    from egohand_ros.nodes.bench.visitor import Visitor

    shown = served.gui.add_image(np.zeros((480, 640, 3), np.uint8), format="jpeg")
    noise = np.random.default_rng(0).integers(0, 255, (12, 480, 640, 3), dtype=np.uint8)
    buffer = served._websock_server._broadcast_buffer
    buffered, cursors = buffer.message_from_id, buffer.generator_cursors
    with Visitor(served.get_port(), frozen=True), Visitor(served.get_port()) as other:
        wait(lambda: len(served.get_clients()) == 2, "both are there")
        before = len(buffered)
        for turn in range(80):  # 24 MB, more than the system holds for who does not read
            received = other.received
            shown.image = noise[turn % len(noise)]
            wait(lambda: other.received > received, "the other browser goes on")
        assert max(cursors.values()) - min(cursors.values()) > 10, "one of them is frozen"
        assert len(buffered) <= before + 2, "what is old is not kept for the frozen one"
