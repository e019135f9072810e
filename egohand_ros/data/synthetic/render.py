"""RGB and depth pictures of a synthetic scene from its head camera: a painter's algorithm on OpenCV, no GPU.

Everything is a few shaded convex shapes, drawn from far to near. Depth is drawn with the same shapes: each shape has
one depth, the table and the floor have their own in every pixel.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from ...geometry.camera import Camera
from ...geometry.transforms import invert_transform, transform_points
from ...hand.skeleton import BONES, FINGER_KEYPOINTS, LEFT, RIGHT
from .hand import HandShape, posture, side_sign
from .scene import Scene
from .tracker import default_camera
from .world import COLOURS, TABLE_HEIGHT, TABLE_X, TABLE_Y, Thing, orientation_matrix

_SHIFT = 4  # OpenCV draws at 1/16 px
_NEAR = 0.06
_LIGHT = np.array([-0.35, 0.45, 0.82])  # towards the light, world frame
_SKIN = ((233, 190, 164), (214, 164, 132), (176, 122, 92), (126, 84, 62))
_SLEEVE = ((74, 92, 112), (92, 104, 84), (120, 78, 76), (86, 84, 108))
_FLOOR_COLOUR, _WALL_COLOUR = np.array([150, 142, 132.0]), np.array([206, 202, 194.0])
_EDGE_COLOUR = np.array([110, 82, 58.0])
_TABLE_TOP = np.array([[TABLE_X[i], TABLE_Y[j], TABLE_HEIGHT] for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))])

# Radius in m at each keypoint of a hand 0.187 m long.
_RADII = np.array(
    [0.022, 0.0145, 0.0125, 0.0108, 0.0078]
    + [0.0108, 0.0092, 0.0080, 0.0062]
    + [0.0110, 0.0094, 0.0082, 0.0064]
    + [0.0104, 0.0088, 0.0077, 0.0060]
    + [0.0094, 0.0076, 0.0066, 0.0053]
)
# Layers of a shaded round shape: radius, offset towards the light (both in radii), brightness.
_LAYERS = ((1.0, 0.0, 0.50), (0.93, 0.03, 0.76), (0.76, 0.13, 0.92), (0.52, 0.24, 1.03), (0.26, 0.36, 1.13))
_PALM = (0, 1, 5, 9, 13, 17)
_DISTAL = ((2, 3, 4), (6, 7, 8), (10, 11, 12), (14, 15, 16), (18, 19, 20))


@dataclass
class Shape:
    """One painted thing: its distance for the order, polygons px with their colours, and its depth m."""

    distance: float
    polygons: list[tuple[np.ndarray, tuple[float, ...]]]

    def paint(self, image: np.ndarray, depth: np.ndarray | None) -> None:
        for polygon, colour in self.polygons:
            cv2.fillConvexPoly(image, polygon, colour, cv2.LINE_AA, _SHIFT)
            if depth is not None:
                cv2.fillConvexPoly(depth, polygon, self.distance, cv2.LINE_8, _SHIFT)


class SceneRenderer:
    """Draws the frames of one scene as its head camera sees them."""

    def __init__(self, scene: Scene, camera: Camera | None = None):
        self.scene, self.camera = scene, camera or default_camera()
        rng = np.random.default_rng([scene.seed, 0x91C])
        self._skin = np.array(_SKIN[rng.integers(len(_SKIN))], dtype=float)
        self._sleeve = np.array(_SLEEVE[rng.integers(len(_SLEEVE))], dtype=float)
        self._partner_skin = np.array(_SKIN[rng.integers(len(_SKIN))], dtype=float)
        self._partner_sleeve = np.array(_SLEEVE[rng.integers(len(_SLEEVE))], dtype=float) * 1.15
        self._texture = wood_texture(rng)
        self._wall = np.full((self.camera.height, self.camera.width, 3), _WALL_COLOUR, dtype=np.uint8)
        self._partner_hand = _open_palm(HandShape.sample(rng), rng)
        self._partner_side_step = 0.02 * rng.standard_normal()

    def render(self, index: int) -> np.ndarray:
        """The picture of frame `index`: (H, W, 3) uint8 RGB."""
        return self._draw(index, with_depth=False)[0]

    def render_with_depth(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The picture and its depth (H, W) float32 m along the optical axis."""
        return self._draw(index, with_depth=True)

    def _draw(self, index: int, with_depth: bool) -> tuple[np.ndarray, np.ndarray | None]:
        view = _View(self.camera, invert_transform(self.scene.T_world_camera[index]))
        image, depth = self._background(view, with_depth)
        self._shadows(image, view, index)
        shapes = [shape for shape in self._shapes(view, index) if shape is not None]
        for shape in sorted(shapes, key=lambda shape: -shape.distance):
            shape.paint(image, depth)
        return image, depth

    def _background(self, view: "_View", with_depth: bool) -> tuple[np.ndarray, np.ndarray | None]:
        image = self._wall.copy()
        floor = np.array([[-1.0, -4.0, 0.0], [3.2, -4.0, 0.0], [3.2, 4.0, 0.0], [-1.0, 4.0, 0.0]])
        view.fill(image, floor, _FLOOR_COLOUR)
        for x in np.arange(0.8, 3.2, 0.3):
            view.fill(
                image, np.array([[x, -4, 0], [x + 0.012, -4, 0], [x + 0.012, 4, 0], [x, 4, 0.0]]), _FLOOR_COLOUR * 0.9
            )
        for shape in self._partner_body(view):
            if shape is not None:
                shape.paint(image, None)
        mask = self._table(image, view)
        if not with_depth:
            return image, None
        depth = view.plane_depth(0.0, limit=3.2)
        cv2.copyTo(view.plane_depth(TABLE_HEIGHT), mask, depth)
        return image, depth

    def _table(self, image: np.ndarray, view: "_View") -> np.ndarray:
        """Paint the table's top and far edge; the pixels of the top (H, W) uint8."""
        (x0, x1), (y0, y1) = TABLE_X, TABLE_Y
        thickness = [0.0, 0.0, 0.04]
        far = _TABLE_TOP[1:3]
        view.fill(image, np.concatenate([far - thickness, far[::-1]]), _EDGE_COLOUR)
        mask = np.zeros(image.shape[:2], dtype=np.uint8)
        outline = view.outline(_TABLE_TOP)
        if outline is None:
            return mask
        side = self._texture.shape[0]
        texture_from_table = np.diag([side / (x1 - x0), side / (y1 - y0), 1.0]) @ [[1, 0, -x0], [0, 1, -y0], [0, 0, 1]]
        mapping = texture_from_table @ np.linalg.inv(view.homography(TABLE_HEIGHT))
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        wood = cv2.warpPerspective(
            self._texture, mapping, mask.shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        cv2.fillConvexPoly(mask, outline, 255, cv2.LINE_8, _SHIFT)
        cv2.copyTo(wood, mask, image)
        return mask

    def _shadows(self, image: np.ndarray, view: "_View", index: int) -> None:
        """Darken the table under hands and objects; higher things cast a wider, fainter shadow."""
        scale = 4
        mask = np.zeros((image.shape[0] // scale, image.shape[1] // scale), dtype=np.uint8)
        keypoints = self.scene.keypoints[index]
        for hand in keypoints:
            height = hand[:, 2] - TABLE_HEIGHT
            ground = hand - _LIGHT * (height / _LIGHT[2])[:, None]
            points, z = view.pixels(ground)
            if (z < _NEAR).any():
                continue
            for a, b in BONES:
                strength = 150.0 * np.exp(-6.0 * max(height[a], 0.0))
                width = max(1, int(view.focal * 2.2 * _RADII[b] / z[b] / scale))
                a_px, b_px = (points[i] / scale for i in (a, b))
                cv2.line(mask, _pixel(a_px), _pixel(b_px), strength, width, cv2.LINE_AA, _SHIFT)
        for thing, pose in zip(self.scene.things, self.scene.T_world_object[index]):
            height = pose[2, 3] - TABLE_HEIGHT - thing.size[2] / 2
            angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
            ring = 0.55 * np.stack(
                [thing.size[0] * np.cos(angles), thing.size[1] * np.sin(angles), 0 * angles], axis=-1
            )
            low = pose[:3, 3] - [0, 0, thing.size[2] / 2] - _LIGHT * height / _LIGHT[2]
            high = pose[:3, 3] + [0, 0, thing.size[2] / 2] - _LIGHT * (height + thing.size[2]) / _LIGHT[2]
            points, z = view.pixels(np.concatenate([low + ring, high + 0.8 * ring]))
            if (z > _NEAR).all():
                hull = cv2.convexHull((points / scale).astype(np.float32))[:, 0]
                cv2.fillConvexPoly(mask, _fixed(hull), 150.0 * np.exp(-5.0 * max(height, 0.0)), cv2.LINE_AA, _SHIFT)
        mask = cv2.GaussianBlur(mask, (0, 0), 2.4)
        inside = np.zeros_like(mask)
        table = view.outline(_TABLE_TOP)
        if table is None:
            return
        cv2.fillConvexPoly(inside, table // scale, 255, cv2.LINE_AA, _SHIFT)
        mask = cv2.resize(cv2.min(mask, inside), (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
        keep = cv2.merge([255 - mask] * 3)
        cv2.multiply(image, keep, image, 1.0 / 255.0)

    def _shapes(self, view: "_View", index: int) -> list[Shape | None]:
        scene = self.scene
        shapes = []
        for side in (LEFT, RIGHT):
            shapes += self._hand(view, scene.keypoints[index, side], self._skin, scene.person.hand.length / 0.187)
            shoulder = scene.person.shoulder(side)
            shapes += self._arm(view, scene.keypoints[index, side], shoulder, self._skin, self._sleeve)
        for thing, pose in zip(scene.things, scene.T_world_object[index]):
            shapes += self._thing(view, thing, pose)
        wrist = scene.partner[index]
        hand = wrist + self._partner_hand
        shapes += self._hand(view, hand, self._partner_skin, 1.0)
        shapes += self._arm(view, hand, np.array([1.36, 0.22, 1.13]), self._partner_skin, self._partner_sleeve)
        return shapes

    def _partner_body(self, view: "_View") -> list[Shape | None]:
        """The other person, who sits behind the table: drawn before it."""
        shirt, skin = self._partner_sleeve, self._partner_skin
        torso = np.array([[-0.15, 0.45], [0.17, 0.45], [-0.19, 1.13], [0.21, 1.13], [0.01, 1.17]])
        torso = np.column_stack([np.full(5, 1.40), torso])
        head = np.array([[1.37, 0.01, 1.40], [1.36, 0.01, 1.49]])
        return [
            view.blob(np.array([[1.40, 0.01, 1.17], [1.38, 0.01, 1.33]]), np.array([0.060, 0.058]), skin),
            view.blob(torso, np.array([0.10, 0.10, 0.075, 0.075, 0.08]), shirt),
            view.blob(head + [0.02, 0.0, 0.035], np.array([0.10, 0.105]), np.array([66.0, 52, 44])),
            view.blob(head, np.array([0.076, 0.090]), skin),
        ]

    def _hand(self, view: "_View", points: np.ndarray, skin: np.ndarray, scale: float) -> list[Shape | None]:
        radii = _RADII * scale
        shapes = [view.chain(points[list(chain)], radii[list(chain)], skin) for chain in FINGER_KEYPOINTS.values()]
        palm = 1.08 * radii[[1, *_PALM[1:]]]
        shapes.append(view.blob(points[list(_PALM)], palm, skin))
        for chain in _DISTAL:
            shapes.append(_nail(view, points[list(chain)], radii[chain[2]], skin))
        return shapes

    def _arm(self, view: "_View", hand: np.ndarray, shoulder: np.ndarray, skin: np.ndarray, sleeve: np.ndarray) -> list:
        """Forearm and upper arm between a wrist and a shoulder."""
        wrist = hand[0]
        elbow = elbow_position(wrist, shoulder)
        cuff = wrist + 0.07 * (elbow - wrist) / np.linalg.norm(elbow - wrist)
        return [
            view.chain(np.stack([wrist, cuff]), np.array([0.0215, 0.0255]), skin),
            view.chain(np.stack([shoulder, elbow, cuff]), np.array([0.062, 0.047, 0.034]), sleeve),
        ]

    def _thing(self, view: "_View", thing: Thing, pose: np.ndarray) -> list[Shape | None]:
        colour, half = np.array(COLOURS[thing.colour], dtype=float), np.array(thing.size) / 2
        if thing.shape == "ball":
            return [view.capsule(pose[:3, 3], pose[:3, 3] + 1e-5, half[0], half[0], colour)]
        if thing.shape == "box":
            return [view.box(pose, half, colour)]
        return [view.cylinder(pose, half[0], thing.size[2], colour, hollow=thing.name == "cup")]


class _View:
    """One camera pose: projects points and makes shaded shapes of them."""

    def __init__(self, camera: Camera, T_camera_world: np.ndarray):
        self.camera, self.T = camera, T_camera_world
        self.focal = camera.matrix[0, 0]
        light = T_camera_world[:3, :3] @ _LIGHT
        self.light = light[:2] / max(np.linalg.norm(light[:2]), 1e-6)
        self.eye = invert_transform(T_camera_world)[:3, 3]

    def pixels(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (N, 2) of world points (N, 3) and their depth (N,) m (pinhole; the scene's camera has no
        distortion).
        """
        inside = points @ self.T[:3, :3].T + self.T[:3, 3]
        z = inside[:, 2]
        projected = inside @ self.camera.matrix.T
        return projected[:, :2] / np.maximum(z, 1e-3)[:, None], z

    def homography(self, height: float) -> np.ndarray:
        """(3, 3) from (x, y, 1) on the plane z = height to homogeneous pixels."""
        rotation, translation = self.T[:3, :3], self.T[:3, 3]
        return self.camera.matrix @ np.column_stack(
            [rotation[:, 0], rotation[:, 1], rotation[:, 2] * height + translation]
        )

    def plane_depth(self, height: float, limit: float = 50.0) -> np.ndarray:
        """(H, W) float32 depth m of the plane z = height; `limit` m where it is not seen."""
        inverse = np.linalg.inv(self.camera.matrix)
        up = self.T[:3, :3].T[2]  # world z of the camera's axes
        row = up @ inverse
        u, v = np.arange(self.camera.width), np.arange(self.camera.height)
        slope = (row[0] * u)[None, :] + (row[1] * v)[:, None] + row[2]
        with np.errstate(divide="ignore"):
            depth = (height - self.eye[2]) / slope
        return np.where((depth > 0) & (depth < limit), depth, limit).astype(np.float32)

    def outline(self, corners: np.ndarray) -> np.ndarray | None:
        """Fixed-point pixels of a convex world polygon (N, 3), cut at the near plane; None behind it."""
        inside = corners @ self.T[:3, :3].T + self.T[:3, 3]
        kept = []
        for a, b in zip(inside, np.roll(inside, -1, axis=0)):
            if a[2] >= _NEAR:
                kept.append(a)
            if (a[2] >= _NEAR) != (b[2] >= _NEAR):
                kept.append(a + (b - a) * (_NEAR - a[2]) / (b[2] - a[2]))
        if len(kept) < 3:
            return None
        projected = np.stack(kept) @ self.camera.matrix.T
        return _fixed(projected[:, :2] / projected[:, 2:])

    def fill(self, image: np.ndarray, corners: np.ndarray, colour: np.ndarray) -> None:
        outline = self.outline(corners)
        if outline is not None:
            cv2.fillConvexPoly(image, outline, tuple(map(float, colour)), cv2.LINE_AA, _SHIFT)

    def chain(self, points: np.ndarray, radii: np.ndarray, colour: np.ndarray) -> Shape | None:
        """Round cones from each world point (N, 3) to the next, smoothly joined; the part behind the camera is cut
        off.
        """
        inside = points @ self.T[:3, :3].T + self.T[:3, 3]
        layers: list[list] = [[] for _ in _LAYERS]
        for i in np.argsort(-(inside[:-1, 2] + inside[1:, 2])):
            cone = _cut_near(inside[i : i + 2], radii[i : i + 2])
            if cone is None:
                continue
            ends, ends_radii = cone
            projected = ends @ self.camera.matrix.T
            centres, size = projected[:, :2] / projected[:, 2:], self.focal * ends_radii / projected[:, 2]
            for layer, polygon in zip(layers, _shaded(centres, size, self.light, colour)):
                layer.append(polygon)
        if not layers[0]:
            return None
        return Shape(float(inside[:, 2].mean()), [polygon for layer in layers for polygon in layer])

    def capsule(
        self, a: np.ndarray, b: np.ndarray, radius_a: float, radius_b: float, colour: np.ndarray
    ) -> Shape | None:
        """A round-ended cone between two world points."""
        return self.blob(np.stack([a, b]), np.array([radius_a, radius_b]), colour)

    def blob(self, points: np.ndarray, radii: np.ndarray, colour: np.ndarray) -> Shape | None:
        """The shaded hull of balls around world points (N, 3)."""
        centres, z = self.pixels(points)
        if (z < _NEAR).any():
            return None
        polygons = _shaded(centres, self.focal * radii / z, self.light, colour)
        return Shape(float(z.mean()), polygons)

    def box(self, pose: np.ndarray, half: np.ndarray, colour: np.ndarray) -> Shape | None:
        """A box of half extents (3,) with flat-shaded faces."""
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
        corners = transform_points(pose, signs * half)
        _, z = self.pixels(corners)
        if (z < _NEAR).any():
            return None
        polygons = []
        for axis in range(3):
            for sign in (-1.0, 1.0):
                normal = pose[:3, axis] * sign
                centre = pose[:3, 3] + normal * half[axis]
                if normal @ (self.eye - centre) <= 0:
                    continue
                face = corners[signs[:, axis] == sign][[0, 1, 3, 2]]
                polygons.append((self.outline(face), _lit(colour, normal)))
        hull = cv2.convexHull(self.pixels(corners)[0].astype(np.float32))[:, 0]
        return Shape(float(z.mean()), [(_fixed(hull), _lit(colour * 0.6, _LIGHT)), *polygons])

    def cylinder(
        self, pose: np.ndarray, radius: float, height: float, colour: np.ndarray, hollow: bool
    ) -> Shape | None:
        """An upright cylinder; its wall is shaded in strips, and a hollow one shows its inside."""
        count = 28
        angles = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
        ring = radius * np.stack([np.cos(angles), np.sin(angles), np.zeros(count)], axis=-1)
        low, high = (transform_points(pose, ring + [0.0, 0.0, h]) for h in (-height / 2, height / 2))
        pixels, z = self.pixels(np.concatenate([low, high]))
        if (z < _NEAR).any():
            return None
        low_px, high_px = _fixed(pixels[:count]), _fixed(pixels[count:])
        normals = (high - high.mean(axis=0)) / radius
        hull = _fixed(cv2.convexHull(pixels.astype(np.float32))[:, 0])
        polygons = [(hull, _lit(colour * 0.75, _LIGHT))]
        for i in range(count):
            j = (i + 1) % count
            normal = normals[i] + normals[j]
            if normal @ (self.eye - low[i]) > 0:
                strip = np.stack([low_px[i], low_px[j], high_px[j], high_px[i]])
                polygons.append((strip, _lit(colour, normal / np.linalg.norm(normal))))
        up = pose[:3, 2]
        if up @ (self.eye - high.mean(axis=0)) > 0:
            polygons.append((high_px, _lit(colour, up)))
            inner = _fixed(self.pixels(transform_points(pose, 0.86 * ring + [0.0, 0.0, height / 2]))[0])
            polygons.append((inner, _lit(colour * (0.45 if hollow else 0.92), up)))
        return Shape(float(z.mean()), polygons)


def _cut_near(ends: np.ndarray, radii: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The part of a round cone, ends (2, 3) in the optical frame, that is beyond the near plane; None if none is."""
    near = 1.6 * _NEAR
    behind = ends[:, 2] < near
    if behind.all():
        return None
    if behind.any():
        hidden = int(np.argmax(behind))
        part = (near - ends[hidden, 2]) / (ends[1 - hidden, 2] - ends[hidden, 2])
        ends, radii = ends.copy(), radii.copy()
        ends[hidden] += part * (ends[1 - hidden] - ends[hidden])
        radii[hidden] += part * (radii[1 - hidden] - radii[hidden])
    return ends, radii


def elbow_position(wrist: np.ndarray, shoulder: np.ndarray, upper: float = 0.30, fore: float = 0.27) -> np.ndarray:
    """Elbow (3,) m of a two-link arm that hangs down and out; stretched where the wrist is out of reach."""
    reach = wrist - shoulder
    distance = np.linalg.norm(reach)
    along = reach / distance
    bent = min(distance, 0.98 * (upper + fore))
    foot = (upper**2 - fore**2 + bent**2) / (2.0 * bent)
    out = np.array([0.0, np.sign(shoulder[1]) * 0.55, -1.0])
    out -= along * (out @ along)
    height = np.sqrt(max(upper**2 - foot**2, 0.0))
    return shoulder + along * foot * distance / bent + height * out / np.linalg.norm(out)


def _shaded(centres: np.ndarray, size: np.ndarray, light: np.ndarray, colour: np.ndarray) -> list:
    """Outlines with colours, outermost first, of the shaded hull of discs: centres (N, 2) px, radii (N,) px."""
    moved = centres + _OFFSETS[:, None, None] * size[:, None] * light
    points = moved[:, :, None] + (_RADIUS_SHARES[:, None] * size)[..., None, None] * _CIRCLE
    fixed = (points * (1 << _SHIFT)).astype(np.int32).reshape(len(_LAYERS), -1, 2)
    colours = np.minimum(colour * _BRIGHTNESS[:, None], 255.0).tolist()
    return [(cv2.convexHull(layer), shade) for layer, shade in zip(fixed, colours)]


_RADIUS_SHARES, _OFFSETS, _BRIGHTNESS = np.array(_LAYERS).T
_CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 16)[:-1]), np.sin(np.linspace(0, 2 * np.pi, 16)[:-1])], axis=-1)


def _nail(view: _View, chain: np.ndarray, radius: float, skin: np.ndarray) -> Shape | None:
    """The nail on a finger's last bone, given its last three keypoints (3, 3), if it faces the camera."""
    along = chain[2] - chain[1]
    before = chain[1] - chain[0]
    dorsal = before - along * (before @ along) / (along @ along)
    # A bent finger shows its back on the side that the previous bone comes from.
    length = np.linalg.norm(dorsal)
    if length < 1e-4:
        return None
    dorsal = dorsal / length
    centre = chain[1] + 0.86 * along + 0.55 * radius * dorsal
    if dorsal @ (view.eye - centre) <= 0.35 * np.linalg.norm(view.eye - centre):
        return None
    tip = centre + 0.16 * along
    shape = view.capsule(centre, tip, 0.62 * radius, 0.58 * radius, skin)
    if shape is None:
        return None
    pale = tuple(np.minimum(skin * 0.55 + np.array([118, 106, 104]), 255.0).tolist())
    return Shape(shape.distance - 0.01, [(shape.polygons[1][0], pale)])


def _lit(colour: np.ndarray, normal: np.ndarray) -> tuple[float, ...]:
    """A colour under the light and the room's own brightness."""
    return tuple(np.minimum(colour * (0.62 + 0.46 * max(0.0, float(normal @ _LIGHT))), 255.0).tolist())


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round(np.clip(points, -8000, 8000) * (1 << _SHIFT)).astype(np.int32)


def _pixel(point: np.ndarray) -> tuple[int, int]:
    x, y = _fixed(point)
    return int(x), int(y)


def _open_palm(shape: HandShape, rng: np.random.Generator) -> np.ndarray:
    """Keypoints (21, 3) m about the wrist of the other person's right hand: palm up, fingers towards the camera."""
    side = RIGHT
    rotation = orientation_matrix(np.array([np.pi * 0.93, -0.1, np.pi + 0.2]) * [1, 1, side_sign(side)], side)
    return shape.keypoints(posture("open", rng) * 0.8, side) @ rotation.T


def wood_texture(rng: np.random.Generator, size: int = 512) -> np.ndarray:
    """(size, size, 3) uint8 RGB planks with a grain along the table's length."""
    grain = rng.standard_normal((size, size)).astype(np.float32)
    fine = cv2.GaussianBlur(grain, (0, 0), sigmaX=0.8, sigmaY=26)
    broad = cv2.GaussianBlur(rng.standard_normal((size, size)).astype(np.float32), (0, 0), sigmaX=7, sigmaY=90)
    value = 0.5 * fine / fine.std() + 0.6 * broad / broad.std()
    plank = size // 6
    for i in range(6):
        value[:, i * plank : (i + 1) * plank] += 0.5 * rng.standard_normal()
        value[:, i * plank : i * plank + 2] -= 3.0
    base = np.array([[176, 134, 96], [158, 122, 92], [190, 156, 118]], dtype=np.float32)[rng.integers(3)]
    return np.clip(base * (1.0 + 0.055 * value[..., None]), 0, 255).astype(np.uint8)
