"""Train a learned forecaster of one's own, compare it, and use it like any other.

    python examples/05_train_a_forecaster_of_your_own.py out/wrist_mlp 1000     # folder, steps of training

The forecaster is the folder `wrist_mlp/wrist_mlp` beside this file: a record (`system.py`), a network with its
objective (`forecaster.py`), and settings (`preset.yaml`). Put into `egohand_ros/forecast/` it is one of the shipped; as
a package with an entry point (`pip install examples/wrist_mlp`) it needs no line of egohand_ros changed. Here,
importing its record is enough.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "wrist_mlp"))

import wrist_mlp.system  # noqa: F401  (it registers itself)

from egohand_ros.api import evaluate, list_forecasters, load_forecaster
from egohand_ros.cli.main import main as egohand
from egohand_ros.data.synthetic import generate_scene


def main(out: str = "out/wrist_mlp", steps: str = "300", episodes: str = "20") -> None:
    print(f"known: {', '.join(list_forecasters())}")
    command = ["train", "wrist-mlp", "--synthetic", episodes, "--out", out, "--device", "cpu"]
    if status := egohand([*command, "--set", f"steps={steps}", "--set", f"validate_every={steps}"]):
        raise SystemExit(status)
    trained = load_forecaster(Path(out) / "model")
    forecasters = {"wrist-mlp": trained, "persistence": load_forecaster("persistence")}
    result = evaluate([generate_scene(seed, 8.0).episode for seed in (1, 2)], forecasters)
    for name in forecasters:
        print(f"{name:12} ADE {1e3 * result.metrics(name)['ADE']:.1f} mm")


if __name__ == "__main__":
    main(*sys.argv[1:])
