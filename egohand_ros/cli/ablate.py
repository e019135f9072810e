"""`egohand ablate`: EggHand's ablations (its tables 2 to 5), those of MEgoHand, EgoMotion and EgoMAN, and claims of
EgoH4, USST and ForeHand4D, on synthetic data; and of trained weights what each input is worth."""

from collections.abc import Callable
from pathlib import Path

EXAMPLES = """examples:
  egohand ablate --preset egohand-small --test-scenes 100 --out out/inputs
  egohand ablate --out out/ablations
  egohand ablate --preset egghand-hf --scenes 2000 --test-scenes 100 --set steps=50000 --out out/ablations_hf
  egohand ablate --system egoman --goals 600 --seeds 3 --out out/waypoints
  egohand ablate --system megohand --goals 600 --seeds 3 --out out/megohand
  egohand ablate --preset megohand-small --model out/motion/model --out out/megohand_inputs
  egohand ablate --preset egghand --action-head GR00T-N1.5-3B --scenes 2000 --set steps=50000 --out out/ablations_full
  egohand ablate --system egomotion --scenes 240 --test-scenes 40 --seeds 3 --out out/staged_or_joint
  egohand ablate --system egoh4 --scenes 120 --test-scenes 30 --seeds 3 --set steps=600 --out out/egoh4_claims
  egohand ablate --system usst --scenes 120 --test-scenes 30 --seeds 3 --set steps=400 --out out/usst_claims
  egohand ablate --system forehand4d --scenes 240 --test-scenes 30 --seeds 3 --set steps=600 --out out/forehand4d_claims

egohand-small is not trained: what its images and words are worth is measured with its shipped weights, or those of
--model. A run that was stopped, or killed, goes on when the same command is given again.
"""

_COVERAGE = "wrist coverage of 90 %"
# So many scenes are drawn.
_DRAWN = 9
# Systems whose claims are tested, the module of `training.studies` that does it, and the name of the file of results.
_CLAIMS = {
    "egoh4": ("claims.egoh4", "claims"),
    "egoman": ("waypoints", "waypoints"),
    "egomotion": ("staged_or_joint", "claim"),
    "forehand4d": ("claims.forehand4d", "claims"),
    "megohand": ("input_variants", "variants"),
    "usst": ("claims.usst", "claims"),
}
# Those that are trained on scenes of goals, whose number is --goals.
_ON_GOALS = ("egoman", "megohand")


def add_parser(subparsers) -> None:
    """Add the command."""
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "ablate",
        help="measure what each part of a system is worth, and images and words to egohand-small",
        description="Train EggHand with parts of its losses, inputs and pretraining left out, and compare on "
        "held-out scenes; "
        "or compare a trained egohand-small with noise for images and random words for the task.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--preset",
        help="egghand-tiny, egghand-hf, egghand, or a .yaml file of theirs; egohand-small, megohand-small; with "
        "--system one of its own (default: egghand-tiny, or the system's smallest)",
    )
    parser.add_argument(
        "--system",
        choices=tuple(_CLAIMS),
        help="train it as its paper compares; egomotion: reasoning first and then frozen, against both at once; "
        "megohand: without each of its inputs; egoh4: without body, reprojection, visibility; usst: without its "
        "uncertainty; forehand4d: diffusion against regressor, lifting a sequence against frames; "
        "egoman: with waypoints against its motion expert alone",
    )
    parser.add_argument(
        "--goals", type=int, default=600, metavar="N", help="with megohand and egoman, scenes to train on"
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="with --system, how often all is trained")
    parser.add_argument("--model", metavar="FOLDER", help="other weights than the shipped ones, where none are trained")
    parser.add_argument(
        "--out", required=True, metavar="FOLDER", help="for every run's state and log, and ablations.json"
    )
    parser.add_argument("--scenes", type=int, default=24, metavar="N", help="rendered scenes of 30 s to train on")
    parser.add_argument("--test-scenes", type=int, default=6, metavar="N", help="further scenes to compare on")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a training setting of the preset, or of one of its stages by STAGE.KEY; repeatable",
    )
    parser.add_argument(
        "--action-head",
        metavar="PATH",
        help="public GR00T N1.5 weights, for table 5; otherwise the head is pretrained here",
    )
    parser.add_argument("--egovideo", metavar="PATH", help="public EgoVideo weights, for the preset egghand")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Render, train every variant, print the table."""
    from ..errors import UserError
    from ..forecast.registry import system_of
    from ..training.studies.ablations import Ablations

    if min(args.scenes, args.test_scenes, args.goals, args.seeds) < 1:
        raise UserError("--scenes, --test-scenes, --goals and --seeds need at least 1")
    if args.system:
        return ablate_system(args)
    args.preset = args.preset or "egghand-tiny"
    if any(stage.trains_on == "goals" for stage in system_of(args.preset).stages):
        return ablate_inputs(args)

    def tables(study) -> dict:
        ablations = Ablations(study, args.action_head, args.egovideo)
        return ablations.to_json(ablations.run())

    _studied(args, args.preset, args.scenes, "ablations", tables, print_ablations)


def ablate_inputs(args) -> None:
    """What images and words are worth to a trained forecaster, on scenes of one instruction among distractors."""
    import cv2

    from ..errors import UserError
    from ..evaluation.image_and_text_inputs import (
        GOAL_TEST_SEED,
        OURS,
        evaluate_inputs,
        goal_scenes,
    )
    from ..evaluation.pages.image_and_text_pictures import draw_forecasts
    from ..forecast.registry import make_forecaster, options_of
    from ..outputs import check_page, replaced_file, writing
    from ._tables import print_table, write_json

    folder = Path(args.out)
    check_page(folder / "inputs.json", "JSON")
    check_page(folder / "inputs.jpg", "picture")
    name = args.model or args.preset
    looks = {"goals": True} if "goals" in options_of(name) else {}
    forecaster = make_forecaster(name, device=args.device, **looks)
    if "images" not in forecaster.spec.modalities:
        raise UserError(f"{name} does not look at images; train that by `egohand train --goals`")
    with writing(folder), ablation_progress() as report:
        scenes = goal_scenes(
            GOAL_TEST_SEED, args.test_scenes, forecaster.spec, lambda done, total: report("rendering", done, total)
        )
        result = evaluate_inputs(forecaster, scenes, lambda done, total: report("forecasting", done, total))
        picture = cv2.cvtColor(draw_forecasts(forecaster, scenes[:_DRAWN]), cv2.COLOR_RGB2BGR)
        with replaced_file(folder / "inputs.jpg") as part:
            part.write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())
    rows = {name: result.metrics(name) for name in result.scores}
    content = {
        "model": forecaster.spec.model_id,
        "data": {"test_scenes": args.test_scenes, "seed": GOAL_TEST_SEED, "windows": result.windows},
        "rows": rows,
        "cost": {name: row["ADE"] / rows[OURS]["ADE"] - 1.0 for name, row in rows.items()},
        "coverage": {
            name: score.metrics[_COVERAGE].value for name, score in result.scores.items() if _COVERAGE in score.metrics
        },
    }
    write_json(content, str(folder / "inputs.json"))
    title = (
        f"{forecaster.spec.model_id}: {result.windows} windows of {args.test_scenes} held-out scenes with "
        "distractors, mm"
    )
    keys = list(rows[OURS])
    shown = {name: [*(1e3 * row[key] for key in keys), 100.0 * content["cost"][name]] for name, row in rows.items()}
    print_table(title, ["inputs", *keys, "ADE, % above"], shown)
    print(folder / "inputs.json")
    print(f"{folder / 'inputs.jpg'}: white what happened, red the hands alone, blue with image and words")


def _studied(args, preset: str, scenes: int, name: str, run: Callable, show: Callable[[dict], None]) -> None:
    """Run a study, which goes on where it was stopped; show what `run(study)` says, and write it as `name`.json."""
    from ..outputs import check_page, check_writable, writing
    from ..training.studies.study import Study
    from ._tables import write_json

    folder, found = Path(args.out), Path(args.out) / f"{name}.json"
    check_writable(folder / "log", folder)
    check_page(found, "JSON")
    with writing(folder), ablation_progress() as report:
        content = run(Study(preset, folder, scenes, args.test_scenes, args.seeds, tuple(args.set), args.device, report))
    write_json(content, str(found))
    show(content)
    print(found)


def ablate_system(args) -> None:
    """Train a system with and without what its paper adds, and say what that is worth, with an interval over seeds."""
    from importlib import import_module

    place, name = _CLAIMS[args.system]
    module = import_module(f"..training.studies.{place}", __package__)
    show = {"waypoints": print_waypoints, "claim": print_claim, "variants": print_variants, "claims": print_claims}
    scenes = args.goals if args.system in _ON_GOALS else args.scenes
    _studied(args, args.preset or f"{args.system}-small", scenes, name, module.run, show[name])


def print_claim(content: dict) -> None:
    """Both ways side by side, and their ratio with its interval."""
    from ._tables import print_text_table

    rows, ratios = content["rows"], content["joint to staged"]
    numbers = {
        name: [*(rows[way][name]["mean"] for way in ("staged", "joint")), *ratios[name]] for name in rows["staged"]
    }
    table = {name: [f"{number:.3f}" for number in row] for name, row in numbers.items()}
    title = f"EgoMotion's claim, {content['preset']}: {content['seeds']} seeds, {content['data']['test_scenes']} scenes"
    print_text_table(title, ["m, or a share", "staged", "joint", "ratio", "from", "to"], table)
    real = ", ".join(f"{name} {value:.3f}" for name, value in content["truth"].items())
    print(f"real motion, and a hand that stays: {real}")
    print("late, nearest, contact, frechet: less is better; names: more is; jerk: 1 is like real motion")


def print_variants(content: dict) -> None:
    """Ratios to all inputs, then what averaging overlapping forecasts does."""
    from ._tables import print_text_table

    keys, preset, seeds = list(next(iter(content["rows"].values()))), content["preset"], content["data"]["seeds"]
    shown = {
        name: [f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in row.values()]
        for name, row in content["rows"].items()
    }
    title = f"{preset} trained without each input, against all of them: ratios, least and largest of {seeds} seeds"
    print_text_table(title, ["trained", *keys], shown)
    keys = list(next(iter(content["overlaps"].values()), {}))
    shown = {name: [f"{row[key][0]:.4g}" for key in keys] for name, row in content["overlaps"].items()}
    print_text_table("overlapping forecasts of all inputs, m and m/s^3, mean of seeds", ["forecasts", *keys], shown)


def print_claims(content: dict) -> None:
    """What every variant does, then what becomes of every claim."""
    from ._tables import print_text_table

    rows = content["rows"]
    metrics = list(dict.fromkeys(metric for row in rows.values() for metric in row))
    shown = {
        metric: [f"{row[metric]['mean']:.4f}" if metric in row else "-" for row in rows.values()] for metric in metrics
    }
    title = f"{content['preset']}: {content['seeds']} seeds, {content['data']['test_scenes']} scenes; m, or a share"
    print_text_table(title, ["trained", *rows], shown)
    for name, value in content["reference"].items():
        print(f"{name}: {value:.3f}")
    claims = {
        claim["name"]: [
            "{:.3f} [{:.3f}, {:.3f}]".format(*claim["ratio"]),
            " ".join(f"{ratio:.3f}" for ratio in claim["seeds"]),
            claim["published"] or "-",
            claim["verdict"],
        ]
        for claim in content["claims"]
    }
    print_text_table(
        "claims: below 1 is as the paper has it", ["claim", "ratio, 95 %", "seeds", "paper", "verdict"], claims
    )


def print_waypoints(content: dict) -> None:
    """Errors of all, then the ratios of the paper's claim and those of the inputs."""
    from ..training.studies.waypoints import METRICS
    from ._tables import print_text_table

    said = lambda numbers: f"{numbers[0]:.3f} [{numbers[1]:.3f}, {numbers[2]:.3f}]"  # noqa: E731
    rows = {name: [said(row[key]) if key in row else "-" for key in METRICS] for name, row in content["rows"].items()}
    title = f"EgoMAN, {content['preset']}: the acting wrist, m, least and largest of the seeds (naive: 95 %)"
    print_text_table(title, ["forecast", *METRICS], rows)
    for to in ("to the expert alone", "to the whole"):
        ratios = {name: [said(row[key]) if key in row else "-" for key in METRICS] for name, row in content[to].items()}
        print_text_table(f"ratio {to}, 95 % over seeds and scenes", ["forecast", *METRICS], ratios)


def print_ablations(content: dict) -> None:
    """One table: the baselines, Ours, then the variants of each table of the paper; mm."""
    from ._tables import print_table

    tables = content["tables"]
    rows = dict(content["baselines"]) | {"Ours": tables["2"]["Ours"]}
    for number in ("2", "3", "5"):
        rows |= {
            f"{number} {name.removeprefix('Ours ')}": row for name, row in tables[number].items() if name != "Ours"
        }
    keys = list(rows["Ours"])
    title = f"EggHand's ablations, {content['preset']}: {content['data']['windows']} windows of held-out scenes, mm"
    print_table(
        title,
        ["table, row", *(key.replace(" 10 %", "") for key in keys)],
        {
            name: [1e3 * row[key] if row[key] is not None else float("nan") for key in keys]
            for name, row in rows.items()
        },
    )
    print(
        f"table 4: the columns of the top 10 % of windows by camera motion (top); action head: {content['action_head']}"
    )


def ablation_progress():
    """A bar for the run that there is now; a line now and then where no terminal is."""
    from contextlib import contextmanager

    from ._tables import progress_bar

    @contextmanager
    def bar():
        with progress_bar("ablations") as progress:
            yield lambda name, step, steps: progress(step, steps, name)

    return bar()
