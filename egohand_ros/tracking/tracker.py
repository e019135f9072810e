"""`HandTracker`: images of a calibrated camera in, metric hands with identity out. Nodes and tools use only this."""

import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from ..errors import RejectedInput, UserError
from ..geometry.camera import Camera
from ..hand.palm import palm_rotation
from ..hand.skeleton import NUM_KEYPOINTS, SIDES, WRIST
from ..images.decoding import check_image
from .detector import Detection, HandDetector
from .identity import HandIdentity, Sighting, Track, TrackingState
from .localize import locate_hand

# A step back in time larger than this is a restart (a bag loops), a smaller one is an image out of order.
_RESTART_STEP = 0.5  # s
_MIN_KEYPOINTS_IN_IMAGE = NUM_KEYPOINTS // 2  # with fewer in sight the landmarks are mostly guessed
_OUTSIDE_CONFIDENCE = 0.3  # factor for a keypoint that MediaPipe guesses outside the image
_TURN_DENSITY = 1.0  # rad^2/s; how fast the orientation of an unseen hand becomes uncertain


@dataclass(frozen=True)
class TrackerConfig:
    """What can be chosen. Lengths in m, times in s. Raises `UserError` for values that cannot work."""

    max_hands: int = 2
    model_complexity: int = 1
    processing_width: int = 640
    min_detection_confidence: float = 0.5
    min_tracking_confidence: float = 0.5
    model_path: str = ""  # hand_landmarker.task; "": the models inside MediaPipe, until 0.10.21
    hand_length: float = 0.0  # wrist crease to middle fingertip; 0: unknown, an average adult's is taken
    max_distance: float = 2.0  # hands further from the camera are somebody else's
    max_reprojection: float = 0.10  # rms misfit of metric and image landmarks, relative to the hand's extent
    max_gap: float = 0.2  # a hand that is not seen is extrapolated for so long
    memory: float = 1.0  # a lost hand that comes back within this keeps its track id

    def __post_init__(self):
        if self.max_hands not in (1, 2):
            raise UserError(f"max_hands is {self.max_hands}; expected 1 or 2")
        if self.model_complexity not in (0, 1):
            raise UserError(f"model_complexity is {self.model_complexity}; expected 0 (fast) or 1 (exact)")
        if self.hand_length != 0.0 and not 0.08 <= self.hand_length <= 0.28:
            raise UserError(f"hand_length is {self.hand_length} m; expected 0.08 to 0.28 m, or 0 for unknown")
        if not 0.0 <= self.max_gap <= self.memory:
            raise UserError(f"max_gap is {self.max_gap} s and memory {self.memory} s; expected 0 <= max_gap <= memory")


@dataclass(frozen=True)
class TrackedHand:
    """One hand at one time, in the camera's optical frame.

    keypoints (21, 3) m; valid (21,); keypoint_confidence (21,) and confidence 0 to 1; wrist_rotation (3, 3) is
    R_camera_palm, NaN where the palm is seen edge-on; wrist_covariance (6, 6): position m^2, rotation rad^2;
    landmarks (21, 2) px in the image of the camera. A LOST hand has NaN geometry, nothing valid and confidence 0.
    """

    side: str
    track_id: int
    state: TrackingState
    confidence: float
    keypoints: np.ndarray
    valid: np.ndarray
    keypoint_confidence: np.ndarray
    wrist_rotation: np.ndarray
    wrist_covariance: np.ndarray
    landmarks: np.ndarray


@dataclass(frozen=True)
class TrackedHands:
    """All hands at `stamp` s, left before right; what was not used, counted by reason; s spent in each stage.

    restarted: time jumped back, so every earlier hand was forgotten.
    """

    stamp: float
    hands: tuple[TrackedHand, ...]
    rejected: Counter[str] = field(default_factory=Counter)
    timings: dict[str, float] = field(default_factory=dict)
    restarted: bool = False

    def hand(self, side: str) -> TrackedHand | None:
        """The left or right hand, None where nothing is known of it."""
        return next((h for h in self.hands if h.side == side), None)


class HandTracker:
    """Follows both hands through the images of one camera. One thread at a time.

    `config` may be replaced between images; hand_length, max_distance and max_reprojection then hold from the next one.
    """

    def __init__(self, config: TrackerConfig = TrackerConfig()):
        """Loads and warms the models. Raises `UserError` when MediaPipe is missing."""
        self.config = config
        self._detector = HandDetector(
            config.max_hands,
            config.model_complexity,
            config.processing_width,
            config.min_detection_confidence,
            config.min_tracking_confidence,
            config.model_path,
        )
        self._identity = HandIdentity(config.max_gap, config.memory)
        self._last_stamp: float | None = None

    def process(self, image: np.ndarray, stamp: float, camera: Camera) -> TrackedHands:
        """Hands in an RGB uint8 image (height, width, 3) taken at `stamp` s.

        The image may be a smaller or larger copy of the camera's (same aspect). Raises `RejectedInput`: those of
        `check_image`, bad_stamp, out_of_order, camera_mismatch. A refused image changes nothing.
        """
        image = check_image(image)
        _check_camera(image, camera)
        restarted = self._check_stamp(stamp)
        if restarted:
            self.reset()
        self._last_stamp = stamp
        begin = time.perf_counter()
        detections = self._detector.detect(image)
        detected = time.perf_counter()
        sightings, rejected = self._locate_all(detections, image.shape[1], camera)
        located = time.perf_counter()
        rejected += self._identity.update(stamp, sightings)
        tracks = self._identity.tracks
        hands = tuple(_tracked_hand(tracks[s], stamp, camera, self.config) for s in SIDES if s in tracks)
        end = time.perf_counter()
        timings = {"detect": detected - begin, "locate": located - detected, "identify": end - located}
        return TrackedHands(stamp, hands, rejected, timings, restarted)

    def reset(self) -> None:
        """Forget all hands and the last stamp."""
        self._detector.reset()
        self._identity.reset()
        self._last_stamp = None

    def close(self) -> None:
        """Free the models."""
        self._detector.close()

    def _check_stamp(self, stamp: float) -> bool:
        """True when time restarted."""
        if not np.isfinite(stamp):
            raise RejectedInput("bad_stamp", f"stamp is {stamp}")
        if self._last_stamp is None or stamp > self._last_stamp:
            return False
        if stamp < self._last_stamp - _RESTART_STEP:
            return True
        raise RejectedInput("out_of_order", f"{self._last_stamp - stamp:.3f} s before the previous image")

    def _locate_all(
        self, detections: list[Detection], width: int, camera: Camera
    ) -> tuple[list[Sighting], Counter[str]]:
        """Sightings of the detections in an image `width` px wide, and the reasons of those that are none."""
        sightings, rejected = [], Counter()
        for detection in detections:
            try:
                sightings.append(self._locate(detection, camera.width / width, camera))
            except RejectedInput as error:
                rejected[error.reason] += 1
        return sightings, rejected

    def _locate(self, detection: Detection, scale: float, camera: Camera) -> Sighting:
        landmarks = (detection.landmarks + 0.5) * scale - 0.5
        if _inside(landmarks, camera).sum() < _MIN_KEYPOINTS_IN_IMAGE:
            raise RejectedInput("outside_image", "most of the hand is outside the image")
        config = self.config
        location = locate_hand(detection.world, landmarks, camera, config.hand_length, config.max_reprojection)
        if np.linalg.norm(location.keypoints[WRIST]) > config.max_distance:
            raise RejectedInput("too_far", f"a hand further than {config.max_distance} m is not the wearer's")
        return Sighting(detection.side, detection.score, location)


def _check_camera(image: np.ndarray, camera: Camera) -> None:
    height, width = image.shape[:2]
    if camera.width <= 0 or camera.height <= 0:
        raise RejectedInput("camera_mismatch", f"the camera's image size is {camera.width}x{camera.height} px")
    if not camera.fits(width, height):
        raise RejectedInput(
            "camera_mismatch", f"the image has {width}x{height} px, the camera {camera.width}x{camera.height}"
        )


def _inside(landmarks: np.ndarray, camera: Camera) -> np.ndarray:
    """(21,) which pixels (21, 2) lie in the camera's image."""
    return ((landmarks >= -0.5) & (landmarks < np.array([camera.width, camera.height]) - 0.5)).all(axis=1)


def _tracked_hand(track: Track, stamp: float, camera: Camera, config: TrackerConfig) -> TrackedHand:
    if track.state is TrackingState.LOST:
        return _lost_hand(track)
    location = track.sighting.location
    gap = stamp - track.last_seen
    keypoints, landmarks, covariance = location.keypoints, location.landmarks, location.wrist_covariance
    if track.state is TrackingState.EXTRAPOLATED:
        predicted, growth = track.motion.predict(stamp)
        keypoints = keypoints + predicted[:3] - track.motion.position
        landmarks = camera.project(keypoints)
        covariance = covariance.copy()
        covariance[:3, :3] += (growth - track.motion.covariance)[:3, :3]
        covariance[3:, 3:] += _TURN_DENSITY * gap * np.eye(3)
    freshness = 1.0 - gap / config.max_gap if gap > 0 else 1.0
    # The misfit of a usual hand is a quarter of the limit, so that this costs it 6 %.
    fit = 1.0 - (location.reprojection_rms / config.max_reprojection) ** 2
    confidence = track.sighting.score * fit * freshness
    keypoint_fit = np.clip(1.0 - (location.reprojection / (2.0 * config.max_reprojection)) ** 2, 0.0, 1.0)
    seen = np.where(_inside(landmarks, camera), 1.0, _OUTSIDE_CONFIDENCE)
    return TrackedHand(
        side=track.side,
        track_id=track.track_id,
        state=track.state,
        confidence=float(np.clip(confidence, 0.0, 1.0)),
        keypoints=keypoints,
        valid=np.isfinite(keypoints).all(axis=1),
        keypoint_confidence=np.clip(confidence * keypoint_fit * seen, 0.0, 1.0),
        wrist_rotation=palm_rotation(keypoints, track.side),
        wrist_covariance=covariance,
        landmarks=landmarks,
    )


def _lost_hand(track: Track) -> TrackedHand:
    return TrackedHand(
        side=track.side,
        track_id=track.track_id,
        state=TrackingState.LOST,
        confidence=0.0,
        keypoints=np.full((NUM_KEYPOINTS, 3), np.nan),
        valid=np.zeros(NUM_KEYPOINTS, dtype=bool),
        keypoint_confidence=np.zeros(NUM_KEYPOINTS),
        wrist_rotation=np.full((3, 3), np.nan),
        wrist_covariance=np.full((6, 6), np.nan),
        landmarks=np.full((NUM_KEYPOINTS, 2), np.nan),
    )
