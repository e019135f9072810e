"""The moving picture and the page of handovers show every phase, in its time."""

from types import SimpleNamespace

import numpy as np
from PIL import Image

from egohand_ros.evaluation.pages.handover_page import write_gif, write_handover_page

PHASES = ("OBSERVE", "REACH", "TRANSFER", "REACH")


def frames():
    return [
        SimpleNamespace(
            time=0.5 * i,
            picture=np.full((60, 80, 3), 60 * i, np.uint8),
            phase=phase,
            reason="<why>",
            time_to_contact=0.4 if phase == "REACH" else -1.0,
        )
        for i, phase in enumerate(PHASES)
    ]


def test_the_moving_picture_has_its_pictures_at_their_pace(tmp_path):
    write_gif(frames(), tmp_path / "h.gif")
    with Image.open(tmp_path / "h.gif") as picture:
        assert picture.n_frames == len(PHASES) and picture.size == (80, 82)
        picture.seek(1)
        assert picture.info["duration"] == 500


def test_the_page_is_whole_and_what_nodes_say_is_escaped(tmp_path):
    phases = [{"time": f.time, "phase": f.phase, "reason": f.reason} for f in frames()]
    figures = {"handed_over": 2, "scenes": 3, "seconds": 9.0, "phases": phases, "diagnostics": {"a": "1"}}
    write_handover_page(figures, frames(), tmp_path / "h.html")
    text = (tmp_path / "h.html").read_text()
    assert text.count("<figure>") == 4 and "&lt;why&gt;" in text and "<why>" not in text
    assert "2 objects changed hands" in text and "http" not in text
