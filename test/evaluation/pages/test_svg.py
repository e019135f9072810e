"""Charts: ticks, peaks, gaps, and text that cannot break the page."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from egohand_ros.evaluation.pages.svg import Chart, data_range, nice_ticks, tick_label


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (-0.37, 12.9), (1e-4, 3e-4), (1e3, 9e5)])
def test_ticks_are_round_and_inside(low, high):
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 12 and low - 1e-12 <= ticks[0] and ticks[-1] <= high + 1e-9 * high
    assert all(len(tick_label(t).lstrip("-").replace(".", "").strip("0")) <= 3 for t in ticks)


def test_a_chart_is_valid_xml_whatever_it_says():
    chart = Chart((0, 1), (0, 1), x_label="<b>", y_label='"&', title="a < b").text(0.5, 0.5, "<script>")
    element = ElementTree.fromstring(chart.svg())
    assert element.tag == "svg" and not list(element.iter("script"))


def test_thinning_keeps_the_highest_peak():
    y = np.zeros(100_000)
    y[54_321] = 1.0
    svg = Chart((0, 100_000), (0, 1)).line(np.arange(100_000.0), y, "a").svg()
    plain = Chart((0, 100_000), (0, 1)).line(np.array([54_321.0]), np.array([1.0]), "a").svg()
    peak = plain.split('d="M')[1].split('"')[0].split()[1]
    assert len(svg) < 60_000 and f" {peak}" in svg


def test_lines_break_at_nan():
    svg = Chart((0, 3), (0, 1)).line(np.arange(4.0), np.array([0.0, np.nan, 1.0, 1.0]), "a").svg()
    assert svg.split(' d="')[1].split('"')[0].count("M") == 2


def test_the_range_of_nothing_is_a_range():
    assert data_range(np.array([np.nan])) == (0.0, 1.0)
