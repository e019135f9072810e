"""A `Forecast` (tensors of a batch) -> `Futures` (arrays, what messages carry)."""

from collections.abc import Sequence

import numpy as np

from ...hand.skeleton import WRIST
from ...messages.forecast import Futures, HandFuture, Waypoint
from .protocol import Forecast, Waypoints


def futures_from_forecast(
    forecast: Forecast,
    frame_id: str,
    track_id: Sequence[int] = (0, 0),
    fresh: Sequence[bool] = (True, True),
    model_id: str = "",
    inference_start: float = 0.0,
    inference_end: float = 0.0,
) -> Futures:
    """The first (only) forecast of a batch as numpy arrays. A side [left, right] that is not `fresh` is left
    out; inference began and ended at the given times, s."""
    valid = forecast.valid[0].cpu().numpy() & np.asarray(fresh)[:, None]
    as_array = {
        name: getattr(forecast, name)[0].double().cpu().numpy()
        for name in ("keypoints", "wrist_rotation", "keypoint_std", "wrist_covariance", "probability")
    }
    futures = []
    for side in np.flatnonzero(valid[:, WRIST]):
        keypoints = np.where(valid[side, :, None], as_array["keypoints"][:, :, side], np.nan)
        futures.append(
            HandFuture(
                side=int(side),
                track_id=int(track_id[side]),
                probability=as_array["probability"],
                keypoints=keypoints,
                wrist_rotation=as_array["wrist_rotation"][:, :, side],
                keypoint_std=as_array["keypoint_std"][:, :, side],
                wrist_covariance=as_array["wrist_covariance"][:, :, side],
            )
        )
    stage = forecast.stage[0] if forecast.stage is not None else ""
    times = forecast.step_times.double().cpu().numpy()
    goals = None
    if forecast.goal_points is not None and forecast.goal_probability is not None:
        goals = np.column_stack([forecast.goal_points[0].numpy(), forecast.goal_probability[0].numpy()])
    stamp = float(forecast.stamp[0])
    return Futures(
        stamp,
        frame_id,
        times,
        tuple(futures),
        stage,
        model_id,
        inference_start,
        inference_end,
        goals,
        forecast.gives,
        _waypoints(forecast.waypoints, [hand.side for hand in futures]),
    )


def _waypoints(waypoints: Waypoints | None, sides: Sequence[int]) -> tuple[Waypoint, ...]:
    """Those of the first (only) window that are valid, of hands that are forecast."""
    if waypoints is None:
        return ()
    found = []
    for i, label in enumerate(waypoints.labels):
        side = int(waypoints.side[0, i])
        if bool(waypoints.valid[0, i]) and side in sides:
            position, rotation = (
                part[0, i].double().cpu().numpy() for part in (waypoints.position, waypoints.rotation)
            )
            time, contact = float(waypoints.time[0, i]), float(waypoints.contact[0, i])
            found.append(Waypoint(time, side, label, position, rotation, contact))
    return tuple(found)
