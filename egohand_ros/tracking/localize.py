"""Metric hand pose in the camera frame from image landmarks and metric landmarks (perspective-n-point with a prior).

MediaPipe's metric landmarks already have the orientation of a camera that looks straight at the hand. So the search
begins there and a soft prior keeps it near: a palm is almost a plane, and without the prior the mirrored pose of
the plane fits nearly as well (unconstrained SQPnP flips by over 80 degrees on frames of a plain video).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from ..errors import RejectedInput
from ..geometry.camera import Camera
from ..hand.skeleton import INDEX_MCP, LITTLE_MCP, MIDDLE_MCP, NUM_KEYPOINTS, WRIST

# Hand length is from the wrist crease to the tip of the middle finger. Adults average 0.187 m (women 0.18, men 0.193),
# and spread 6 % around it.
AVERAGE_HAND_LENGTH, HAND_LENGTH_SPREAD = 0.187, 0.06
MEASURED_HAND_LENGTH_ERROR = 0.015  # relative; of a hand length that a person measured with a ruler

# The palm does not bend, so its bones tell the size of the hand in any posture. MediaPipe's own size varies by 4 to
# 6 % with the posture, which would go into the distance.
_PALM_BONES = ((WRIST, INDEX_MCP), (WRIST, MIDDLE_MCP), (WRIST, 13), (WRIST, LITTLE_MCP), (INDEX_MCP, LITTLE_MCP))
_PALM_FROM, _PALM_TO = (list(ends) for ends in zip(*_PALM_BONES, strict=True))
_PALM_PER_HAND_LENGTH = 0.459  # mean of the palm bones / hand length, of MediaPipe's landmarks of a flat hand

# Fingers bend, and their landmarks err together; the palm is worth more for the position of the whole.
_WEIGHT = np.where(np.isin(np.arange(NUM_KEYPOINTS), [WRIST, 1, 5, 9, 13, 17]), 1.0, 0.2)
_LANDMARK_STD = 0.025  # of a landmark, relative to the hand's extent in the image
_ROTATION_STD = 0.25  # rad; of MediaPipe's orientation. Seen: median 6.5 degrees, 99 % below 15
_HUBER = 2.0  # standard deviations from which a landmark counts as an outlier
_SCALE_DRIFT = 0.06  # relative; the distance that MediaPipe's landmarks give varies this much with the posture
_MAX_ITERATIONS = 20
_CONVERGED = 1e-4  # a step that promises to lower the cost by less than this share is not worth taking
# Share of a landmark's error that changes from image to image (seen: 0.1 on a still hand); the rest stays for long.
_NOISE_SHARE = 0.3


@dataclass(frozen=True)
class HandLocation:
    """One hand in the camera's optical frame (x right, y down, z forward).

    keypoints (21, 3) m. noise_covariance (3, 3) m^2 of the wrist from image to image. wrist_covariance (6, 6): position
    m^2 and rotation about x, y, z rad^2, with the uncertainty of the hand's size, which lies along the line of sight.
    landmarks (21, 2) px where the keypoints were seen. reprojection (21,) distance of each keypoint's projection from
    its landmark, relative to the hand's extent.
    """

    keypoints: np.ndarray
    landmarks: np.ndarray
    wrist_covariance: np.ndarray
    noise_covariance: np.ndarray
    reprojection: np.ndarray

    @property
    def reprojection_rms(self) -> float:
        return float(np.sqrt(np.mean(self.reprojection**2)))


def locate_hand(
    world: np.ndarray, landmarks: np.ndarray, camera: Camera, hand_length: float = 0.0, max_reprojection: float = 0.12
) -> HandLocation:
    """Pose of metric landmarks (21, 3) m seen at landmarks (21, 2) px of a camera.

    `hand_length` (m, wrist crease to middle fingertip) sets the scale; 0 says unknown: an average adult's is taken.
    Raises `RejectedInput`: non_finite_landmark, degenerate_hand, behind_camera, reprojection.
    """
    rays = _bearings(landmarks, camera)
    model = _rescaled(world, hand_length or AVERAGE_HAND_LENGTH)
    view = _view_rotation(rays.mean(axis=0))
    seen = rays @ view  # in the frame of a camera that looks straight at the hand
    if (seen[:, 2] < 0.1).any():
        raise RejectedInput("degenerate_hand", "landmarks are spread over more than half the field of view")
    image = seen[:, :2] / seen[:, 2:]
    extent = float(np.linalg.norm(np.ptp(image, axis=0)))
    if extent < 1e-4:
        raise RejectedInput("degenerate_hand", "all landmarks lie in one place")
    try:
        rotation, translation, uncertainty = _solve(model, image, _LANDMARK_STD * extent)
    except np.linalg.LinAlgError:
        raise RejectedInput("degenerate_hand", "the landmarks do not determine a pose") from None
    points = model @ rotation.T + translation
    reprojection = np.linalg.norm(points[:, :2] / points[:, 2:] - image, axis=1) / extent
    if np.sqrt(np.mean(reprojection**2)) > max_reprojection:
        raise RejectedInput("reprojection", "the metric landmarks do not fit the image landmarks")
    keypoints = points @ view.T
    scale_error = MEASURED_HAND_LENGTH_ERROR if hand_length else HAND_LENGTH_SPREAD
    covariance = _wrist_covariance(uncertainty, points[WRIST] - translation, view)
    wrist = keypoints[WRIST]
    total = covariance.copy()
    total[:3, :3] += (scale_error**2 + _SCALE_DRIFT**2) * np.outer(wrist, wrist)
    return HandLocation(keypoints, landmarks, total, _NOISE_SHARE**2 * covariance[:3, :3], reprojection)


def _bearings(landmarks: np.ndarray, camera: Camera) -> np.ndarray:
    """Unit vectors (21, 3) from the camera's centre through pixels (21, 2)."""
    with np.errstate(over="ignore", invalid="ignore"):
        normalised = camera.undistort(landmarks)
        rays = np.concatenate([normalised, np.ones((len(normalised), 1))], axis=1)
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    if not np.isfinite(rays).all():
        raise RejectedInput("non_finite_landmark", "landmarks outside what the camera model can undistort")
    return rays


def _rescaled(world: np.ndarray, hand_length: float) -> np.ndarray:
    if not np.isfinite(world).all():
        raise RejectedInput("non_finite_landmark", "a metric landmark is NaN or infinite")
    palm = np.linalg.norm(world[_PALM_TO] - world[_PALM_FROM], axis=1).mean()
    if palm < 1e-3:
        raise RejectedInput("degenerate_hand", "the palm has no size")
    return world * (_PALM_PER_HAND_LENGTH * hand_length / palm)


def _view_rotation(direction: np.ndarray) -> np.ndarray:
    """The smallest rotation that turns the optical axis into `direction` (3,)."""
    direction = direction / np.linalg.norm(direction)
    axis = np.array([-direction[1], direction[0], 0.0])  # z cross direction
    sine = np.linalg.norm(axis)
    if sine < 1e-12:
        return np.eye(3)
    return cv2.Rodrigues(axis * (np.arctan2(sine, direction[2]) / sine))[0]


def _solve(model: np.ndarray, image: np.ndarray, std: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levenberg-Marquardt on (rotation about the camera's axes, translation): (R, t, covariance (6, 6)).

    Minimises Huber-weighted reprojection / std plus the squared rotation / _ROTATION_STD. Starts at weak perspective.
    """
    rotation = np.eye(3)
    spread = np.linalg.norm(image - image.mean(0))
    depth = np.linalg.norm(model[:, :2] - model[:, :2].mean(0)) / spread
    translation = np.array([*(image.mean(0) * depth), depth]) - model.mean(0)
    if (model @ rotation.T + translation)[:, 2].min() < 1e-3:
        raise RejectedInput("behind_camera", "the hand would reach behind the camera")
    state = (rotation, translation)
    hessian, gradient, cost = _linearise(model, image, std, *state)
    damping = 1e-3
    for _ in range(_MAX_ITERATIONS):
        step = -np.linalg.solve(hessian + damping * np.diag(np.diagonal(hessian)), gradient)
        if -(step @ gradient) < _CONVERGED * cost:
            break
        candidate = (cv2.Rodrigues(step[:3])[0] @ state[0], state[1] + step[3:])
        in_front = (model @ candidate[0].T + candidate[1])[:, 2].min() > 1e-3
        new = _linearise(model, image, std, *candidate) if in_front else (None, None, np.inf)
        if new[2] < cost:
            state, (hessian, gradient, cost) = candidate, new
            damping = max(damping * 0.1, 1e-9)
        else:
            damping *= 10.0
    return *state, np.linalg.inv(hessian)


def _linearise(model, image, std, rotation, translation) -> tuple[np.ndarray, np.ndarray, float]:
    """(Gauss-Newton Hessian (6, 6), gradient (6,), cost) of the problem in `_solve`."""
    turned = model @ rotation.T
    point = turned + translation
    inverse_depth = 1.0 / point[:, 2]
    projected = point[:, :2] * inverse_depth[:, None]
    residual = (projected - image) / std
    size = np.linalg.norm(residual, axis=1)
    weight = _WEIGHT * np.where(size > _HUBER, _HUBER / np.maximum(size, 1e-9), 1.0)
    # d(projection)/d(point), rows for u and v of every keypoint
    by_point = np.zeros((2, NUM_KEYPOINTS, 3))
    by_point[0, :, 0] = by_point[1, :, 1] = inverse_depth
    by_point[:, :, 2] = (-projected * inverse_depth[:, None]).T
    by_point /= std
    # A small rotation w moves a point by w x turned, so the derivative by w is turned x by_point.
    jacobian = np.concatenate([np.cross(turned[None], by_point), by_point], axis=2)
    hessian = np.einsum("akp,k,akq->pq", jacobian, weight, jacobian)
    gradient = np.einsum("akp,k,ka->p", jacobian, weight, residual)
    angle = cv2.Rodrigues(rotation)[0][:, 0]
    hessian[:3, :3] += np.eye(3) / _ROTATION_STD**2
    gradient[:3] += angle / _ROTATION_STD**2
    huber = np.where(size > _HUBER, 2.0 * _HUBER * size - _HUBER**2, size**2)
    return hessian, gradient, float(_WEIGHT @ huber + angle @ angle / _ROTATION_STD**2)


def _wrist_covariance(pose_covariance: np.ndarray, arm: np.ndarray, view: np.ndarray) -> np.ndarray:
    """(6, 6) position, rotation of the wrist in the camera frame; `arm` is from the model's origin to the wrist."""
    skew = np.array([[0, -arm[2], arm[1]], [arm[2], 0, -arm[0]], [-arm[1], arm[0], 0]])
    jacobian = np.block([[-skew, np.eye(3)], [np.eye(3), np.zeros((3, 3))]])
    turn = np.zeros((6, 6))
    turn[:3, :3] = turn[3:, 3:] = view
    jacobian = turn @ jacobian
    return jacobian @ pose_covariance @ jacobian.T
