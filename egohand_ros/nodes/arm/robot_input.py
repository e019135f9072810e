"""`RobotInput`: where arm and hand are, from joint_states, and whether they may be commanded."""

import numpy as np

from ...messages.joints import JointSample
from ...robot.follow.robot_watch import RobotWatch


class RobotInput:
    """Joints of arm (n,) and hand (m,) by name, which may come in one message or in two; `hand` is empty where it is
    not waited for. Times are of a steady clock, s."""

    def __init__(
        self, arm: tuple[str, ...], hand: tuple[str, ...], arm_velocity: np.ndarray, silence: float, error: float
    ):
        self.names = {"arm": arm, "hand": hand} if hand else {"arm": arm}
        self.silence, self.error = silence, error
        self.watch = RobotWatch(arm_velocity, silence)
        self.q: dict[str, np.ndarray] = {}
        self.qd: dict[str, np.ndarray] = {}
        self._heard = dict.fromkeys(self.names, -np.inf)

    def hear(self, sample: JointSample, now: float) -> bool:
        """Take what is ours out of a message; whether anything was."""
        place = {name: i for i, name in enumerate(sample.names)}
        found = [part for part, names in self.names.items() if all(name in place for name in names)]
        for part in found:
            order = [place[name] for name in self.names[part]]
            self.q[part], self.qd[part], self._heard[part] = sample.q[order], sample.qd[order], now
        if "arm" in found:
            self.watch.hear(self.q["arm"], now)
        return bool(found)

    def forget(self) -> None:
        """Nothing is known until the robot speaks again."""
        self.watch.forget()
        self.q.clear()

    def missing(self, now: float) -> str:
        """Which part is not heard of, "" for none."""
        silent = [part for part, heard in self._heard.items() if now - heard > self.silence or part not in self.q]
        return " and ".join(silent)

    def fault(self, now: float, commanded: np.ndarray | None) -> str | None:
        """Why commands may not go on, or None; `commanded` (n,) rad, where the arm is meant to be."""
        reason = self.watch.look(now)
        if reason is None and (silent := self.missing(now)):
            reason = f"nothing has come from the {silent} for {self.silence:g} s"
        if reason is None and commanded is not None and np.abs(commanded - self.q["arm"]).max() > self.error:
            reason = f"the arm is more than {self.error:g} rad off its commands"
        return reason

    def pose(self, now: float) -> np.ndarray | None:
        """Angles (n,) rad of an arm that may be commanded from there, None while that is not known."""
        return None if self.missing(now) else self.watch.pose(now)
