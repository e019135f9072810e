"""Small charts as SVG text whose colours are CSS variables, so that a page's light and dark themes reach into them."""

import math
from html import escape

import numpy as np

_MARGIN = {"left": 46.0, "right": 10.0, "top": 10.0, "bottom": 30.0}
_TICKS = 5


def nice_ticks(low: float, high: float, count: int = _TICKS) -> np.ndarray:
    """Round numbers from `low` to `high`, about `count` of them."""
    span = high - low
    if not (np.isfinite(span) and span > 0):
        return np.array([low])
    raw = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9) * step
    return first + step * np.arange(int((high - first) / step + 1e-9) + 1)


def tick_label(value: float) -> str:
    """A tick without needless zeros."""
    return f"{0.0 if abs(value) < 1e-12 else value:.6g}"


class Chart:
    """One chart: data ranges, then layers in drawing order, then `svg()`. Sizes in px of the view box."""

    def __init__(
        self,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        width: float = 640.0,
        height: float = 220.0,
        x_label: str = "",
        y_label: str = "",
        title: str = "",
        ticks: tuple[int, int] = (6, 4),
        left: float = _MARGIN["left"],
        x_ticks: bool = True,
    ):
        self.width, self.height, self.title = width, height, title
        bottom = 34.0 if x_label else 22.0 if x_ticks else 6.0
        margin = dict(_MARGIN, left=left, top=24.0 if title else 10.0, bottom=bottom)
        self._x_ticks = x_ticks
        self._left, self._right = margin["left"], width - margin["right"]
        self._top, self._bottom = margin["top"], height - margin["bottom"]
        self._x, self._y = _widened(x_range), _widened(y_range)
        self._layers: list[str] = []
        self._labels = (x_label, y_label)
        self._ticks = ticks

    def line(self, x: np.ndarray, y: np.ndarray, style: str, width: float = 1.6) -> "Chart":
        """A line that breaks at NaN. `style` is a CSS class such as "a", "b", "c" or "muted"."""
        x, y = _thinned(np.asarray(x, float), np.asarray(y, float), int(self._right - self._left))
        parts, pen_up = [], True
        for px, py in zip(self._px(x), self._py(y)):
            if not (np.isfinite(px) and np.isfinite(py)):
                pen_up = True
                continue
            parts.append(f"{'M' if pen_up else 'L'}{px:.1f} {py:.1f}")
            pen_up = False
        self._layers.append(f'<path class="line {style}" d="{"".join(parts)}" style="stroke-width:{width}"/>')
        return self

    def dots(self, x: np.ndarray, y: np.ndarray, style: str, radius: float = 2.5) -> "Chart":
        """Round marks."""
        for px, py in zip(self._px(np.asarray(x, float)), self._py(np.asarray(y, float))):
            if np.isfinite(px) and np.isfinite(py):
                self._layers.append(f'<circle class="dot {style}" cx="{px:.1f}" cy="{py:.1f}" r="{radius}"/>')
        return self

    def area(self, x: np.ndarray, low: np.ndarray, high: np.ndarray, style: str) -> "Chart":
        """The area between two lines, up to their first NaN."""
        keep = np.isfinite(low) & np.isfinite(high)
        if keep.any():
            xs = self._px(np.asarray(x, float)[keep])
            points = [
                *zip(xs, self._py(np.asarray(high, float)[keep])),
                *reversed([*zip(xs, self._py(np.asarray(low, float)[keep]))]),
            ]
            text = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
            self._layers.append(f'<polygon class="area {style}" points="{text}"/>')
        return self

    def bars(self, edges: np.ndarray, heights: np.ndarray, style: str) -> "Chart":
        """A histogram: N + 1 edges, N heights."""
        base = self._py(np.array([max(self._y[0], 0.0)]))[0]
        left, right, top = self._px(edges[:-1]), self._px(edges[1:]), self._py(heights)
        for a, b, c in zip(left, right, top):
            if base - c > 0.05:
                self._layers.append(
                    f'<rect class="bar {style}" x="{a + 0.5:.1f}" y="{c:.1f}" width="{max(b - a - 1, 0.6):.1f}" '
                    f'height="{base - c:.1f}"/>'
                )
        return self

    def spans(self, begins: np.ndarray, ends: np.ndarray, low: float, high: float, style: str) -> "Chart":
        """Boxes from time to time, between two heights."""
        top, bottom = self._py(np.array([high, low]))
        for a, b in zip(self._px(np.asarray(begins, float)), self._px(np.asarray(ends, float))):
            self._layers.append(
                f'<rect class="span {style}" x="{a:.2f}" y="{top:.1f}" width="{max(b - a, 0.8):.2f}" '
                f'height="{bottom - top:.1f}" rx="1"/>'
            )
        return self

    def level(self, y: float, style: str = "limit") -> "Chart":
        """A horizontal line over the whole width."""
        py = self._py(np.array([y]))[0]
        self._layers.append(f'<line class="{style}" x1="{self._left}" x2="{self._right}" y1="{py:.1f}" y2="{py:.1f}"/>')
        return self

    def upright(self, x: float, label: str, style: str = "mark", row: int = 0) -> "Chart":
        """A vertical line with a text beside its top."""
        px = self._px(np.array([x]))[0]
        side, anchor = (4, "start") if px < self._right - 90 else (-4, "end")
        self._layers.append(
            f'<line class="{style}" x1="{px:.1f}" x2="{px:.1f}" y1="{self._top}" y2="{self._bottom}"/>'
            f'<text class="note" x="{px + side:.1f}" y="{self._top + 10 + 13 * row:.1f}" '
            f'text-anchor="{anchor}">{escape(label)}</text>'
        )
        return self

    def text(self, x: float, y: float, label: str, anchor: str = "start") -> "Chart":
        """A text at a place of the data."""
        px, py = self._px(np.array([x]))[0], self._py(np.array([y]))[0]
        self._layers.append(
            f'<text class="note" x="{px:.1f}" y="{py:.1f}" text-anchor="{anchor}">{escape(label)}</text>'
        )
        return self

    def row_labels(self, labels: dict[float, str]) -> "Chart":
        """Names at heights instead of numbers."""
        self._row_names = labels
        return self

    def svg(self) -> str:
        """The chart as an element."""
        title = f'<text class="title" x="{self._left}" y="14">{escape(self.title)}</text>' if self.title else ""
        name = escape(self.title or self._labels[1] or "chart", quote=True)
        return (
            f'<svg class="chart" viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{name}">'
            f"{self._axes()}{self._clipped()}{title}</svg>"
        )

    def _clipped(self) -> str:
        """The layers in an element of their own, which cuts off what leaves the plot."""
        x, y, width, height = self._left, self._top, self._right - self._left, self._bottom - self._top
        box = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" viewBox="{x:g} {y:g} {width:g} {height:g}"'
        return f"<svg {box}>{''.join(self._layers)}</svg>"

    def _axes(self) -> str:
        parts = []
        names = getattr(self, "_row_names", None)
        rows = names if names is not None else {float(v): tick_label(v) for v in nice_ticks(*self._y, self._ticks[1])}
        for value, label in rows.items():
            y = self._py(np.array([value]))[0]
            if names is None:
                parts.append(f'<line class="grid" x1="{self._left}" x2="{self._right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(
                f'<text class="tick" x="{self._left - 6}" y="{y + 3.5:.1f}" text-anchor="end">{escape(label)}</text>'
            )
        for value in nice_ticks(*self._x, self._ticks[0]) if self._x_ticks else ():
            x = self._px(np.array([value]))[0]
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{self._bottom + 14:.1f}" '
                f'text-anchor="middle">{tick_label(value)}</text>'
            )
        parts.append(
            f'<line class="axis" x1="{self._left}" x2="{self._right}" y1="{self._bottom}" y2="{self._bottom}"/>'
        )
        x_label, y_label = self._labels
        if x_label:
            middle = (self._left + self._right) / 2
            parts.append(
                f'<text class="label" x="{middle:.1f}" y="{self.height - 4}" '
                f'text-anchor="middle">{escape(x_label)}</text>'
            )
        if y_label:
            middle = (self._top + self._bottom) / 2
            parts.append(
                f'<text class="label" transform="translate(11 {middle:.1f}) rotate(-90)" '
                f'text-anchor="middle">{escape(y_label)}</text>'
            )
        return "".join(parts)

    def _px(self, x: np.ndarray) -> np.ndarray:
        return self._left + (x - self._x[0]) / (self._x[1] - self._x[0]) * (self._right - self._left)

    def _py(self, y: np.ndarray) -> np.ndarray:
        return self._bottom - (y - self._y[0]) / (self._y[1] - self._y[0]) * (self._bottom - self._top)


def data_range(*values: np.ndarray, margin: float = 0.06, least: float = 1e-6) -> tuple[float, float]:
    """The range of all finite values with a margin; (0, 1) of nothing."""
    joined = np.concatenate([np.ravel(v) for v in values])
    joined = joined[np.isfinite(joined)]
    if not len(joined):
        return 0.0, 1.0
    low, high = float(joined.min()), float(joined.max())
    extra = max((high - low) * margin, least)
    return low - extra, high + extra


def _widened(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = map(float, limits)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _thinned(x: np.ndarray, y: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """At most the lowest and highest value of each pixel column, so that peaks stay and files stay small."""
    count = len(x)
    if count <= 3 * columns:
        return x, y
    keep = []
    for block in np.array_split(np.arange(count), columns):
        finite = block[np.isfinite(y[block])]
        keep += (
            [block[0]]
            if not len(finite)
            else sorted({finite[0], finite[np.argmin(y[finite])], finite[np.argmax(y[finite])]})
        )
    return x[keep], y[keep]
