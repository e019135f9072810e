"""`egohand evaluate`, `convert`, `synth` and `forecasters`, as a user calls them."""

import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from egohand_ros.cli.main import main
from egohand_ros.data.episode import Episode
from egohand_ros.data.load import load_episodes
from egohand_ros.evaluation.protocol import PROTOCOLS


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synth") / "new"
    assert main(["synth", str(folder), "--episodes", "2", "--duration", "6", "--seed", "7"]) == 0
    return folder


def test_synth_writes_episodes_that_repeat(episodes, tmp_path, capsys):
    names = sorted(path.name for path in episodes.iterdir())
    assert names == ["episode_000007.npz", "episode_000008.npz"]
    assert main(["synth", str(tmp_path), "--episodes", "2", "--duration", "6", "--seed", "8", "--jobs", "2"]) == 0
    again, first = Episode.load(tmp_path / names[1]), Episode.load(episodes / names[1])
    assert np.array_equal(again.keypoints, first.keypoints, equal_nan=True) and len(first) == 180
    assert first.camera_pose is not None and first.task
    assert main(["synth", str(tmp_path), "--episodes", "0"]) == 2
    assert "--episodes needs at least 1" in capsys.readouterr().err


def test_synth_paints_a_video(tmp_path):
    video = tmp_path / "videos" / "preview.mp4"
    assert (
        main(["synth", str(tmp_path), "--episodes", "1", "--duration", "1", "--rate", "10", "--video", str(video)]) == 0
    )
    capture = cv2.VideoCapture(str(video))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 10
    assert capture.read()[1].shape == (480, 640, 3)


def test_evaluate_prints_writes_and_reports(episodes, tmp_path, capsys):
    result, page = tmp_path / "out" / "errors.json", tmp_path / "out" / "page.html"
    arguments = ["evaluate", str(episodes), "--forecaster", "kalman,persistence,kalman"]
    assert main([*arguments, "--json", str(result), "--report", str(page)]) == 0
    shown = capsys.readouterr().out
    assert "kalman" in shown and "persistence" in shown and "egoexo4d" in shown
    content = json.loads(result.read_text())
    assert list(content["forecasters"]) == ["kalman", "persistence"]
    assert content["windows"] == sum(e["kalman"]["windows"] for e in content["details"]["episodes"].values())
    assert f"{content['forecasters']['kalman']['ADE'] * 1e3:.1f}" in shown
    html = page.read_text()
    assert "<svg" in html and "http://" not in html and "https://" not in html.replace("http://www.w3.org", "")
    assert f"{content['forecasters']['kalman']['FDE'] * 1e3:.1f}" in html


@pytest.mark.parametrize("protocol, column", [("egoman", "DTW"), ("forehand4d", "MRRPE"), ("megohand", "MRE, mrad")])
def test_evaluate_by_other_protocols(episodes, tmp_path, protocol, column, capsys):
    long = tmp_path / "long"
    assert main(["synth", str(long), "--episodes", "1", "--duration", "9"]) == 0
    page = tmp_path / "page.html"
    assert main(["evaluate", str(long), "--protocol", protocol, "--ego-motion", "0.2", "--report", str(page)]) == 0
    shown = capsys.readouterr().out
    assert column in shown and "with the most camera motion (top 20 %)" in shown
    assert "With the most camera motion" in page.read_text() and column.partition(",")[0] in page.read_text()


def test_evaluate_to_the_standard_output_is_json_alone(episodes, capsys):
    assert main(["evaluate", str(episodes), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["protocol"] == "egoexo4d"


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["nothing.npz"], "nothing.npz does not exist"),
        (["{episodes}", "--forecaster", "oracle"], "known forecasters: adaptive, cvm"),
        (["{episodes}", "--forecaster", ","], "no forecaster was named"),
        (["{episodes}", "--protocol", "mine"], "known protocols: egoexo4d, usst, egoman, forehand4d, megohand"),
        (["{episodes}", "--ego-motion", "50"], "expected one between 0 and 1"),
    ],
)
def test_evaluate_explains_mistakes_in_one_line(episodes, arguments, complaint, capsys):
    assert main(["evaluate", *(a.format(episodes=episodes) for a in arguments)]) == 2
    error = capsys.readouterr().err.strip()
    assert complaint in error and "\n" not in error


def test_convert_there_and_back(episodes, tmp_path, capsys):
    source, bag, back = episodes / "episode_000007.npz", tmp_path / "bags" / "a", tmp_path / "back.npz"
    assert main(["convert", str(source), str(bag), "--storage", "sqlite3"]) == 0
    assert main(["convert", str(bag), str(back)]) == 0
    first, last = Episode.load(source), Episode.load(back)
    assert np.allclose(first.keypoints, last.keypoints, equal_nan=True) and first.task == last.task
    assert main(["convert", str(source), str(bag)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_many_recordings_convert_side_by_side_and_go_on_where_they_were_ended(episodes, tmp_path, capsys):
    sources = [str(episodes / f"episode_00000{seed}.npz") for seed in (7, 8)]
    (tmp_path / "one").mkdir()
    same_name = shutil.copy(sources[0], tmp_path / "one")
    (tmp_path / "no.npz").write_text("nothing")
    out = tmp_path / "all"
    words = ["convert", *sources, same_name, str(tmp_path / "no.npz"), "--out", str(out), "--to", "npz", "--jobs", "2"]
    assert main(words) == 2
    told = capsys.readouterr()
    assert "3 of 4 recordings converted" in told.out and told.err.count("\n") == 1 and "no.npz" in told.err
    made = sorted(path.name for path in out.iterdir())
    assert made == ["episode_000008.npz", f"{episodes.name}_episode_000007.npz", "one_episode_000007.npz"]
    (out / made[0]).unlink()
    before = (out / made[1]).stat().st_mtime_ns
    assert main([*words[:4], *words[5:]]) == 0
    assert "1 of 3 recordings converted, 2 were there already" in capsys.readouterr().out
    assert before == (out / made[1]).stat().st_mtime_ns
    assert np.array_equal(Episode.load(out / made[0]).keypoints, Episode.load(sources[1]).keypoints, equal_nan=True)


def test_of_a_folder_the_good_files_are_converted_and_the_bad_one_is_named(episodes, tmp_path, capsys):
    folder, names = tmp_path / "ten", [f"{n}.npz" for n in range(10)]
    folder.mkdir()
    for n, name in enumerate(names):
        shutil.copy(episodes / f"episode_00000{7 + n % 2}.npz", folder / name)
    whole = (folder / "3.npz").read_bytes()
    (folder / "3.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "walk"
    assert main(["convert", str(folder), "--out", str(out), "--to", "npz"]) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1 and "1 not converted" in told.err and str(folder / "3.npz") in told.err
    made = {path.name for path in out.parent.iterdir()}
    assert made == {f"walk_{n}.npz" for n in range(1, 11)} - {"walk_4.npz"}, "the bad one keeps its number free"
    for name, source in (("walk_3.npz", "2.npz"), ("walk_5.npz", "4.npz")):
        first, last = Episode.load(folder / source), Episode.load(out.parent / name)
        assert np.array_equal(first.keypoints, last.keypoints, equal_nan=True)
    assert main(["convert", str(folder), "--out", str(tmp_path / "set"), "--to", "lerobot"]) == 2
    told = capsys.readouterr()
    assert "9 episodes" in told.out and told.err.count("\n") == 1 and "3.npz" in told.err
    assert len(load_episodes(tmp_path / "set")) == 9


def test_a_folder_among_several_goes_on_once_its_bad_file_is_mended(episodes, tmp_path, capsys):
    folder, out = tmp_path / "two", tmp_path / "out"
    shutil.copytree(episodes, folder)
    bad = folder / "episode_000008.npz"
    whole = bad.read_bytes()
    bad.write_bytes(b"")
    words = ["convert", str(folder), str(episodes / "episode_000007.npz"), "--out", str(out), "--to", "npz"]
    for _ in range(2):  # it is named again, however much is there already
        assert main(words) == 2
        assert str(bad) in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == ["episode_000007.npz", "two_1.npz"]
    bad.write_bytes(whole)
    assert main(words) == 0
    assert "1 of 2 recordings converted, 1 were there already" in capsys.readouterr().out
    assert main(words) == 0
    assert "0 of 2 recordings converted, 2 were there already" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["episode_000007.npz", "two_1.npz", "two_2.npz"]


def test_a_folder_of_which_nothing_can_be_read_gives_nothing(tmp_path, capsys):
    (tmp_path / "bad").mkdir()
    for name in ("a.npz", "b.npz"):
        (tmp_path / "bad" / name).write_text("nothing")
    assert main(["convert", str(tmp_path / "bad"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "a.npz" in error and "b.npz" in error
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_the_same_recording_scores_the_same_in_every_form(episodes, tmp_path, capsys):
    source, bag = episodes / "episode_000008.npz", tmp_path / "bag"
    main(["convert", str(source), str(bag)])
    scores = []
    for path in (source, bag):
        capsys.readouterr()
        assert main(["evaluate", str(path), "--forecaster", "naive", "--json", "-"]) == 0
        scores.append(json.loads(capsys.readouterr().out))
    assert scores[0]["windows"] == scores[1]["windows"]
    for name, metrics in scores[0]["forecasters"].items():
        assert scores[1]["forecasters"][name] == pytest.approx(metrics, rel=1e-5)


def test_the_mocap_recording_converts_and_evaluates(shared_data, tmp_path):
    episode, result = tmp_path / "mocap.npz", tmp_path / "errors.json"
    assert main(["convert", str(shared_data / "hand_mocap" / "recording.tsv"), str(episode)]) == 0
    assert main(["evaluate", str(episode), "--json", str(result)]) == 0
    assert json.loads(result.read_text())["windows"] == 571


@pytest.mark.parametrize(
    "command", ["convert {source} {blocked}/x.npz", "synth {blocked}/x", "evaluate {source} --json {blocked}/x"]
)
def test_a_place_that_cannot_be_written_is_named(episodes, tmp_path, command, capsys):
    (tmp_path / "file").write_text("")
    words = command.format(source=episodes / "episode_000007.npz", blocked=tmp_path / "file").split()
    assert main(words) == 2
    error = capsys.readouterr().err.strip()
    assert "cannot write" in error and "\n" not in error


def test_forecasters_lists_every_preset(capsys):
    assert main(["forecasters"]) == 0
    shown = capsys.readouterr().out
    for name in ("persistence", "static", "cvm", "damped", "kalman"):
        assert name in shown
    assert main(["forecasters", "--json", "-"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["egoh4"]["needs"] == ["EgoH4 needs camera poses"] and told["usst"]["gives"] == ["wrist_position"]
    assert told["kalman"]["needs"] == [] and told["kalman"]["gives"] == ["wrist_position", "wrist_rotation", "fingers"]


def test_which_forecasters_come_with_weights(capsys):
    assert main(["forecasters", "--json", "-"]) == 0
    told = {name: row["weights"] for name, row in json.loads(capsys.readouterr().out).items()}
    assert {told[name] for name in ("adaptive", "egohand-motion", "egohand-small", "egohand-goals")} == {"shipped"}
    assert told["kalman"] == "none" and told["egoh4"] == "yours"


def test_the_table_of_forecasters_cuts_no_word(capsys):
    assert main(["forecasters"]) == 0
    shown = capsys.readouterr().out
    assert "\u2026" not in shown and "camera_matrix" in shown


def test_every_protocol_is_in_the_help_of_evaluate(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in PROTOCOLS)


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["evaluate", "seen.mp4"], "seen.mp4 is a video; find the hands in it first: egohand track seen.mp4"),
        (["evaluate", "markers"], "it holds walk.tsv, so give markers/walk.tsv"),
        (["convert", "markers/walk.tsv", "--out", "new", "--to", "foxglove"], "--to foxglove takes a bag; first:"),
        (["train", "egohand-small", "--out", "new", "--data", "short.npz"], "the longest of 1 recordings lasts 1.0 s"),
    ],
)
def test_what_helps_is_said_where_a_recording_does_not_fit(episodes, tmp_path, monkeypatch, words, complaint, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seen.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(20))
    (tmp_path / "markers").mkdir()
    (tmp_path / "markers" / "walk.tsv").write_text("NO_OF_FRAMES\t1\nMARKER_NAMES\tone\n")
    Episode.load(episodes / "episode_000007.npz").slice(0, 31).save(tmp_path / "short.npz")
    assert main(words) == 2
    error = capsys.readouterr().err.strip()
    assert complaint in error and "\n" not in error


def test_mistakes_are_told_before_what_takes_seconds_is_imported(tmp_path):
    code = (
        "import sys; from egohand_ros.cli.main import main\n"
        "for words in (['evaluate', 'nowhere'], ['evaluate', '.', '--forecaster', 'oracle'],\n"
        "              ['train', 'egohand-small', '--data', 'nowhere', '--out', 'new']):\n"
        "    assert main(words) == 2 and 'torch' not in sys.modules, words"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_folders_that_are_left_out_are_named(episodes, tmp_path, caplog):
    shutil.copytree(episodes, tmp_path / "one")
    (tmp_path / "two").mkdir()
    assert len(load_episodes(tmp_path)) == 2
    assert "left out, since nothing there can be read: two" in caplog.text and "one" not in caplog.text.split(": ")[-1]
