"""Serves pip alone (`pip install -e .[extra]`); messages and nodes are built by CMakeLists.txt (`make build`,
colcon).
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def requirements(name: str) -> list[str]:
    """The lines of requirements/<name>.txt that name a package."""
    lines = (line.split("#")[0].strip() for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines())
    return [line for line in lines if line and not line.startswith("-")]


package_xml = (ROOT / "package.xml").read_text()

setup(
    name="egohand_ros",
    version=re.search(r"<version>(.*)</version>", package_xml)[1],
    description=re.search(r"<description>(.*)</description>", package_xml)[1],
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["egohand_ros", "egohand_ros.*"]),
    package_data={"egohand_ros": ["py.typed", "**/*.json", "**/*.j2", "**/*.safetensors", "**/*.yaml"]},
    install_requires=requirements("runtime"),
    extras_require={name: requirements(name) for name in ("datasets", "shapes", "test", "training")},
    entry_points={"console_scripts": ["egohand = egohand_ros.cli.main:main"]},
)
