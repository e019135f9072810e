"""The floors of the package (DESIGN.md section 2) and what is wrong with a tree: read from the source, nothing is
imported.
"""

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from imports import imports_of

# From the ground up. A room imports from its own floor and those below.
FLOORS = (
    {"errors", "json_text", "locks", "ownership", "outputs", "parallel", "shipped", "config"},
    {"geometry", "hand", "images", "messages"},
    {"stream", "robot", "tracking"},
    {"forecast", "data"},
    {"handover", "evaluation"},
    {"training", "viewer"},
    {"api"},
    {"nodes"},
    {"cli"},
)
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor}
LARGEST_FOLDER = 12  # modules besides __init__.py and __main__.py
LARGE_FOLDERS = {"cli"}
ROS_FLOOR = "nodes"
ROS_PACKAGES = ("rclpy", "tf2_ros", "launch", "launch_ros", "message_filters", "cv_bridge")


def problems(package: Path) -> list[str]:
    """What breaks the rules in the package at this folder, a line each; empty where all is well."""
    modules = {
        _name(path, package): path
        for path in sorted(package.rglob("*.py"))
        if "msg" not in path.relative_to(package).parts
    }
    imports = {name: set(_imports(name, path, package.name, modules)) for name, path in modules.items()}
    return [*_wrong_floors(imports), *_ros_below(modules), *_circles(imports, modules), *_large_folders(package)]


def _name(path: Path, package: Path) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(name: str, path: Path, root: str, modules: dict[str, Path]) -> Iterator[str]:
    """Modules of the package that a module imports, those inside functions too."""
    inside = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    for found in imports_of(path.read_text()):
        if found.level:
            base = [*inside[: len(inside) - found.level + 1], *found.module.split(".")]
        elif found.module.split(".")[0] == root:
            base = found.module.split(".")[1:]
        else:
            continue
        module = ".".join(part for part in base if part)
        for wanted in found.names:
            inner = f"{module}.{wanted}" if module else wanted
            if inner in modules or module in modules:
                yield inner if inner in modules else module


def _wrong_floors(imports: dict[str, set[str]]) -> Iterator[str]:
    for name, targets in imports.items():
        room = name.split(".")[0]
        if name and room not in FLOOR:
            yield f"{name}: room {room!r} has no floor; give it one in test/layers.py and DESIGN.md"
            continue
        for target in sorted(targets):
            if name and target and FLOOR.get(target.split(".")[0], 0) > FLOOR[room]:
                yield f"{name} imports {target}, which is on a floor above"


def _ros_below(modules: dict[str, Path]) -> Iterator[str]:
    for name, path in modules.items():
        if not name or FLOOR.get(name.split(".")[0], 0) >= FLOOR[ROS_FLOOR]:
            continue
        for imported in (found.module for found in imports_of(path.read_text()) if not found.level):
            parts = imported.split(".")
            if parts[0] in ROS_PACKAGES or parts[0].endswith("_msgs") or parts[:2] == ["egohand_ros", "msg"]:
                yield f"{name} imports {imported}; only nodes/ may"


def _circles(imports: dict[str, set[str]], modules: dict[str, Path]) -> Iterator[str]:
    packages = {name for name, path in modules.items() if path.stem == "__init__"}
    graph = {name: {t for t in targets if t != name and t not in packages} for name, targets in imports.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "circle of imports: " + " -> ".join(error.args[1])


def _large_folders(package: Path) -> Iterator[str]:
    for folder in sorted({path.parent for path in package.rglob("*.py")}):
        place = folder.relative_to(package).as_posix()
        count = sum(path.stem not in ("__init__", "__main__") for path in folder.glob("*.py"))
        if count > LARGEST_FOLDER and place not in LARGE_FOLDERS:
            yield f"{place}/ holds {count} modules; at most {LARGEST_FOLDER}"
