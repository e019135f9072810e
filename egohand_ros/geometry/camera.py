"""Camera models: pinhole with optional distortion, in the optical frame (x right, y down, z forward)."""

from dataclasses import dataclass

import cv2
import numpy as np

from ..errors import RejectedInput

# Names of sensor_msgs/CameraInfo.distortion_model and how many coefficients each has.
DISTORTION_MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8,), "equidistant": (4,)}
# How many coefficients OpenCV takes; none at all means no distortion.
_COEFFICIENTS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
# Focal lengths of lenses, as a share of the longer side of the image; what lies outside is a fault.
_FOCAL = (0.01, 1000.0)
# An image whose sides are in another ratio than the camera's was cropped, or is another camera's.
_ASPECT_TOLERANCE = 0.02
# Which axes of an upright camera are those of Aria's, which sees the same picture on its side.
UPRIGHT_FROM_TURNED = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Camera:
    """Intrinsics of one camera: `matrix` K (3, 3) px, distortion as in sensor_msgs/CameraInfo, image size px."""

    matrix: np.ndarray
    width: int
    height: int
    distortion_model: str = "plumb_bob"
    distortion: np.ndarray = None

    def __post_init__(self):
        matrix = np.asarray(self.matrix, dtype=np.float64).reshape(3, 3)
        distortion = np.zeros(5) if self.distortion is None else np.asarray(self.distortion, dtype=np.float64).ravel()
        if self.distortion_model not in DISTORTION_MODELS:
            raise ValueError(
                f"distortion model {self.distortion_model!r} is unknown; known: {', '.join(DISTORTION_MODELS)}"
            )
        if not (np.isfinite(matrix).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0 and np.isfinite(distortion).all()):
            raise ValueError("camera matrix needs finite values and positive focal lengths; is the camera calibrated?")
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "distortion", distortion)

    @classmethod
    def from_horizontal_fov(cls, width: int, height: int, fov_deg: float) -> "Camera":
        """An ideal pinhole camera with square pixels and a centred principal point."""
        focal = width / 2.0 / np.tan(np.radians(fov_deg) / 2.0)
        return cls(np.array([[focal, 0, width / 2.0], [0, focal, height / 2.0], [0, 0, 1.0]]), width, height)

    def fits(self, width: int, height: int) -> bool:
        """Whether an image of this size, px, can be this camera's, resized: it has the same aspect."""
        return abs(width / height * self.height / self.width - 1.0) <= _ASPECT_TOLERANCE

    def scaled(self, width: int, height: int) -> "Camera":
        """The same camera after its image was resized to width x height px."""
        scale = np.diag([width / self.width, height / self.height, 1.0])
        return Camera(scale @ self.matrix, width, height, self.distortion_model, self.distortion)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of optical-frame points (..., 3) m; NaN for points that are not in front of the camera."""
        points = np.asarray(points, dtype=np.float64)
        flat = points.reshape(-1, 1, 3)
        zero = np.zeros(3)
        front = flat[:, 0, 2] > 1e-6
        pixels = np.full((len(flat), 2), np.nan)
        if front.any():
            fisheye = self.distortion_model == "equidistant"
            project = cv2.fisheye.projectPoints if fisheye else cv2.projectPoints
            coefficients = self.distortion[:4] if fisheye else self.distortion
            pixels[front] = project(flat[front], zero, zero, self.matrix, coefficients)[0].reshape(-1, 2)
        return pixels.reshape(*points.shape[:-1], 2)

    def undistort(self, pixels: np.ndarray) -> np.ndarray:
        """Normalised image coordinates (..., 2) (at z = 1) of pixels (..., 2)."""
        pixels = np.asarray(pixels, dtype=np.float64)
        flat = pixels.reshape(-1, 1, 2)
        if self.distortion_model == "equidistant":
            normalised = cv2.fisheye.undistortPoints(flat, self.matrix, self.distortion[:4])
        else:
            normalised = cv2.undistortPoints(flat, self.matrix, self.distortion)
        return normalised.reshape(pixels.shape)


def camera_of_info(message, rectified: bool = False) -> Camera:
    """The camera of a sensor_msgs/CameraInfo, from a node or out of a bag; of its rectified image (P, no distortion)
    where that is what is looked at.

    The calibration is the whole sensor's, and the camera that of the images that come: of the region of interest and
    binned, where the driver says so (as image_geometry understands it).

    Raises `RejectedInput`: uncalibrated_camera, unknown_distortion, bad_distortion, bad_camera_size, bad_camera_region.
    """
    if message.width == 0 or message.height == 0:
        raise RejectedInput("bad_camera_size", f"camera_info says {message.width}x{message.height} px")
    matrix = np.array(message.p).reshape(3, 4)[:, :3] if rectified else np.array(message.k).reshape(3, 3)
    focal = np.diagonal(matrix)[:2] / max(message.width, message.height)
    plausible = (focal > _FOCAL[0]).all() and (focal < _FOCAL[1]).all() and matrix[2, 2] == 1.0
    if not (np.isfinite(matrix).all() and plausible):
        raise RejectedInput("uncalibrated_camera", f"{'p' if rectified else 'k'} of camera_info is no camera matrix")
    model, distortion = "plumb_bob", np.zeros(5)
    if not rectified and len(message.d) and np.any(message.d):
        model, distortion = message.distortion_model, np.array(message.d)
        if model not in DISTORTION_MODELS:
            raise RejectedInput("unknown_distortion", f"{model[:40]!r}; known: {', '.join(DISTORTION_MODELS)}")
        if len(distortion) not in _COEFFICIENTS[model] or not np.isfinite(distortion).all():
            raise RejectedInput("bad_distortion", f"{len(distortion)} coefficients for {model}")
    to_image, width, height = _region(message)
    return Camera(to_image @ matrix, width, height, model, distortion)


def _region(message) -> tuple[np.ndarray, int, int]:
    """From pixels of the whole sensor to those of the images, (3, 3), and the images' width and height."""
    roi = message.roi
    width, height = roi.width or message.width, roi.height or message.height
    binning_x, binning_y = max(message.binning_x, 1), max(message.binning_y, 1)
    inside = roi.x_offset + width <= message.width and roi.y_offset + height <= message.height
    if not inside or binning_x > width or binning_y > height:
        raise RejectedInput(
            "bad_camera_region",
            f"camera_info says {width}x{height} px from ({roi.x_offset}, {roi.y_offset}), binned "
            f"{binning_x}x{binning_y}, "
            f"of a sensor of {message.width}x{message.height} px",
        )
    shift = np.array([[1.0, 0.0, -roi.x_offset], [0.0, 1.0, -roi.y_offset], [0.0, 0.0, 1.0]])
    binned = np.diag([1.0 / binning_x, 1.0 / binning_y, 1.0])
    return binned @ shift, width // binning_x, height // binning_y
