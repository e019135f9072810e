"""How a wrist moves between images: a Kalman filter of position and damped velocity.

Used to tell hands apart and to bridge short gaps. Poses that were measured are passed on as measured, without its lag.
"""

import numpy as np

VELOCITY_DECAY = 0.2  # s; an unseen hand's velocity fades with this time constant
ACCELERATION_DENSITY = 1.0  # m^2/s^3; of the acceleration noise: a reaching hand plus the turning head that sees it
START_SPEED = 0.5  # m/s; standard deviation of the velocity of a hand that has just appeared


class WristMotion:
    """State (position m, velocity m/s) and covariance (6, 6) of one wrist, in the frame of the measurements."""

    def __init__(self, stamp: float, position: np.ndarray, covariance: np.ndarray):
        self.stamp = stamp
        self.state = np.concatenate([position, np.zeros(3)])
        self.covariance = np.zeros((6, 6))
        self.covariance[:3, :3] = covariance
        self.covariance[3:, 3:] = START_SPEED**2 * np.eye(3)

    @property
    def position(self) -> np.ndarray:
        return self.state[:3]

    def predict(self, stamp: float) -> tuple[np.ndarray, np.ndarray]:
        """(state (6,), covariance (6, 6)) at a later stamp (s); the filter itself stays as it is."""
        dt = max(stamp - self.stamp, 0.0)
        decay = np.exp(-dt / VELOCITY_DECAY)
        transition = np.eye(6)
        transition[:3, 3:] = VELOCITY_DECAY * (1.0 - decay) * np.eye(3)
        transition[3:, 3:] = decay * np.eye(3)
        noise = np.kron(np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]]), np.eye(3)) * ACCELERATION_DENSITY
        return transition @ self.state, transition @ self.covariance @ transition.T + noise

    def update(self, stamp: float, position: np.ndarray, covariance: np.ndarray) -> None:
        """Take in a measurement: position (3,) m with covariance (3, 3) m^2."""
        state, predicted = self.predict(stamp)
        gain = np.linalg.solve(predicted[:3, :3] + covariance, predicted[:3, :]).T
        self.stamp = stamp
        self.state = state + gain @ (position - state[:3])
        keep = np.eye(6)
        keep[:, :3] -= gain
        self.covariance = keep @ predicted @ keep.T + gain @ covariance @ gain.T
