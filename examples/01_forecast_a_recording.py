"""Where will both hands be? A recording in, a forecast of the second after its end out.

    python examples/01_forecast_a_recording.py recording.npz     # or a bag, a LeRobotDataset, ...: docs/data.md

Without a recording, a generated person stands in.
"""

import sys
import tempfile
from pathlib import Path

from egohand_ros.api import load_episode, load_forecaster


def main(recording: str | None = None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        episode = load_episode(recording or generated(Path(folder)))
    forecaster = load_forecaster("egohand-small")
    window = episode.last_window(forecaster.spec)
    forecast = forecaster.forecast(window, hypotheses=5)

    print(f"{episode.duration:.1f} s seen; forecast by {forecaster.spec.model_id}")
    for side, name in enumerate(("left", "right")):
        if not forecast.valid[0, side, 0]:
            print(f"{name}: not seen, not forecast")
            continue
        wrists = forecast.keypoints[0, :, -1, side, 0]  # (K, 3) m: each hypothesis, last step, wrist
        for probability, wrist in zip(forecast.probability[0], wrists, strict=True):
            x, y, z = wrist.tolist()
            print(
                f"{name} wrist in {forecast.step_times[-1]:.1f} s: {x:6.3f} {y:6.3f} {z:6.3f} m with {probability:.0%}"
            )


def generated(folder: Path) -> Path:
    """A few seconds of a generated person, as a file."""
    from egohand_ros.data.synthetic import generate_scene

    generate_scene(seed=0, duration=6.0).episode.save(folder / "person.npz")
    return folder / "person.npz"


if __name__ == "__main__":
    main(*sys.argv[1:])
