"""Points of collision shapes, meshes included, and capsules that hold them."""

import re
from pathlib import Path

import numpy as np

from ..hands.urdf import Shape

_HELD = 0.96  # part of the points that a capsule has to hold
_FLAT = 1.35  # wider than this times its thickness: two capsules side by side


def shape_points(shapes: tuple[Shape, ...], folder: Path | None) -> np.ndarray:
    """Surface points (N, 3) m of shapes in their link's frame; meshes that cannot be found or read add none."""
    clouds = [np.zeros((0, 3))]
    for shape in shapes:
        points = _points(shape, folder)
        clouds.append(points @ shape.origin[:3, :3].T + shape.origin[:3, 3])
    return np.concatenate(clouds)


def _points(shape: Shape, folder: Path | None) -> np.ndarray:
    if shape.kind == "mesh":
        return mesh_vertices(find_mesh(shape.filename, folder)) * np.array(shape.size)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 7)] * 3), axis=-1).reshape(-1, 3)
    if shape.kind == "box":
        return 0.5 * grid * np.array(shape.size)
    length = np.linalg.norm(grid[:, :2] if shape.kind == "cylinder" else grid, axis=1, keepdims=True)
    if shape.kind == "cylinder":
        return np.c_[shape.size[0] * grid[:, :2] / np.maximum(length, 1.0), 0.5 * shape.size[1] * grid[:, 2]]
    return shape.size[0] * grid / np.maximum(length, 1e-9)


def find_mesh(filename: str, folder: Path | None) -> Path | None:
    """A mesh file as a URDF names it: relative to the URDF, or package:// searched in the folders above it."""
    plain = re.sub(r"^(package|file)://", "", filename)
    if Path(plain).is_absolute() and Path(plain).is_file():
        return Path(plain)
    if folder is None:
        return None
    parts = Path(plain).parts
    for base in (folder, *folder.resolve().parents):
        for skip in (0, 1):
            candidate = base.joinpath(*parts[skip:])
            if candidate.is_file():
                return candidate
    return None


def mesh_vertices(path: Path | None) -> np.ndarray:
    """Vertices (N, 3) of an STL or OBJ file; none when it is something else or missing."""
    if path is None:
        return np.zeros((0, 3))
    raw = path.read_bytes()
    if path.suffix.lower() == ".obj":
        rows = [line.split()[1:4] for line in raw.decode(errors="replace").splitlines() if line.startswith("v ")]
        return np.array(rows, dtype=float).reshape(-1, 3)
    if path.suffix.lower() != ".stl":
        return np.zeros((0, 3))
    count = int.from_bytes(raw[80:84], "little")
    if len(raw) == 84 + 50 * count:
        triangles = np.frombuffer(
            raw[84:], dtype=np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("rest", "<u2")])
        )
        return np.unique(triangles["corners"].reshape(-1, 3).astype(float), axis=0)
    rows = re.findall(rb"vertex\s+(\S+)\s+(\S+)\s+(\S+)", raw)
    return np.array(rows, dtype=float).reshape(-1, 3)


def fit_capsules(points: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """One or two capsules (end, end, radius) that hold most of the points (N, 3) m."""
    centre = 0.5 * (points.min(0) + points.max(0))
    axes = np.linalg.svd(points - points.mean(0), full_matrices=False)[2]
    extent = np.ptp(points @ axes.T, axis=0)
    along, across, thin = np.argsort(extent)[::-1]
    count = 2 if extent[across] > _FLAT * max(extent[thin], 1e-4) else 1
    position = (points - centre) @ axes[across]
    out = []
    for i in range(count):
        part = points if count == 1 else points[(position < 0) == (i == 0)]
        if len(part) < 4:
            continue
        middle = part.mean(0)
        line = (part - middle) @ axes[along]
        off = np.linalg.norm(part - middle - line[:, None] * axes[along], axis=1)
        radius = max(float(np.quantile(off, _HELD)), 1e-3)
        low, high = line.min() + radius, line.max() - radius
        low, high = (low, high) if low < high else (0.5 * (low + high),) * 2
        out.append((middle + low * axes[along], middle + high * axes[along], radius))
    return out
