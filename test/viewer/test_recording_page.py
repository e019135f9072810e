"""A recording on the page: its time line, the choice of the forecaster, and how a browser shows it."""

import http.server
import threading

import cv2
import numpy as np
import pytest

from egohand_ros.cli.main import main
from egohand_ros.data.bags.bag import episode_to_bag
from egohand_ros.data.synthetic import generate_scene, observe
from egohand_ros.errors import UserError
from egohand_ros.messages.status import NodeState
from egohand_ros.viewer.feed import Feed
from egohand_ros.viewer.timeline import TimeLine, make_replay

pytest.importorskip("viser")

from browser import CHROMIUM, Browser

from egohand_ros.viewer.recording_page import RecordingPage


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """Eight seconds of a generated person: hand_poses and camera_pose, no forecasts, no images."""
    folder = tmp_path_factory.mktemp("recorded") / "bag"
    episode_to_bag(observe(generate_scene(3, 8.0)).episode, folder)
    return folder


def test_any_time_can_be_sought_and_playing_there_shows_the_same(bag):
    with TimeLine(bag) as line:
        assert line.end - line.begin == pytest.approx(8.0, abs=0.1) and not line.has_forecasts
        sought, played = Feed(), Feed()
        line.seek(sought, line.begin + 5.0)
        line.seek(played, line.begin)
        for step in range(50):
            line.play(played, line.begin + 0.1 * step, line.begin + 0.1 * (step + 1))
        assert sought.moment().hands.stamp == played.moment().hands.stamp
        assert np.array_equal(sought.moment().shown_hands(), played.moment().shown_hands(), equal_nan=True)


def test_a_forecaster_replays_the_recording_as_it_would_have_run(bag):
    replay = make_replay(bag, "persistence", 3)
    assert len(replay.futures) > 50 and (np.diff(replay.stamps) > 0).all()
    assert replay.at(replay.stamps[0] - 0.01) is None
    assert replay.at(replay.stamps[10] + 1e-4).stamp == replay.stamps[10]
    with TimeLine(bag) as line:
        feed = Feed(begin=line.begin)
        line.seek(feed, line.begin)
        line.play(feed, line.begin, line.end, replay)
    time, error, persistence, _ = feed.curves().score
    assert len(time) > 20 and 0.0 <= time[0] and time[-1] <= 8.0
    assert error == pytest.approx(persistence, abs=1.0)  # mm: it is persistence


def test_what_is_no_recording_or_has_no_such_forecaster_is_refused_in_one_line(bag, tmp_path, capsys):
    assert main(["view", str(tmp_path / "nothing")]) == 2
    assert main(["view", str(bag), "--forecaster", "no-such"]) == 2
    assert main(["view", str(bag), "--port", "0"]) == 2
    told = capsys.readouterr().err
    assert "does not exist" in told and "no-such" in told and "--port 0" in told
    with pytest.raises(UserError, match="no shipped weights"):
        make_replay(bag, "egoh4", 1)


@pytest.fixture
def page(bag, port):
    """The page of the recording, served by a thread."""
    with RecordingPage(bag, ["persistence"], port, hand="allegro_right") as page:
        thread = threading.Thread(target=page.run, daemon=True)
        thread.start()
        yield page
        page.stop.set()
        thread.join()


def test_the_chosen_forecaster_is_made_meanwhile_and_then_shown(bag, port, wait):
    with RecordingPage(bag, ["persistence", "kalman"], port) as page:
        page.turn(0.1)
        page._making.join()
        page.turn(0.1)
        assert page._feed.moment().futures is None or page._feed.moment().futures.model_id == "persistence"
        for _ in range(30):
            page.turn(0.1)
        assert page._feed.moment().futures.model_id == "persistence"
        shown = page._slider.value
        page.choose("kalman")
        page.turn(0.1)
        page._making.join()
        page.turn(0.1)
        page.turn(0.1)
        assert "kalman" in page._feed.moment().futures.model_id
        page._slider.value = 1.0
        page.turn(0.1)
        assert page._slider.value == pytest.approx(1.0, abs=0.01) != shown


needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


@needs_browser
def test_a_browser_shows_it_and_a_hostile_page_in_it_does_not_get_in(page, tmp_path, wait):
    with Browser(tmp_path) as browser:
        tab = browser.open(page.url)
        tab.wait(lambda: "persistence" in tab.text() and "hypotheses" in tab.text(), "the page shows a forecast")
        coloured = lambda: colours(tab, tmp_path) > 200  # noqa: E731
        tab.wait(coloured, "hands in the scene")
        assert not tab.evaluate("[...document.querySelectorAll('*')].some(e => /share/i.test(e.ariaLabel || ''))")

        script = "document.title = 'run'"
        told = f'<img src=x onerror="{script}"> {{{script}}}'
        page._feed.on_nodes(0.0, [NodeState(f"/{{{script}}}", 2, told, {})])
        page._fresh = True
        tab.wait(lambda: "onerror" in tab.text(), "what a node says is shown as it is")
        assert (
            tab.evaluate("document.title") != "run" and tab.evaluate("document.querySelectorAll('[src=x]').length") == 0
        )

        own = f"ws://127.0.0.1:{page.page.server.get_port()}/"
        assert tab.evaluate(connects(own)) == "open"  # so that it is the origin that is refused
        with a_page_of_others() as port:
            hostile = browser.open(f"http://hostile.test:{port}/")
            hostile.wait(lambda: hostile.text() == "hostile", "the hostile page")
            assert hostile.evaluate(connects(own)) == "refused"
            assert hostile.evaluate(connects(own.replace("127.0.0.1", "hostile.test"))) == "refused"


def colours(tab, folder) -> int:
    """How many pixels of the scene, in the middle of the page, have the colour of a hand."""
    tab.picture(folder / "page.png")
    middle = cv2.imread(str(folder / "page.png"))[100:, 430:1000].astype(int)
    return int((middle.max(axis=-1) - middle.min(axis=-1) > 120).sum())


def connects(url: str) -> str:
    """A script that tries to connect."""
    import viser

    return (
        f"new Promise(done => {{ const s = new WebSocket('{url}', ['viser-v{viser.__version__}']);"
        "s.onopen = () => { s.close(); done('open'); }; s.onerror = () => done('refused'); })"
    )


class a_page_of_others:
    """A context: the port of a server of another page."""

    def __enter__(self) -> int:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(b"<body>hostile</body>")

            def log_message(self, *words):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self._server.server_address[1]

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()
