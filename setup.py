"""Names the packages of a wheel; everything else is in pyproject.toml, which cannot mix found and named packages."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["egohand_ros", "egohand_ros.*"]), "egohand_ros.shipped_config"])
