"""The judge of handovers: it sees what is planted, and counts what it is told to."""

import json
from dataclasses import replace

import numpy as np
import pytest

from egohand_ros.errors import UserError
from egohand_ros.evaluation.bench import handover_bench
from egohand_ros.evaluation.bench.handover_audit import audit_separation
from egohand_ros.evaluation.bench.handover_bench import (
    Score,
    as_rows,
    bench_handover,
    draw_scenes,
    find_methods,
    read_kept,
    summarise,
)
from egohand_ros.handover.intent import GIVE

TIME = np.arange(0.0, 2.0, 0.01)


def recording(robot_x, hand_x, exempt=-1):
    """A robot of one ball at robot_x (T,) and a right hand at hand_x (T,) m, on one line."""
    steps = len(TIME)
    points = np.zeros((steps, 1, 3))
    points[:, 0, 0] = robot_x
    keypoints = np.full((steps, 2, 21, 3), 9.0)
    keypoints[:, 1] = 0.0
    keypoints[:, 1, :, 0] = np.asarray(hand_x)[:, None]
    head = np.array([9.0, 9.0, 9.0])
    return TIME, points, np.array([0.05]), keypoints, head, np.full(steps, exempt)


def test_a_robot_that_comes_near_a_person_fast_breaks_the_separation():
    moving = np.clip(0.5 * TIME, 0.0, 0.7)
    assert audit_separation(*recording(moving, np.full(len(TIME), 0.8))).too_near > 10
    assert audit_separation(*recording(moving, np.full(len(TIME), 2.0))).violations == 0


def test_a_person_who_comes_near_a_robot_at_rest_breaks_nothing():
    hand = np.clip(1.5 - 1.5 * TIME, 0.06, None)
    audit = audit_separation(*recording(np.zeros(len(TIME)), hand))
    assert audit.violations == 0 and audit.smallest == pytest.approx(0.01)


def test_a_robot_has_the_time_to_react_and_to_stop_and_no_more():
    """A hand appears 0.3 m before a robot of 0.5 m/s, which stops after 0.2 s, or goes on."""
    hand = np.where(TIME < 1.0, 5.0, 0.85)
    stops = np.minimum(0.5 * TIME, 0.55)
    assert audit_separation(*recording(stops, hand)).violations == 0
    goes_on = np.minimum(0.5 * TIME, 0.72)
    assert audit_separation(*recording(goes_on, hand)).too_near > 0


def test_the_exempt_hand_may_be_touched_slowly():
    slow, fast = np.clip(0.14 * TIME, 0.0, 0.2), np.clip(0.4 * TIME, 0.0, 0.2)
    hand = np.full(len(TIME), 0.26)
    assert audit_separation(*recording(slow, hand, exempt=1)).violations == 0
    assert audit_separation(*recording(slow, hand, exempt=0)).too_near > 0
    assert audit_separation(*recording(fast, hand, exempt=1)).too_fast_in_transfer > 0


def test_scenes_are_both_directions_and_two_in_five_are_no_handovers():
    scenes = draw_scenes(40)
    assert len(scenes) == 80 and len({s.seed for s in scenes}) == 80
    assert sum(not s.handover for s in scenes) / 80 == pytest.approx(0.4, abs=0.02)
    assert sum(s.dart for s in scenes) > 0 and all(s.handover for s in scenes if s.dart)
    assert draw_scenes(40) == scenes


def test_methods_are_known_by_name():
    assert [m.name for m in find_methods(["kalman"])] == ["kalman"]
    with pytest.raises(UserError, match="known methods: persistence, kalman, mean"):
        find_methods(["magic"])


SCORE = Score(
    "persistence", 1, GIVE, "waits", True, True, True, "success",
    3.0, 2.0, 0.5, 0.03, 0.1, 1.0, np.nan, False, 0.1, 0, 0, 0, 6.0,
)  # fmt: skip


def test_differences_are_paired_by_scene():
    scores = []
    for seed in range(20):
        scores.append(replace(SCORE, seed=seed, to_secured=3.0 + seed))
        scores.append(replace(SCORE, method="kalman", seed=seed, to_secured=2.5 + seed))
    scores.append(replace(SCORE, method="kalman", seed=99, success=False, outcome="drop", to_secured=np.nan))
    figures = summarise(scores)["kalman"]
    gain = figures["seconds against persistence"]
    assert gain["value"] == pytest.approx(-0.5) and gain["low"] == pytest.approx(-0.5) and gain["n"] == 20
    assert figures["success"]["value"] == pytest.approx(20 / 21)
    assert figures["drop"]["value"] == pytest.approx(1 / 21)


def test_false_starts_are_counted_in_the_time_without_handovers():
    others = [replace(SCORE, seed=i, handover=False, started=i == 0, success=False, duration=60.0) for i in range(10)]
    figures = summarise([SCORE, *others])["persistence"]
    assert figures["false starts in 10 min"] == pytest.approx(1.0)
    assert figures["intent precision"]["value"] == pytest.approx(0.5)


def test_episodes_that_were_kept_are_not_played_again(tmp_path, monkeypatch):
    file, scenes, methods = tmp_path / "kept.jsonl", draw_scenes(2), find_methods(["persistence", "kalman"])
    kept = [replace(SCORE, method=m.name, seed=s.seed, direction=s.direction) for s in scenes for m in methods]
    cut_off = '{"method": "kal'
    file.write_text("".join(json.dumps(row) + "\n" for row in as_rows(kept[:-1])) + cut_off)
    assert len(read_kept(file)) == len(kept) - 1

    def play(task):
        assert task.key == (kept[-1].method, kept[-1].seed), "the only one that is not there"
        return kept[-1]

    monkeypatch.setattr(handover_bench, "play", play)
    told = []
    scores = bench_handover(scenes, methods, kept=file, on_progress=lambda *counts: told.append(counts))
    assert [(s.method, s.seed) for s in scores] == [(s.method, s.seed) for s in kept]
    assert told == [(len(kept), len(kept))] and np.isnan(scores[0].brake)


def test_a_file_that_keeps_something_else_is_refused(tmp_path):
    (tmp_path / "kept.jsonl").write_text('{"method": "kalman"}\n{}\n')
    with pytest.raises(UserError, match="line 1: no episode of this version"):
        read_kept(tmp_path / "kept.jsonl")
