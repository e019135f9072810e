"""The environment variables that ROS 2 needs, set by a virtual environment for itself: nothing has to be sourced.

`scripts/setup_venv.py` copies this module into the site-packages of the virtual environment, with a `.pth` file that
calls `apply()` whenever its Python starts. The dynamic loader reads LD_LIBRARY_PATH, and Python reads PYTHONPATH, only
at the start of a process: when one of them has to change, the interpreter replaces itself once by an equal process.

The wheel `ros-wheels-bootstrapper` does the same for LD_LIBRARY_PATH alone, and its guard variable, inherited by child
processes, makes a child in another virtual environment load the libraries of the first. This module runs before it,
looks at the values themselves instead, and sets that guard because the work is done.
"""

import glob
import os
import sys

LISTS = ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "LD_LIBRARY_PATH", "PYTHONPATH")
READ_AT_START = ("LD_LIBRARY_PATH", "PYTHONPATH")
WHEELS_GUARD = "_ROS_WHEELS_BOOTSTRAP_COMPLETE"


def wanted(environ, prefix, underlay):
    """Returns the variables, as a dict, that a process of the virtual environment at `prefix` should have.

    environ: the variables it has. underlay: {variable: value or list of paths} of the ROS 2 below the virtual
    environment; lists are put after the virtual environment's own entries and before those already in `environ`.
    Workspaces that were sourced on top (overlays) come before all of these, as ROS 2 has it. Entries of another ROS 2
    installation (a prefix that has rclpy) are dropped: two would be mixed in one process.
    """
    own = {
        "AMENT_PREFIX_PATH": [prefix],
        "CMAKE_PREFIX_PATH": [prefix],  # for `colcon build` of packages that use our messages
        "LD_LIBRARY_PATH": [
            os.path.join(prefix, "lib"),
            *sorted(glob.glob(os.path.join(prefix, "lib", "python*", "site-packages", "ros_*.libs"))),
        ],
        "PYTHONPATH": [],
    }
    current = {name: [entry for entry in environ.get(name, "").split(os.pathsep) if entry] for name in LISTS}
    ours = [prefix, *underlay.get("AMENT_PREFIX_PATH", [])]
    others = [
        entry
        for entry in current["AMENT_PREFIX_PATH"]
        if entry not in ours and os.path.isdir(os.path.join(entry, "share", "rclpy"))
    ]
    overlays = [
        entry
        for entry in current["AMENT_PREFIX_PATH"]
        # another virtual environment is no overlay: it was inherited from a process of another checkout
        if entry not in (*ours, *others) and not os.path.isfile(os.path.join(entry, "pyvenv.cfg"))
    ]

    def below(entry, prefixes):
        return any((entry + os.sep).startswith(prefix + os.sep) for prefix in prefixes)

    variables = {}
    for name in LISTS:
        first = [*own[name], *underlay.get(name, [])]
        rest = [entry for entry in current[name] if entry not in first and not below(entry, others)]
        top = [entry for entry in rest if below(entry, overlays)]
        variables[name] = os.pathsep.join([*top, *first, *(entry for entry in rest if entry not in top)])
    variables.update({name: value for name, value in underlay.items() if name not in LISTS})
    return variables


def apply(underlay):
    """Sets the variables of `wanted()` in this process, and starts it anew where they act only at the start."""
    variables = wanted(os.environ, sys.prefix, underlay)
    restart = any(variables[name] != os.environ.get(name, "") for name in READ_AT_START)
    os.environ.update({name: value for name, value in variables.items() if value})
    for name in LISTS:
        if not variables[name]:
            os.environ.pop(name, None)
    os.environ.setdefault("HOME", os.path.expanduser("~"))  # services often lack it; without it rclpy.init() fails
    os.environ[WHEELS_GUARD] = "1"
    if restart:
        os.execv(sys.executable, sys.orig_argv)
