"""The page and the moving picture of handovers on a live graph."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ...outputs import replaced_file, write_text, writing

_LONGEST = 60.0  # s of a moving picture
_LEAST_STEP = 0.1  # s between its pictures
_INK, _PAPER = (20, 24, 30), (255, 255, 255)


def captioned(picture: np.ndarray, caption: str) -> Image.Image:
    """A picture (H, W, 3) with a line above it."""
    image = Image.fromarray(picture)
    page = Image.new("RGB", (image.width, image.height + 22), _PAPER)
    page.paste(image, (0, 22))
    ImageDraw.Draw(page).text((8, 5), caption, fill=_INK)
    return page


def write_gif(frames: Sequence, path: Path | str) -> None:
    """Frames (`HandoverReport.frames`) at their own pace, each with its phase, reason and time to contact."""
    chosen, last = [], -np.inf
    for frame in frames:
        if frame.time - last >= _LEAST_STEP and frame.time - frames[0].time <= _LONGEST:
            chosen.append(frame)
            last = frame.time
    pictures = [_drawn(frame).quantize(64) for frame in chosen]
    steps = np.diff([f.time for f in chosen], append=chosen[-1].time + 0.5)
    with replaced_file(path) as part, writing(path):
        pictures[0].save(
            part, format="GIF", save_all=True, append_images=pictures[1:],
            duration=[int(1000 * s) for s in steps], loop=0,
        )  # fmt: skip


def _drawn(frame) -> Image.Image:
    contact = f", contact in {frame.time_to_contact:.1f} s" if frame.time_to_contact > 0.0 else ""
    return captioned(frame.picture, f"{frame.phase}: {frame.reason}{contact}")


def write_handover_page(figures: dict, frames: Sequence, path: Path | str) -> None:
    """A self-contained HTML page: the first picture of every phase, what came when, latencies."""
    shown, before = [], None
    for frame in frames:
        if frame.phase != before:
            before = frame.phase
            shown.append(frame)
    pictures = "".join(
        f'<figure><img src="{_as_data(_drawn(frame))}" alt="{frame.phase}"><figcaption>{frame.time:.1f} s</figcaption>'
        "</figure>"
        for frame in shown[:24]
    )
    rows = "".join(
        f"<tr><td>{p['time']:.1f}</td><td>{p['phase']}</td><td>{html.escape(p['reason'])}</td></tr>"
        for p in figures["phases"]
    )
    told = "".join(
        f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in figures["diagnostics"].items()
    )
    write_text(
        path,
        "<!doctype html><meta charset=utf-8><title>Handovers</title><style>body{font:15px system-ui;margin:2em}"
        "figure{display:inline-block;margin:4px}img{width:320px}table{border-collapse:collapse;margin:1em 0}"
        "td{padding:2px 10px;border-bottom:1px solid #ddd}</style>"
        f"<h1>{figures['handed_over']} objects changed hands, {figures['scenes']} people, {figures['seconds']} s</h1>"
        f"<h2>The first moment of each phase</h2>{pictures}<h2>Latencies and outcomes</h2><table>{told}</table>"
        f"<h2>What came when (s)</h2><table>{rows}</table>",
    )


def _as_data(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
