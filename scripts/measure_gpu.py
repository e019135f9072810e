"""Everything that is worth knowing of a GPU here, in one run: copy and arithmetic ceilings, EggHand, EgoMAN,
EgoMotion and MEgoHand at full size, horizons.

    python scripts/measure_gpu.py --out gpu.json                 # on a machine with a GPU; no ROS needed
    python scripts/measure_gpu.py --device cpu --small           # a check of this script itself

Weights are random: time does not depend on them. Each case of EggHand is compared with float32 without graphs on the
same device (relative error in the 2-norm), timed from the call to numbers on the CPU, as a node sees it, and set beside
the floor: the bytes of the weights that are read, over the measured bandwidth, and the operations, over the measured
rate. `inputs` is the part of it that copies a window to the device and makes frames of its images there. `peak` is
device memory, on a CPU the process's.
"""

import argparse
import json
import resource
import sys
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from egohand_ros.config import from_mapping, read_preset
from egohand_ros.evaluation.bench.forecast_bench import live_window
from egohand_ros.forecast.common.frames import canonical_frame
from egohand_ros.forecast.common.observed import Observed
from egohand_ros.forecast.egghand.forecaster import EggHandForecaster
from egohand_ros.forecast.egghand.model import EggHandConfig, EggHandNetwork
from egohand_ros.forecast.egoman.config import EgoMANConfig
from egohand_ros.forecast.egoman.forecaster import EgoMANForecaster
from egohand_ros.forecast.egoman.inputs import camera_frames
from egohand_ros.forecast.egoman.network import EgoMANNetwork
from egohand_ros.forecast.egoman.reasoning import scene_images
from egohand_ros.forecast.egomotion.config import EgoMotionConfig
from egohand_ros.forecast.egomotion.forecaster import EgoMotionForecaster
from egohand_ros.forecast.egomotion.inputs import now_of, past_of
from egohand_ros.forecast.egomotion.network import EgoMotionNetwork
from egohand_ros.forecast.megohand.config import MEgoHandConfig
from egohand_ros.forecast.megohand.forecaster import MEgoHandForecaster
from egohand_ros.forecast.megohand.inputs import rows_of_window
from egohand_ros.forecast.megohand.network import MEgoHandNetwork

CASES = (("float32", False), ("bfloat16", False), ("bfloat16", True))
HYPOTHESES = (1, 16)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def median_ms(run, device: torch.device, repeats: int) -> tuple[float, float, float]:
    """p50, p95, p99 of wall times after a warm-up."""
    for _ in range(min(3, repeats)):
        run()
    times = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        times.append(1e3 * (time.perf_counter() - start))
    return tuple(float(np.percentile(times, p)) for p in (50, 95, 99))


class _Filled(TorchFunctionMode):
    """New weights are copies of a few random ones: on a CPU, drawing billions would take longer than all else here."""

    def __init__(self):
        super().__init__()
        self._drawn = 0.02 * torch.randn(2**20)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func not in (torch.Tensor.normal_, torch.Tensor.uniform_) or args[0].is_meta:
            return func(*args, **(kwargs or {}))
        for part in args[0].detach().view(-1).split(len(self._drawn)):
            part.copy_(self._drawn[: len(part)])
        return args[0]


@contextmanager
def made_on(device: torch.device):
    """Networks that are made in here are on the device."""
    with _Filled() if device.type == "cpu" else nullcontext(), device:
        yield


def peak_gib(device: torch.device) -> float:
    """Most memory taken so far: of the device, on a CPU that of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def ceilings(device: torch.device, small: bool) -> dict[str, float]:
    """Bandwidth of a copy (bytes read and written) in TB/s, and rate of a bfloat16 product of random matrices in
    TFLOP/s.
    """
    size, width = (2**24, 512) if small else (2**32, 8192)
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = median_ms(lambda: target.copy_(source), device, 5)[0]
    a, b = (torch.randn(width, width, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = median_ms(lambda: a @ b, device, 5)[0]
    return {"bandwidth_tb_s": 2e-9 * size / copy, "bfloat16_tflop_s": 2e-9 * width**3 / product}


def egghand(device: torch.device, small: bool, repeats: int, ceiling: dict[str, float]) -> list[dict]:
    """Times and errors of EggHand with images and without a prompt, whose tokenizer would have to be fetched."""
    values = dict(read_preset("egghand").get("model", {}))
    if small:
        values["egovideo"] = values["egovideo"] | {"width": 64, "depth": 2, "heads": 2, "text_layers": 1}
        values["head"] = values["head"] | {"layers": 2, "fusion_layers": 1, "width": 96, "context_width": 64}
    torch.manual_seed(0)
    network = EggHandNetwork(from_mapping(EggHandConfig, values, "egghand: model"))
    out, reference = [], {}
    for precision, compiled in CASES[: 2 if device.type == "cpu" else None]:
        forecaster = EggHandForecaster(
            network.config, network, device=str(device), precision=precision, compile=compiled
        )
        window = live_window(forecaster, images=True)
        seen = window, Observed.from_window(window), canonical_frame(window)
        for count in HYPOTHESES:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            keypoints = forecaster.forecast(window, count, seed=1).keypoints.double().numpy()
            base = reference.setdefault(count, keypoints)
            p50, p95, p99 = median_ms(lambda: forecaster.forecast(window, count, seed=1), device, repeats)  # noqa: B023
            copies = median_ms(lambda: forecaster.inputs(*seen, device), device, repeats)[0]  # noqa: B023
            weights = sum(p.numel() for p in network.parameters())
            bytes_each = 4 if precision == "float32" else 2
            out.append(
                {
                    "precision": precision,
                    "graphs": compiled,
                    "hypotheses": count,
                    "p50_ms": p50,
                    "p95_ms": p95,
                    "p99_ms": p99,
                    "inputs_ms": copies,
                    "relative_error": float(np.linalg.norm(keypoints - base) / np.linalg.norm(base)),
                    "weights": weights,
                    "floor_ms": bytes_each * weights / ceiling["bandwidth_tb_s"] * 1e-9,
                    "peak_gib": peak_gib(device),
                }
            )
            print("egghand", out[-1], flush=True)
    return out


def egoman(device: torch.device, small: bool, repeats: int) -> list[dict]:
    """Times of EgoMAN's parts: a thought about a new picture, one more about the same, DINOv3, and the motions of K
    hypotheses. Weights are random, and words are known by a small tokenizer, as the published one would be fetched."""
    values = read_preset("egoman-small" if small else "egoman")["model"]
    config = replace(from_mapping(EgoMANConfig, values, "egoman: model"), words=("red", "cup"))
    torch.manual_seed(0)
    with made_on(device):
        network = EgoMANNetwork(config)
    forecaster = EgoMANForecaster(config, network, device=str(device))
    window = replace(live_window(forecaster, images=True), prompt=("take the red cup",))
    reasoner, frame = forecaster.reasoner, camera_frames(window)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()

    def anew():
        reasoner._seen = None
        return reasoner._one(window)

    with torch.inference_mode():
        thought = anew()
        parts = {
            "thought": anew,
            "one more": lambda: reasoner._one(window),
            "scene": lambda: network.scene_features(scene_images(window), thought.scene, 1),
        } | {
            f"motions, K = {count}": lambda count=count: forecaster.motions(thought, window, frame, count, 1)
            for count in (1, 10)
        }
        out = []
        for name, part in parts.items():
            p50, p95, p99 = median_ms(part, device, repeats)
            out.append({"part": name, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "peak_gib": peak_gib(device)})
            print("egoman", out[-1], flush=True)
    weights = sum(p.numel() for p in network.parameters())
    return [*out, {"weights": weights, "sampling_steps": config.sampling_steps}]


def egomotion(device: torch.device, small: bool, repeats: int) -> list[dict]:
    """Times of EgoMotion's parts: a thought about a new picture, one more about the same, and the motions of K
    hypotheses. Weights are random, and words are known by a small tokenizer."""
    values = read_preset("egomotion-small" if small else "egomotion")["model"]
    config = replace(from_mapping(EgoMotionConfig, values, "egomotion: model"), words=("red", "cup"))
    torch.manual_seed(0)
    began = time.perf_counter()
    with made_on(device):
        network = EgoMotionNetwork(config)
    forecaster = EgoMotionForecaster(config, network, device=str(device))
    made = time.perf_counter() - began
    window = replace(live_window(forecaster, images=True), prompt=("take the red cup",))
    reasoner, observed = forecaster.reasoner, Observed.from_window(window)
    past = past_of(window, observed, now_of(window, observed)).to(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()

    def anew():
        reasoner._glance = None
        return reasoner._one(window)

    with torch.inference_mode():
        thought = anew()
        parts = {"thought": anew, "one more": lambda: reasoner._one(window)} | {
            f"motions, K = {count}": lambda count=count: forecaster.motions(thought.states, past, count, 1)
            for count in (1, 10)
        }
        out = []
        for name, part in parts.items():
            p50, p95, p99 = median_ms(part, device, repeats)
            out.append({"part": name, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "peak_gib": peak_gib(device)})
            print("egomotion", out[-1], flush=True)
    weights = sum(p.numel() for p in network.parameters())
    return [*out, {"weights": weights, "sampling_steps": config.sampling_steps, "made_s": made}]


def megohand(device: torch.device, small: bool, repeats: int) -> list[dict]:
    """Times of MEgoHand's parts: depth of an image, what its head looks at, and the chunks of K hypotheses of both
    hands, a hand of bones in place of MANO's. Weights are random, and words are known by a small tokenizer."""
    values = read_preset("megohand-small" if small else "megohand")["model"] | {"hand": "bones"}
    config = replace(from_mapping(MEgoHandConfig, values, "megohand: model"), words=("red", "cup"))
    torch.manual_seed(0)
    with made_on(device):
        network = MEgoHandNetwork(config)
    forecaster = MEgoHandForecaster(config, network, device=str(device))
    window = replace(live_window(forecaster, images=True), prompt=("take the red cup",), depth=None)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode():
        context = forecaster.watcher._one(window)
        rows, both = rows_of_window(window, context.frame), torch.ones(2, dtype=torch.bool)
        parts = {
            "depth": lambda: network.depth_of(window.images[:, -1]),
            "context of both hands": lambda: forecaster.watcher._one(window),
        } | {
            f"chunks, K = {count}": lambda count=count: forecaster.chunks(context, both, rows, count, 1)
            for count in (1, 10)
        }
        out = []
        for name, part in parts.items():
            p50, p95, p99 = median_ms(part, device, repeats)
            out.append({"part": name, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "peak_gib": peak_gib(device)})
            print("megohand", out[-1], flush=True)
    weights = sum(p.numel() for p in network.parameters())
    return [*out, {"weights": weights, "sampling_steps": config.head.flow.steps}]


def horizons(device: torch.device, repeats: int) -> list[dict]:
    """16 hypotheses x 30 steps x both hands, as `egohand bench retarget --horizon`."""
    from egohand_ros.evaluation.bench.retarget_bench import horizon_times, sequences
    from egohand_ros.robot.hands.library import load_hand

    out = []
    for kind in ("allegro", "leap", "shadow", "inspire"):
        pair = [load_hand(f"{kind}_{side}") for side in ("left", "right")]
        paths = {side: next(iter(sequences(None, side).values())) for side in ("left", "right")}
        out.append(horizon_times(pair, paths, str(device), repeats))
        print("horizon", out[-1], flush=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--only", metavar="PART", help="egghand, egoman, egomotion, megohand or horizon")
    parser.add_argument("--out", help="JSON file")
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here; --device cpu --small tries the script")
    result = {"torch": torch.__version__, "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu"}
    result["ceilings"] = ceilings(device, args.small)
    print(result, flush=True)
    # One part that fails must not cost the results of the others: time on such a machine is short.
    for name, part in {
        "egghand": lambda: egghand(device, args.small, args.repeats, result["ceilings"]),
        "egoman": lambda: egoman(device, args.small, args.repeats),
        "egomotion": lambda: egomotion(device, args.small, args.repeats),
        "megohand": lambda: megohand(device, args.small, args.repeats),
        "horizon": lambda: horizons(device, 4 if args.small else 8),
    }.items():
        if args.only not in (None, name):
            continue
        try:
            result[name] = part()
        except Exception as error:
            result[name] = f"failed: {type(error).__name__}: {error}"
            print(name, result[name], flush=True)
        if args.out:
            Path(args.out).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
