"""Wrong and destructive invocations: exit status 2, one line, and no byte of any file that was there is changed."""

import hashlib
import multiprocessing
import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from egohand_ros.cli.main import main
from egohand_ros.data.bags.bag import episode_to_bag
from egohand_ros.data.episode import Episode
from egohand_ros.data.synthetic import generate_scene, observe
from egohand_ros.errors import UserError
from egohand_ros.locks import lock_domain
from egohand_ros.outputs import recording_folder

RUN, EPISODE = "run --synthetic --no-images --hand none", "episode.npz"

# Command words; names of files are relative to the folder that `place` makes, which is where they run.
WRONG = [
    # what is read must not be written
    "run --bag bag --record bag --overwrite",
    "run --bag bag --record linked_bag --overwrite",
    "run --bag bag --record bag/inner --overwrite",
    "run --bag bag --record . --overwrite",
    "run --bag bag --report bag/metadata.yaml",
    "run --bag bag --metrics bag/bag.mcap",
    "convert episode.npz episode.npz",
    "convert episode.npz episode.npz --overwrite",
    "convert episode.npz linked.npz --overwrite",
    "convert episode.npz same_inode.npz --overwrite",
    "convert bag bag --overwrite",
    "convert bag bag/again --overwrite",
    "retarget episode.npz --hand allegro_right --out episode.npz --overwrite",
    "evaluate episode.npz --forecaster persistence --json episode.npz",
    "report bag --out bag/bag.mcap",
    "train egohand-small --data runs/episode.npz --out runs",
    # what is there is not replaced unasked
    f"{RUN} --record bag",
    f"{RUN} --record notes.txt",
    "convert episode.npz other.npz",
    "convert episode.npz bag",
    "convert episode.npz notes",
    "convert episode.npz notes --to lerobot",
    "synth runs --episodes 1 --seed 0 --duration 2",
    "retarget episode.npz --hand allegro_right --out other.npz",
    # nor what is not ours, though asked
    f"{RUN} --record notes --overwrite",
    f"{RUN} --record notes.txt --overwrite",
    f"{RUN} --record foreign_bag --overwrite",
    f"{RUN} --record cut_bag --overwrite",
    f"{RUN} --record parted --overwrite",
    "convert episode.npz notes --overwrite",
    "convert episode.npz notes --to lerobot --overwrite",
    "convert episode.npz photo.npz --overwrite",
    "evaluate episode.npz --forecaster persistence --json notes.txt",
    "evaluate episode.npz --forecaster persistence --report other.npz",
    "bench pipeline --plot notes.png",
    "train egohand-small --synthetic 2 --out notes.txt",
    # an old recording stays where anything else is wrong
    f"{RUN} --record bag --overwrite --set bogus",
    f"{RUN} --record bag --overwrite --set forecaster.nokey=1",
    f"{RUN} --record bag --overwrite --set forecaster.hypotheses=abc",
    f"{RUN} --record bag --overwrite --set nobody.rate=1",
    f"{RUN} --record bag --overwrite --set forecaster.hypotheses=[",
    f"{RUN} --record bag --overwrite --forecaster crystal_ball",
    f"{RUN} --record bag --overwrite --duration nan",
    f"{RUN} --record bag --overwrite --duration -1",
    f"{RUN} --record bag --overwrite --domain -1",
    f"{RUN} --record bag --overwrite --domain 999",
    f"{RUN} --record bag --overwrite --domain one",
    f"{RUN} --record bag --overwrite --params-file unknown_node.yaml",
    f"{RUN} --record bag --overwrite --params-file unknown_key.yaml",
    f"{RUN} --record bag --overwrite --params-file nowhere.yaml",
    f"{RUN} --record bag --overwrite --report notes",
    f"{RUN} --record bag --overwrite --metrics notes.txt/metrics.json",
    f"{RUN} --record bag --overwrite --report /proc/nowhere/report.html",
    f"{RUN} --record bag --overwrite --report bag/report.html",
    f"{RUN} --report same.html --metrics same.html",
    "run --synthetic --record bag --overwrite --hand paw",
    "run --synthetic --record bag --overwrite --set retargeter.command_lead=.nan",
    "run --synthetic --record bag --overwrite --namespace 1/2!",
    "run --video nowhere.mp4 --record bag --overwrite",
    "run --video notes.txt --record bag --overwrite",
    "run --bag notes --record bag --overwrite",
    "run --bag parted --topic a --record bag --overwrite",
    "run --bag parted --topic a:=b:=hand_poses --record bag --overwrite",
    "run --bag parted --topic /nowhere:=hand_poses --record bag --overwrite",
    "run --bag parted --topic hand_poses:=nonsense --record bag --overwrite",
    "run --bag parted --tracker mediapipe --record bag --overwrite",
    "run --synthetic --record bag --overwrite --forecaster egoh4",
    "run --synthetic --record bag --overwrite --forecaster adaptive:crystal_ball",
    "run --synthetic --record bag --overwrite --camera-fov 5",
    # numbers and files that cannot be meant
    "synth made --duration nan",
    "synth made --duration inf",
    "synth made --rate 0",
    "bench pipeline --rate 0",
    "bench pipeline --viewer-fault kill",
    "bench pipeline --rate nan",
    "bench soak --duration nan",
    "bench forecast --forecaster persistence --json notes.txt/out.json",
    "bench pipeline --json /proc/nowhere/out.json",
    "convert text.npz out.npz",
    "convert infinite.npz out.npz",
    "convert unseen.npz out.npz",
    "evaluate millimetres.npz --forecaster persistence",
    "retarget millimetres.npz --hand allegro_right --out q.npz",
    "convert nowhere out.npz",
    "convert notes.txt out.npz",
    "hands check typo.yaml --pictures notes",
    "retarget episode.npz --hand typo.yaml --out q.npz",
    "train egohand-small --synthetic 2 --out new --set nokey=1",
    "report copied_half",
    "evaluate copied_half_db --forecaster persistence",
    f"{RUN.replace('--synthetic', '--bag copied_half')}",
    "convert episode.npz shown --to foxglove",
    "train kalman --synthetic 1 --out new",
    "bag repair notes",
    "bag repair nowhere",
    "nonsense",
]


@pytest.fixture(scope="session")
def episode() -> Episode:
    return observe(generate_scene(3, 4.0)).episode


@pytest.fixture(scope="session")
def place(tmp_path_factory, episode) -> Path:
    """A folder with whatever one can lose."""
    here = tmp_path_factory.mktemp("place")
    episode.save(here / EPISODE)
    episode.save(here / "other.npz")
    (here / "linked.npz").symlink_to(EPISODE)
    os.link(here / EPISODE, here / "same_inode.npz")
    (here / "notes.txt").write_text("what I saw")
    (here / "notes.png").write_text("no picture")
    (here / "photo.npz").write_bytes(b"\xff\xd8\xff of somebody")
    for folder in ("notes", "runs"):
        (here / folder).mkdir()
    (here / "notes" / "today.md").write_text("keep me")
    (here / "notes" / "old.mcap").write_bytes(b"\x89MCAP0\r\n of another program")
    episode.save(here / "runs" / EPISODE)
    episode.save(here / "runs" / "episode_000000.npz")
    for name in ("bag", "foreign_bag", "cut_bag", "parted", "parted_part2"):
        episode_to_bag(episode, here / name)
    episode_to_bag(episode, here / "copied_half_db", "sqlite3")
    episode_to_bag(episode, here / "copied_half")
    for file in (here / "copied_half" / "copied_half.mcap", here / "copied_half_db" / "copied_half_db.db3"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (here / "bag" / "notes.md").write_text("what this recording shows")
    (here / "linked_bag").symlink_to("bag")
    metadata = here / "foreign_bag" / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("egohand_ros/msg/", "somebody/msg/"))
    (here / "cut_bag" / "metadata.yaml").unlink()
    (here / "unknown_node.yaml").write_text("forcaster:\n  ros__parameters:\n    hypotheses: 3\n")
    (here / "unknown_key.yaml").write_text("/**:\n  ros__parameters:\n    hypothesis: 3\n")
    arrays = {"stamp": episode.stamp, "valid": episode.valid}
    np.savez(here / "text.npz", keypoints=np.full(episode.keypoints.shape, "one"), **arrays)
    np.savez(here / "infinite.npz", keypoints=np.full(episode.keypoints.shape, np.inf), **arrays)
    replace(episode, valid=np.zeros_like(episode.valid)).save(here / "unseen.npz")
    Episode(episode.stamp, 1e3 * episode.keypoints, episode.valid).save(here / "millimetres.npz")
    (here / "typo.yaml").write_text("nmae: mine\nside: right\n")
    return here


def contents(folder: Path) -> dict[str, str]:
    """Every file, link and folder under a folder, with what is in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kind = (
            os.readlink(path)
            if path.is_symlink()
            else ""
            if path.is_dir()
            else hashlib.sha256(path.read_bytes()).hexdigest()
        )
        found[str(path.relative_to(folder))] = kind
    return found


@pytest.mark.parametrize("words", WRONG)
def test_wrong_use_is_one_line_and_changes_nothing(place, words, monkeypatch, capsys):
    monkeypatch.chdir(place)
    before = contents(place)
    try:
        status = main(words.split())
    except SystemExit as ended:  # argparse
        status = ended.code
    said = capsys.readouterr().err
    assert contents(place) == before
    assert status == 2, said
    assert len(said.splitlines()) == 1 and said.startswith("egohand"), said


@pytest.mark.parametrize(
    "words, complaint",
    [
        ("--bag bag --topic a:=b:=hand_poses", "write recorded:=played"),
        ("--bag bag --topic /nowhere:=hand_poses", "has no /nowhere; it has /camera_pose"),
        ("--bag bag --topic hand_poses:=nonsense", "nonsense is no input of the nodes; those are image"),
        ("--bag bag --tracker mediapipe", "has no image in which hands could be found"),
        ("--bag notes", "has no metadata.yaml"),
        ("--bag runs", "runs is not a bag: it has no .mcap or .db3 file"),
        ("--synthetic --forecaster egoh4", "egoh4 has no shipped weights"),
        ("--synthetic --forecaster adaptive:oracle", "forecaster 'oracle' is unknown"),
    ],
)
def test_what_is_wrong_is_told_before_nodes_start(place, words, complaint, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr("egohand_ros.nodes.session.run.Session", None)
    assert main(["run", *words.split()]) == 2
    assert complaint in capsys.readouterr().err


PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["egohand_ros.cli.main", "egohand_ros.data.importers.lerobot", "egohand_ros.data.load"]
)


def start(code: str):
    """Python in a process of its own, which has imported already what takes long."""
    process = PROCESSES.Process(target=exec, args=(code, {}))
    process.start()
    return process


def egohand(words: str, folder: Path):
    """The command as a process."""
    return start(
        "import os, sys\nfrom egohand_ros.cli.main import "
        f"main\nos.chdir({str(folder)!r})\nsys.exit(main({words.split()!r}))"
    )


def episode_of_a_minute(path: Path) -> Path:
    """A file that takes a while to convert."""
    observe(generate_scene(4, 40.0)).episode.save(path)
    return path


def whole(path: Path) -> int:
    """How many episodes can be read of what is at a destination."""
    from egohand_ros.data.load import load_episodes

    return len(load_episodes(path))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 kB, and what takes its room; only root may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here (needs root, as in CI)")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


FULL = [
    "convert long.npz disk/new.npz",
    "convert long.npz disk/bag",
    "convert long.npz disk/bag --storage sqlite3",
    "convert long.npz disk/old.npz --overwrite",
    "retarget long.npz --hand allegro_right --out disk/q.npz",
    "synth disk/made --episodes 1 --duration 60",
    "synth disk/made --episodes 1 --duration 1 --video disk/seen.mp4",
    "bag repair disk/cut",
    "evaluate long.npz --forecaster persistence --json disk/e.json",
    "run --synthetic --no-images --hand none --record disk/bag",
]


@pytest.mark.parametrize("words", FULL)
def test_a_full_disk_is_one_line_and_leaves_nothing_damaged(small_disk, words, episode, monkeypatch, capsys):
    monkeypatch.chdir(small_disk.parent)
    episode_of_a_minute(Path("long.npz"))
    replace(episode.slice(0, 20), task="old").save(small_disk / "old.npz")
    if "repair" in words:
        episode_to_bag(episode.slice(0, 20), small_disk / "cut")
        (small_disk / "cut" / "metadata.yaml").unlink()
        next((small_disk / "cut").glob("*.mcap")).open("r+b").truncate(40_000)
    fill(small_disk, leave=0 if words.startswith(("evaluate", "run", "bag")) else 60_000)
    before = contents(small_disk)
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "No space left on device" in said, said
    after = contents(small_disk)
    assert {name: after.get(name) for name in before} == before
    assert {name for name in set(after) - set(before) if not (small_disk / name).is_dir()} == set()


def fill(disk: Path, leave: int) -> None:
    """Write until no more than `leave` bytes are free."""
    with open(disk / "filled", "wb") as file:
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize
        file.write(bytes(max(0, free - leave)))


def test_a_disk_that_cannot_be_written_is_said_before_the_work(small_disk, monkeypatch, capsys):
    monkeypatch.chdir(small_disk.parent)
    episode_of_a_minute(Path("long.npz"))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for words in (
        *FULL[:3],
        *FULL[4:7],
        *FULL[8:],
        "report nowhere --out disk/r.html",
        "train egohand-small --data long.npz --out disk/t",
    ):
        assert main(words.split()) == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1 and "Read-only file system" in said, said


@pytest.mark.parametrize("to", ["old.npz", "old", "old --to lerobot"])
def test_a_conversion_killed_at_any_moment_leaves_the_old_or_the_new_one_whole(tmp_path, to):
    episode_of_a_minute(tmp_path / "long.npz")
    old, words = tmp_path / to.split()[0], f"convert long.npz {to}"
    for more in ("", " --overwrite"):
        process, begin = egohand(words + more, tmp_path), time.monotonic()
        process.join(120)
        assert process.exitcode == 0
    takes = time.monotonic() - begin
    for moment in np.random.default_rng(7).uniform(0.1, 1.0, 6):
        process = egohand(f"{words} --overwrite", tmp_path)
        process.join(moment * takes)
        process.kill()
        process.join()
        assert process.exitcode in (0, -9) and whole(old) == 1
    process = egohand(f"{words} --overwrite", tmp_path)
    process.join(120)
    assert process.exitcode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"long.npz", old.name}, (
        "what the killed ones left is still there"
    )


def test_of_two_at_one_destination_one_is_refused_and_the_other_whole(tmp_path):
    episode_of_a_minute(tmp_path / "long.npz")
    both = [egohand("convert long.npz new", tmp_path) for _ in range(2)]
    for process in both:
        process.join(120)
    assert sorted(process.exitcode for process in both) == [0, 2] and whole(tmp_path / "new") == 1


def test_a_recording_and_a_domain_are_of_one_process_at_a_time(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with recording_folder("bag"), lock_domain(77):
        for words, what in (
            (f"{RUN} --record bag", "bag is being recorded"),
            (f"{RUN} --domain 77", "ROS domain 77 is used"),
        ):
            assert main(words.split()) == 2
            said = capsys.readouterr().err
            assert len(said.splitlines()) == 1 and f"{what} by process {os.getpid()}" in said
    with recording_folder("bag"), lock_domain(77):
        pass
    assert list(tmp_path.iterdir()) == []


def test_locks_go_with_a_process_that_is_killed(tmp_path):
    process = start(
        "import pathlib, time\nfrom egohand_ros.locks import lock_domain\n"
        "from egohand_ros.outputs import recording_folder\n"
        f"with recording_folder({str(tmp_path / 'bag')!r}), lock_domain(78):\n"
        f"    pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n    time.sleep(600)\n"
    )
    while not (tmp_path / "ready").exists():
        assert process.is_alive()
        time.sleep(0.01)
    with pytest.raises(UserError, match=f"by process {process.pid}"), lock_domain(78):
        pass
    process.kill()
    process.join()
    with recording_folder(tmp_path / "bag"), lock_domain(78):
        pass


def test_overwriting_keeps_what_is_not_the_recording_s(place, tmp_path, monkeypatch):
    shutil.copytree(place / "bag", tmp_path / "bag")
    shutil.copytree(place / "foreign_bag", tmp_path / "bag" / "inner")
    before = contents(tmp_path / "bag")
    monkeypatch.chdir(tmp_path)
    assert main(["convert", str(place / EPISODE), "bag", "--storage", "sqlite3", "--overwrite"]) == 0
    after = contents(tmp_path / "bag")
    assert {"bag.db3"} == set(after) - set(before) and set(before) - set(after) == {"bag.mcap"}
    assert all(after[name] == before[name] for name in after if "notes" in name or "inner" in name)


def test_training_that_turns_non_finite_ends_in_a_line(tmp_path, capsys):
    observe(generate_scene(5, 30.0)).episode.save(tmp_path / "mine.npz")
    words = f"train egohand-small --init egohand-small --data {tmp_path}/mine.npz --out {tmp_path}/out --device cpu"
    settings = ["steps=6", "batch=8", "group=4", "buffer=1", "reuse=1", "learning_rate=1.0e+30", "precision=float32"]
    assert main([*words.split(), *(f"--set={setting}" for setting in settings)]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "non-finite at step" in said and not (tmp_path / "out" / "model").exists()
