"""`ObservedPerson`: what is known of the person, from the tracker's observations and the newest forecast.

Everything is in one frame, the robot's base: x to the front, z up. Times are on the observations' clock.
"""

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from ..hand.palm import palm_or_given_rotation
from ..hand.skeleton import RIGHT, SIDES, WRIST
from ..messages.forecast import Futures
from ..messages.hands import Hands
from .options import HandoverOptions
from .separation import Body, person_body
from .transfer import Transfer, expected_transfer

_HISTORY = 0.3  # s of wrist positions
_SMOOTHING = 0.25  # share by which a new observation of a hand at rest counts
_SPEED_SPAN = 0.12  # s over which a wrist's speed is measured
_STAYS = 0.03  # m from where a hand rests, within which it does so however fast noise makes it look
_BACK = 0.05  # m from where it stayed last, within which a hand that was lost, or trembled, is there still
_FOLLOWS = 0.1  # share by which that place follows it: one that creeps on does not stay
_REMEMBERED = 1.0  # s for which a hand that is not seen any more counts as being where it was
_GROWING = 0.3  # s of these in which it may have gone anywhere by the speed of people


@dataclass
class _Hand:
    """One hand: its path of (s, wrist (3,) m); speed m/s, by how much it grew since the observation before, and the
    `fastest` since it was slow; since when it is slow (nan: it is not), and since when it stays near `stays_at` (3,) m,
    where it became slow; `came` (2, 3) m, from where it stayed to where it stays, or did; `grasp` (3,) m, where an
    object in it can be taken, smoothed while it rests."""

    path: deque[tuple[float, np.ndarray]]
    speed: float = 0.0
    faster: float = 0.0
    fastest: float = 0.0
    slow_since: float = np.nan
    stays_since: float = np.nan
    stays_at: np.ndarray | None = None
    came: np.ndarray | None = None
    grasp: np.ndarray | None = None


class ObservedPerson:
    """Observe, foresee, and ask. `options` may be exchanged at any time."""

    def __init__(self, options: HandoverOptions):
        self.options = options
        self.forget()

    def forget(self) -> None:
        """Everything: the clock jumped, or the tracker was changed."""
        self.stamp = -np.inf
        self.keypoints = np.full((2, 21, 3), np.nan)
        self.rotation = np.full((2, 3, 3), np.nan)
        self.futures: Futures | None = None
        self.transfers: dict[int, Transfer] = {}
        self._foreseen_at = self._here_since = -np.inf  # s, of the newest forecast, and since when somebody is seen
        self._last_seen = np.full((2, 21, 3), np.nan)
        self._last_seen_at = np.full(2, -np.inf)
        self._hands = [_Hand(deque()), _Hand(deque())]
        self.body = person_body(self.keypoints)

    def observe(self, hands: Hands, head: np.ndarray | None) -> None:
        """What the tracker saw, newer than what it saw before; `head` (3,) m."""
        self.stamp = hands.stamp
        measured = hands.measured()
        somebody = self._somebody()
        self.keypoints = np.where(measured.valid[..., None], hands.keypoints, np.nan)
        if not somebody:
            self._here_since = hands.stamp
        for side, hand in enumerate(self._hands):
            points = self.keypoints[side]
            self.rotation[side] = palm_or_given_rotation(points, SIDES[side], hands.wrist_rotation[side])
            self._measure_speed(hand, points[WRIST])
            self._measure_grasp(side, hand)
        self.body = self._body(head)

    def foresee(self, futures: Futures) -> None:
        """A forecast; one that is not newer than what is known is left out."""
        if self.futures is None or futures.stamp > self.futures.stamp:
            self.futures, self.transfers = futures, self._expect(futures)
            self._foreseen_at = futures.stamp

    def leave_out_unseen(self) -> None:
        """Transfers of hands that are not seen now are not expected."""
        seen = np.isfinite(self.keypoints[:, WRIST]).all(-1)
        self.transfers = {side: transfer for side, transfer in self.transfers.items() if seen[side]}

    def drop_old(self, now: float) -> None:
        """A forecast that is too old is none."""
        if self.futures is not None and now - self.futures.stamp > self.options.forecast_life:
            self.futures, self.transfers = None, {}

    # ---------------------------------------------------------------- what is known

    def age(self, now: float) -> float:
        """s since what is known was so; forecasts, which come less often, may be as much older. Of nobody nothing is
        forecast, and of somebody who comes, a little later; before the first forecast of all they are not missed."""
        age = now - self.stamp
        if self._somebody() and np.isfinite(self._foreseen_at):
            age = max(age, now - max(self._foreseen_at, self._here_since) - self.options.forecast_period)
        return age

    def unseen_for(self, side: int | None, now: float) -> float:
        """s since a hand was seen; 0 for none."""
        return 0.0 if side is None else now - float(self._last_seen_at[side])

    def last_keypoints(self, side: int) -> np.ndarray:
        """Those of a hand that are known, (K, 3) m, as they were seen last."""
        points = self._last_seen[side]
        return points[np.isfinite(points).all(-1)]

    def came_from(self, side: int) -> np.ndarray:
        """Where its wrist was a little ago, or, of one that stays, where it stayed before it came here, (3,) m."""
        hand = self._hands[side]
        return hand.path[0][1] if hand.stays_at is None else hand.came[0]

    def grasp(self, side: int | None) -> np.ndarray | None:
        """Where the tool has to be to take what the hand holds now, or to bring what it is to take, (3,) m."""
        return None if side is None else self._hands[side].grasp

    def rests(self, side: int) -> bool:
        """Whether it has been slow for long enough."""
        return bool(self.stamp - self._hands[side].slow_since >= self.options.settle_time - 1e-9)

    def offers(self, side: int) -> bool:
        """Whether a hand's way shows that it is meant for the robot, and not only its direction: past the middle of a
        reach, slowing down, it surely ends where the tool gets to, or it waits further out. A hand that is about to be
        withdrawn looks the same until then."""
        options, hand, transfer = self.options, self._hands[side], self.transfers.get(side)
        if transfer is None:
            return False
        if self.stamp - hand.stays_since >= options.offer_after - 1e-9:
            return True
        if np.isnan(hand.slow_since) and hand.speed > options.offer_slowed * hand.fastest:
            return False
        off = transfer.position - np.array([0.0, 0.0, options.zone.shoulder])
        far = float(np.linalg.norm(off))
        spread = np.sqrt(max(float(off @ transfer.covariance @ off), 0.0)) / max(far, 1e-9)
        return bool(far + options.offer_spreads * spread < options.offer_within)

    def arrives(self, side: int, now: float) -> bool:
        """Whether a hand that slows down is forecast, surely enough, to come to rest in a moment."""
        options, hand, transfer = self.options, self._hands[side], self.transfers.get(side)
        if transfer is None or hand.faster >= 0.0 or hand.speed > options.arriving_speed:
            return False
        rests_in = transfer.stamp + transfer.time[1] - now
        return bool(rests_in <= options.arriving_within and transfer.radius <= options.arriving_radius)

    def expected_grasp(self, transfer: Transfer) -> np.ndarray:
        """Where the tool has to be when the hand has come to rest as expected, (3,) m."""
        rotation = transfer.rotation if np.isfinite(transfer.rotation).all() else self.rotation[transfer.side]
        if not np.isfinite(rotation).all():
            return transfer.position
        return self._free_part(transfer.side, transfer.position, rotation)

    def expected_tip(self, transfer: Transfer) -> np.ndarray:
        """Where what reaches out furthest of the hand, shaped as it is now, is expected to be, (3,) m."""
        points, rotation = self.keypoints[transfer.side], transfer.rotation
        if not np.isfinite(rotation).all():
            return transfer.position
        reach = (points - points[WRIST]) @ self.rotation[transfer.side][:, 0]
        return transfer.position + float(np.nanmax(np.append(reach, 0.0))) * rotation[:, 0]

    # ---------------------------------------------------------------- how it becomes known

    def _somebody(self) -> bool:
        return bool(np.isfinite(self.keypoints[:, WRIST]).any())

    def _body(self, head: np.ndarray | None) -> Body:
        """The person's capsules; those of a hand that was lost stay a while, and grow by how far it may have gone."""
        seen = np.isfinite(self.keypoints[:, WRIST]).all(-1)
        self._last_seen[seen], self._last_seen_at[seen] = self.keypoints[seen], self.stamp
        unseen_for = self.stamp - self._last_seen_at
        known = np.where((unseen_for < _REMEMBERED)[:, None, None], self._last_seen, np.nan)
        separation, speed = self.options.separation, np.array([hand.speed for hand in self._hands])
        body = person_body(known, head, speed, separation.body)
        grown = np.where(body.side >= 0, unseen_for[body.side], 0.0)
        return replace(body, radius=body.radius + separation.human_speed * np.minimum(grown, _GROWING))

    def _measure_speed(self, hand: _Hand, wrist: np.ndarray) -> None:
        path, before = hand.path, hand.speed
        if not np.isfinite(wrist).all():
            path.clear()
            hand.speed, hand.faster, hand.fastest, hand.slow_since = 0.0, 0.0, 0.0, np.nan
            hand.stays_since, hand.stays_at = np.nan, None
            return
        path.append((self.stamp, wrist))
        while path[0][0] < self.stamp - _HISTORY:
            path.popleft()
        earlier = next((item for item in path if item[0] >= self.stamp - _SPEED_SPAN), path[0])
        span = self.stamp - earlier[0]
        hand.speed = float(np.linalg.norm(wrist - earlier[1])) / span if span > 1e-6 else 0.0
        hand.faster = hand.speed - before
        hand.fastest = max(hand.fastest, hand.speed)
        self._measure_stay(hand, wrist, span > 1e-6 and hand.speed < self.options.settle_speed)
        if span <= 1e-6 or hand.speed >= self.options.settle_speed:
            hand.slow_since = np.nan
            return
        hand.fastest = hand.speed
        if np.isnan(hand.slow_since):
            hand.slow_since = self.stamp

    def _measure_stay(self, hand: _Hand, wrist: np.ndarray, slow: bool) -> None:
        """Since when it stays where it became slow: over 0.12 s a tracker's noise alone looks like a hand that moves,
        once or twice a second."""
        if hand.stays_at is not None and float(np.linalg.norm(wrist - hand.stays_at)) < _STAYS:
            hand.stays_at = hand.stays_at + _FOLLOWS * (wrist - hand.stays_at)
        elif slow:
            hand.stays_since, hand.stays_at = self.stamp, wrist
            before = hand.path[0][1] if hand.came is None else hand.came[1]
            if hand.came is None or float(np.linalg.norm(wrist - before)) > _BACK:
                hand.came = np.stack([before, wrist])
        else:
            hand.stays_since, hand.stays_at = np.nan, None

    def _measure_grasp(self, side: int, hand: _Hand) -> None:
        """Where the hand is at, smoothed while it rests."""
        if not np.isfinite(self.rotation[side]).all() or not np.isfinite(self.keypoints[side, WRIST]).all():
            hand.grasp = None
            return
        point, before = self._free_part(side, self.keypoints[side, WRIST], self.rotation[side]), hand.grasp
        rests = before is not None and hand.speed < self.options.settle_speed
        hand.grasp = before + _SMOOTHING * (point - before) if rests else point

    def _free_part(self, side: int, wrist: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        along, thumb, out = self.options.free_part
        return wrist + rotation @ np.array([along, thumb if side == RIGHT else -thumb, out])

    def _expect(self, futures: Futures) -> dict[int, Transfer]:
        found, options = {}, self.options
        for hand in futures.hands:
            path = self._hands[hand.side].path
            if path:  # where the hand was when the forecast begins
                start = min(path, key=lambda item: abs(item[0] - futures.stamp))[1]
                found[hand.side] = expected_transfer(
                    hand, futures.stamp, futures.step_times, start, options.zone, options.transfer,
                    options.use_covariance,
                )  # fmt: skip
        return found
