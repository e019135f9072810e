"""What README and docs tell the reader to type: every `egohand …` line parses, and the cheap ones run as written."""

import re
import shlex
from pathlib import Path

import pytest

from egohand_ros.cli.main import build_parser, main
from egohand_ros.data.bags.bag import episode_to_bag
from egohand_ros.data.synthetic import generate_scene, observe
from egohand_ros.nodes.session.plan import ARGUMENTS

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
# A line of a command in a block of code, with or without its folder and what is set before it.
_COMMAND = re.compile(r"^ *(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?egohand (?P<words>[^#`]*?)\s*(?:#.*)?$")


def commands(page):
    """The words of every command of a page that stands in a block of code; lines that end in a backslash are joined."""
    text = re.sub(r" *\\\n *", " ", (ROOT / page).read_text())
    found = []
    for block in re.findall(r"```(?:bash|console|sh)?\n(.*?)```|((?:^    .*\n)+)", text, flags=re.S | re.M):
        found += [match["words"] for line in "".join(block).splitlines() if (match := _COMMAND.match(line))]
    return [words for words in found if "…" not in words and "..." not in words]


def test_there_are_commands_to_look_at():
    assert len(commands("README.md")) >= 12


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_understood(page):
    parser = build_parser()
    for words in commands(page):
        if "--help" in words:
            continue
        first = re.split(r"\s[|;>&]", words)[0]
        try:
            parser.parse_args(shlex.split(first))
        except SystemExit:
            pytest.fail(f"{page}: egohand {first} is not understood")


@pytest.mark.parametrize("page", PAGES)
def test_every_launch_argument_of_a_page_is_one(page):
    """ROS 2 ignores an argument that a launch file does not declare, without a word."""
    text = (ROOT / page).read_text()
    lines = re.findall(r"egohand_ros forecast\.launch\.py([^\n`#]*)", text)
    # beside a command: only in words that cannot be a remapping or a parameter of a node
    lines += re.findall(r"`((?:mano|checkpoint|forecaster|tracker|latency|viewer|foxglove|publish_tf):=[^`\s]*)`", text)
    given = {name for line in lines for name in re.findall(r"(\w+):=", line)}
    assert given <= {argument.name for argument in ARGUMENTS}


def test_the_cheap_ones_of_the_readme_run_as_written(tmp_path, monkeypatch, capsys):
    """Those that read the recording which the README's first command makes."""
    monkeypatch.chdir(tmp_path)
    episode_to_bag(observe(generate_scene(3, 6.0)).episode, tmp_path / "out" / "mine")
    cheap = [
        words
        for words in dict.fromkeys(commands("README.md"))
        if words.split()[0] in ("convert", "evaluate", "retarget", "hands", "forecasters", "report")
        and "out/mine" in words
    ]
    assert len(cheap) >= 3
    for words in cheap:
        assert main(shlex.split(words)) in (0, None), f"egohand {words}: {capsys.readouterr().err}"


def test_the_recipe_for_a_workspace_leaves_the_systems_python_alone():
    """PEP 668: pip may not install beside the distribution's packages, and nor may what calls it (rosdep's keys)."""
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"## In a ROS 2 workspace.*?```bash\n(.*?)```", readme, re.DOTALL).group(1)
    words = [word for line in block.splitlines() for word in re.split(r" *&& *", line.split(" #")[0].strip())]
    installs = [number for number, word in enumerate(words) if word.startswith("pip install")]
    inside = words.index("source .venv/bin/activate")
    assert installs and min(installs) > inside > words.index("python3 -m venv --system-site-packages .venv")
    assert not any("rosdep" in word for word in words) and len(block.splitlines()) == 5
    for path in re.findall(r"src/egohand_ros/(\S+\.txt)", block):
        assert (ROOT / path).is_file()
