"""`forecaster`: observed hands (and what else the model looks at) -> where both hands will be.

    subscribes  hand_poses            HandPoseArray, of our hand_tracker or any other
                tracker_poses/left, tracker_poses/right   geometry_msgs/PoseArray, one hand of 21, 25 or 26 joints: what
                                      most trackers without an adapter publish, remapped here
                tracker_poses         geometry_msgs/PoseArray, the hand `tracker_side`, or both hands one after the
                                      other beginning with it
                camera_pose           geometry_msgs/PoseStamped, the camera's optical frame in header.frame_id
                odometry              nav_msgs/Odometry, of the camera or of what carries it (`camera_in_base`)
                prompt                std_msgs/String, what the person is about to do
                image             sensor_msgs/Image            with image_transport raw
                image/compressed  sensor_msgs/CompressedImage  with image_transport compressed
                camera_info       sensor_msgs/CameraInfo
                depth             sensor_msgs/Image
                                      these four only where the model looks at images, or at depth
    publishes   hand_forecasts        HandForecastArray, stamped with the last observation that was used
                /tf                   where asked: left_wrist and right_wrist as they are seen now, and the camera's
                                      frame where camera poses come from a topic (`publish_tf`, `view_frame`)
                forecaster_info       ForecasterInfo, latched
                forecast/{left,right}/{path,poses,trajectory}, forecast/markers    the same for stock tools, only while
                                      somebody listens
                ~/debug/latency       Latency of each forecast; image_age, where the window has images, is the time from
                                      the receipt of the newest one to that of the hands, decode within it

Frames: hands that come in another frame than the camera's poses are in the camera's frame; they are moved to the fixed
frame of those poses, and forecasts are there. Without camera poses everything stays in the tracker's frame.

Images are made as small as the model wants them, once, and not undistorted: with camera_info it gets the pinhole matrix
that belongs to them, off by the lens's distortion. Without camera_info, or with one of another aspect, it gets the
images alone; without images for 0.5 s, none. Those that the model has no use for (without a prompt, for some) are not
decoded.

A GPU that is not there, is full, is lost or hangs is replaced by the CPU: the observation at which that happened is
forecast there, diagnostics warn, count/device_fallbacks counts, and forecaster_info says where the model runs now.

A forecaster that reasons by a language model does so in a thread of its own, when what is asked or seen has changed,
and forecasts neither hand until a new task was thought about; in simulated time every window waits for its own thought.
On a CPU slow learned forecasters have a process of their own, and hands go on with its last forecast; one that ends is
an error in the diagnostics, and is started again.

Without what the model needs (camera poses, for some) it forecasts neither hand, and diagnostics give the reason.

One forecast for each new observation; while the model is busy only the newest one waits, and drops are counted.

Every forecast is scored when its future has arrived: running errors and coverage are in the diagnostics, and
`adapt_uncertainty` keeps the published covariance at the coverage that it promises (forecast/live/assessment.py).
"""

import time
from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from ...forecast.common.calibration import COVERAGE
from ...forecast.common.futures import futures_from_forecast
from ...forecast.common.observed import nothing
from ...forecast.common.protocol import Forecast
from ...forecast.live.aggregate import ForecastAggregator
from ...forecast.live.assessment import OnlineAssessment
from ...forecast.live.runtime import ForecastRuntime
from ...forecast.options import TEMPORAL
from ...messages.forecast import Futures
from ...stream.intake import Observation
from ...stream.window import Window
from ..base.diagnostics import ERROR, WARN
from ..base.node import EgoHandNode, run_node
from ..messages.forecast import serialize_futures
from .inputs import ForecasterInputs, Work
from .outputs import ForecasterOutputs
from .parameters import ForecasterParameters
from .wrist_frames import WristFrames

_SILENT, _LOST = 1.0, 10.0  # s without an input after which diagnostics warn, and call it an error


@dataclass(frozen=True)
class _Result:
    work: Work
    futures: Futures
    stages: dict[str, float]


class ForecasterNode(EgoHandNode):
    Parameters = ForecasterParameters

    def __init__(self, **kwargs):
        super().__init__("forecaster", **kwargs)
        self.model: ForecastRuntime | None = None
        self.inputs: ForecasterInputs | None = None

    # ---------------------------------------------------------------- lifecycle

    def setup(self) -> None:
        p = self.parameters
        live = not self.get_parameter("use_sim_time").value  # else what is forecast is no matter of speed
        self.model = ForecastRuntime(
            p.forecaster,
            p.checkpoint,
            p.device,
            p.precision,
            p.compile,
            self._on_fallback,
            p.device_timeout,
            p.mano,
            background=live,
        )
        forecast = self.model.load(p.hypotheses, self._seed())
        serialize_futures(futures_from_forecast(forecast, "warm up"))
        spec = self.model.spec
        self.health.value("device", self.model.device)
        self.health.value("model", spec.model_id)
        self.check_parameters(p)
        self._aggregator = ForecastAggregator(spec.horizon, p.aggregation_recency or None)
        self.outputs = ForecasterOutputs(self)
        self._frames = WristFrames(self) if p.publish_tf or p.view_frame else None
        self._worker = self.make_worker(self._process, self._publish, realtime=True)
        self.inputs = ForecasterInputs(self, spec, self._worker)
        if self.get_parameter("use_sim_time").value:  # a clock may wait for a word on each observation
            self.inputs.on_unused = lambda stamp, age: self.outputs.latency.say(stamp, {"input_age": age})
        self._assessment, self._assessed_epoch = OnlineAssessment(), self.inputs.epoch
        self._learned_from = (self.inputs.epoch, (0, 0))
        self.inputs.subscribe()

    def start(self) -> None:
        self.inputs.start()
        if self._frames is not None:
            self._frames.start()
        self._publish_info()

    def release(self) -> None:
        if self.model is not None:
            self.model.close()
            self.model = None
        if self.inputs is not None:
            self.inputs.close()

    def reset(self) -> None:
        self.inputs.reset()

    def check_parameters(self, new: ForecasterParameters) -> None:
        if self.model is not None and self.model.spec is not None and new.hypotheses > self.model.spec.max_hypotheses:
            most = self.model.spec.max_hypotheses
            raise UserError(f"hypotheses is {new.hypotheses}, but {new.forecaster} gives at most {most}")

    def _on_fallback(self, reason: str) -> None:
        self.get_logger().warning(reason)
        self.health.count("device_fallbacks")

    def _publish_info(self) -> None:
        self.outputs.publish_info(self.model.spec, self.model.device)

    def _seed(self) -> int | None:
        return self.parameters.seed if self.parameters.seed >= 0 else None

    # ---------------------------------------------------------------- diagnostics

    def update_health(self) -> None:
        if not self.is_active:
            return
        now = time.monotonic()
        silent = now - self.inputs.last_input
        waits = self.inputs.waits_for_camera and silent <= _SILENT
        waited = now - self.inputs.last_observation if waits else 0.0
        self.inputs.update_health()
        if self._frames is not None:
            self._frames.look()
        self._report_silence("input", silent, f"no hands for {silent:.1f} s")
        said = f"hands come, but for {waited:.1f} s no camera pose to move them by"
        self._report_silence("camera_pose", waited, said)
        self.health.condition("device", bool(self.model.fallback), self.model.fallback, WARN)
        self.health.value("observations without camera pose", self.inputs.dropped_waiting)
        self.health.value("real-time priority", self._worker.realtime.words)
        if self.model.age is not None:
            self.health.value("age of the forecast that hands go on with [s]", f"{self.model.age:.3f}")
        self._report_accuracy()
        total = self.health.percentiles().get("total")
        if total is not None:
            self.health.value("useful horizon at p95 [s]", f"{self.model.spec.horizon - total[1]:.3f}")

    def _report_accuracy(self) -> None:
        report = self._assessment.report()
        if report.scored:
            self.health.value("forecasts scored", report.scored)
            self.health.value("ADE [m]", f"{report.ade:.4f}")
            self.health.value("FDE [m]", f"{report.fde:.4f}")
            self.health.value(f"coverage of {COVERAGE:.0%} regions", f"{report.coverage:.3f}")
            self.health.value("regions adapted", report.adapted and self.parameters.adapt_uncertainty)

    def _report_silence(self, name: str, silent: float, message: str) -> None:
        self.health.condition(name, silent > _SILENT, message, ERROR if silent > _LOST else WARN)

    # ---------------------------------------------------------------- forecast (worker's thread)

    def _process(self, work: Work) -> _Result:
        begin, started, device = time.perf_counter(), self.now(), self.model.device
        self._forget_what_is_void(work)
        forecast = self._forecast(work.observation.window)
        if self.model.device != device:  # it failed at this observation
            self.health.value("device", self.model.device)
            self._publish_info()
        inferred, ended = time.perf_counter(), self.now()
        if self.parameters.aggregation == TEMPORAL:
            forecast = self._aggregator(forecast, work.epoch)
        forecast = self._assess(work, forecast)
        futures = futures_from_forecast(
            forecast,
            work.observation.frame_id,
            work.track_id,
            fresh=[self._is_fresh(work.observation, side) for side in range(2)],
            model_id=self.model.spec.model_id,
            inference_start=started,
            inference_end=ended,
        )
        stages = {
            "input_age": work.input_age,
            **_image_stages(work),
            "pre": work.pre,
            "wait": begin - work.queued,
            "inference": inferred - begin,
            "post": time.perf_counter() - inferred,
        }
        return _Result(work, futures, stages)

    def _forecast(self, window: Window) -> Forecast:
        lacks = self.model.spec.lacks(window)
        self.health.condition("needs", bool(lacks), lacks, ERROR)
        if lacks:
            return nothing(self.model.spec, window)
        try:
            forecast = self.model.forecast(window, self.parameters.hypotheses, self._seed())
        except UserError as error:  # as of a process of its own that has ended, or is too slow
            self.health.condition("forecaster", True, str(error), ERROR)
            self.health.count("failed_forecasts")
            return nothing(self.model.spec, window)
        self.health.condition("forecaster", False, "")
        return forecast

    def _forget_what_is_void(self, work: Work) -> None:
        """A forecaster that learns begins anew with the stream, and of a hand that the tracker calls another one."""
        epoch, tracks = self._learned_from
        if work.epoch != epoch:
            self.model.forget()
        else:
            for side in range(2):
                if work.track_id[side] != tracks[side] and tracks[side]:
                    self.model.forget(side)
        self._learned_from = work.epoch, work.track_id

    def _assess(self, work: Work, forecast: Forecast) -> Forecast:
        """The forecast as it is to be published. Only the worker's thread scores and adapts."""
        if work.epoch != self._assessed_epoch:
            self._assessment.reset()
            self._assessed_epoch = work.epoch
        return self._assessment.publish(forecast, self.parameters.adapt_uncertainty)

    def _score(self, window: Window) -> None:
        """Its last observation is the truth that earlier forecasts waited for."""
        rotation = np.where(window.rotation_valid[0, -1, :, None, None], window.wrist_rotation[0, -1], np.nan)
        last = (window.keypoints[0, -1].numpy(), window.valid[0, -1].numpy(), rotation)
        self._assessment.observe(float(window.stamp[0]), *last)

    def _is_fresh(self, observation: Observation, side: int) -> bool:
        age = float(observation.window.stamp[0]) - observation.last_seen[side]
        return age <= self.parameters.hand_timeout

    def _publish(self, result: _Result) -> None:
        work, futures = result.work, result.futures
        if work.epoch != self.inputs.epoch:
            return  # history was forgotten while the model ran
        begin = time.perf_counter()
        self.outputs.publish_forecast(futures, work.stamp)
        end = time.perf_counter()
        total = work.input_age + end - work.queued + work.pre
        stages = {**result.stages, "publish": end - begin, "total": total}
        self.health.count("forecasts")
        if not futures.hands:
            self.health.count("forecasts_without_hand")
        self.outputs.latency.note(work.stamp, stages, self.model.spec.horizon - total)
        self.outputs.publish_standard(futures, work.stamp, self.parameters.marker_lifetime)
        if self._frames is not None:
            self._frames.publish(work.observation, work.hand_frame, work.stamp)
        self._score(work.observation.window)


def _image_stages(work: Work) -> dict[str, float]:
    """Of the newest image in the window: how long before the hands it was received, and of that its decoding, s."""
    if work.image is None:
        return {}
    return {"image_age": work.queued - work.pre - work.image.received, "decode": work.image.decode}


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; the exit code."""
    return run_node(ForecasterNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
