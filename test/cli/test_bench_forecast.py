"""`egohand bench forecast` says how long a forecast takes; the numbers themselves are no test's business."""

import json

import pytest

from egohand_ros.cli.main import main


def test_every_case_is_timed(capsys):
    assert (
        main(
            [
                "bench",
                "forecast",
                "--forecaster",
                "damped,kalman",
                "--hypotheses",
                "1,3",
                "--repeats",
                "5",
                "--json",
                "-",
            ]
        )
        == 0
    )
    timings = json.loads(capsys.readouterr().out)["timings"]
    assert list(timings) == ["damped, K = 1", "kalman, K = 1", "kalman, K = 3"]
    assert all(0 < t["p50_ms"] <= t["p95_ms"] <= t["p99_ms"] for t in timings.values())


@pytest.mark.parametrize(
    "wrong", [["--hypotheses", "one"], ["--repeats", "0"], ["--option", "device"], ["--forecaster", "nobody"]]
)
def test_mistakes_are_told_in_one_line(wrong, capsys):
    assert main(["bench", "forecast", "--forecaster", "damped", *wrong]) == 2
    assert capsys.readouterr().err.count("\n") == 1
