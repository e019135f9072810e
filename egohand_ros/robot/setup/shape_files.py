"""Fitted capsules into files: a URDF's collision shapes, and the `collision:` block of a hand's config."""

import re
from collections.abc import Iterable

import numpy as np
from scipy.spatial.transform import Rotation

from ...errors import UserError


def urdf_with_capsules(text: str, capsules: dict[str, np.ndarray]) -> str:
    """The URDF with only these collision shapes: capsules (K, 7) m by link, as a cylinder with a sphere on each end."""
    text = re.sub(r"[ \t]*<collision\b.*?</collision>[ \t]*\n?", "", text, flags=re.S)
    for link, rows in capsules.items():
        shapes = "".join(f"    <collision>{shape}</collision>\n" for row in rows for shape in _shapes(np.asarray(row)))
        name = re.escape(link)
        text, closed = re.subn(rf'(<link\s+name="{name}"\s*)/>', rf"\1>\n{shapes}  </link>", text)
        if not closed:
            found = re.search(rf'<link\s+name="{name}"[^>]*>.*?(?=[ \t]*</link>)', text, flags=re.S)
            if found is None:
                raise UserError(f"the URDF has no link {link!r} to write capsules to")
            text = text[: found.end()] + shapes + text[found.end() :]
    return text


def _shapes(row: np.ndarray) -> list[str]:
    a, b, radius = row[:3], row[3:6], row[6]
    length = float(np.linalg.norm(b - a))
    ball = f'<geometry><sphere radius="{radius:.5f}"/></geometry>'
    balls = [f'<origin xyz="{_numbers(end)}"/>{ball}' for end in (a, b)]
    if length < 2e-5:
        return balls[:1]
    axis = (b - a) / length
    turn = Rotation.align_vectors([axis], [[0.0, 0.0, 1.0]])[0].as_euler("xyz")
    rod = f'<geometry><cylinder radius="{radius:.5f}" length="{length:.6f}"/></geometry>'
    return [f'<origin xyz="{_numbers(0.5 * (a + b), 6)}" rpy="{_numbers(turn, 6)}"/>{rod}', *balls]


def _numbers(values: Iterable[float], digits: int = 5) -> str:
    return " ".join(f"{round(float(v), digits) + 0.0:.{digits}f}".rstrip("0").rstrip(".") for v in values)


def collision_block(
    capsules: dict[str, np.ndarray] | None,
    ignore: list[tuple[str, str]],
    extra: dict[tuple[str, str], float],
    fitted_to: str,
    between: dict[tuple[str, int, str, int], float] | None = None,
) -> str:
    """The YAML text of a config's `collision:`; without capsules where the URDF has them. `between`: what single
    capsules keep."""
    lines = [f"collision:  # capsules fitted to {fitted_to} by `egohand hands fit-shapes`"]
    if ignore:
        lines += [
            "  ignore:  # pairs whose bodies meet by design",
            *(f"    - [{_name(a)}, {_name(b)}]" for a, b in ignore),
        ]
    if extra:
        lines += ["  extra:  # m, kept on top of the margin where capsules say too much"]
        lines += [f"    - [{_name(a)}, {_name(b)}, {m:.5f}]" for (a, b), m in extra.items()]
    if between:
        lines += ["  capsule_extra:  # m, the same for one capsule (link, number) of each"]
        lines += [f"    - [{_name(a)}, {i}, {_name(b)}, {j}, {m:.5f}]" for (a, i, b, j), m in between.items()]
    if capsules:
        lines.append("  capsules:  # x0, y0, z0, x1, y1, z1, radius, m")
        for link, rows in capsules.items():
            lines.append(f"    {_name(link)}:" + ("" if len(rows) else " []"))
            lines += [f"      - [{', '.join(f'{v:.5f}' for v in row)}]" for row in rows]
    return "\n".join(lines if len(lines) > 1 else ["collision: {}  " + lines[0].split("  ", 1)[1]]) + "\n"


def _name(link: str) -> str:
    """A link's name, quoted where YAML would take it for a number."""
    return f'"{link}"' if re.fullmatch(r"[-+0-9.eE_]+|true|false|yes|no|on|off|null|~", link, re.I) else link


def with_collision_block(config: str, block: str) -> str:
    """A config's text with its `collision:` block replaced, or put before `commands:` where it had none."""
    rest = re.sub(r"^collision:.*\n(?:[ \t]+.*\n|\n(?=[ \t]))*", "", config, flags=re.M)
    if re.search(r"^commands:", rest, flags=re.M):
        return re.sub(r"^commands:", lambda _: block + "commands:", rest, count=1, flags=re.M)
    return rest.rstrip("\n") + "\n" + block
