"""`egohand bench forecast`: how long one forecast takes, without ROS around it."""

EXAMPLES = """examples:
  egohand bench forecast --forecaster kalman,egohand-small
  egohand bench forecast --forecaster adaptive,kalman --hypotheses 1 --rounds 3 --threads 1
  egohand bench forecast --forecaster egghand --hypotheses 1,16 --option untrained=true precision=bfloat16 compile=true
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "forecast",
        help="time of one forecast",
        description="Forecast one window of two hands again and again, with images where a forecaster looks at them.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--forecaster",
        default="kalman,egohand-small",
        metavar="NAME[,NAME…]",
        help="presets, or folders of trained ones",
    )
    parser.add_argument("--hypotheses", default="1,5", metavar="K[,K…]", help="numbers of futures")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="a task text, for forecasters that read one")
    parser.add_argument("--repeats", type=int, default=300, metavar="N", help="forecasts timed of each")
    parser.add_argument(
        "--rounds", type=int, default=1, metavar="N", help="in which the forecasters take turns, N times --repeats each"
    )
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="CPU threads of torch; 0: as many as it takes"
    )
    parser.add_argument(
        "--option", nargs="+", default=[], metavar="KEY=VALUE", help="options of the forecasters, as device=cuda"
    )
    parser.add_argument("--json", metavar="FILE", help="write the numbers; - is the standard output")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Time, print and write."""
    import os
    from dataclasses import replace

    import numpy as np
    import torch
    import yaml

    from ..errors import UserError
    from ..evaluation.bench.forecast_bench import time_forecasts
    from ..forecast.registry import make_forecaster
    from ._tables import check_json, print_table, progress_bar, write_json
    from .evaluate import forecaster_names

    check_json(args.json)
    try:
        counts = [int(text) for text in args.hypotheses.split(",")]
    except ValueError:
        raise UserError(f"--hypotheses {args.hypotheses!r}: expected whole numbers, separated by commas") from None
    if min(args.repeats, args.rounds) < 1 or min(counts) < 1 or any("=" not in option for option in args.option):
        raise UserError("--repeats, --rounds and --hypotheses need at least 1, --option KEY=VALUE")
    if args.threads:
        torch.set_num_threads(args.threads)
    options = {key: yaml.safe_load(value) for key, _, value in (option.partition("=") for option in args.option)}
    made = {name: make_forecaster(name, **options) for name in forecaster_names(args.forecaster)}
    rounds: dict[str, list] = {}
    for _ in range(args.rounds):
        for name, forecaster in made.items():
            with progress_bar(name) as progress:
                for t in time_forecasts(name, forecaster, counts, args.repeats, args.prompt, progress):
                    case = f"{t.forecaster}, K = {t.hypotheses}{', with images' if t.images else ''}"
                    rounds.setdefault(case, []).append(t)
    merged = {case: replace(own[0], seconds=np.concatenate([t.seconds for t in own])) for case, own in rounds.items()}
    rows = {case: [t.percentile(p) for p in (50, 95, 99)] for case, t in merged.items()}
    load = os.getloadavg()[0]
    if args.json:
        keys = ("p50_ms", "p95_ms", "p99_ms")
        timings = {
            case: dict(zip(keys, row)) | {"p95_ms_by_round": [t.percentile(95) for t in rounds[case]]}
            for case, row in rows.items()
        }
        write_json({"threads": torch.get_num_threads(), "load": load, "timings": timings}, args.json)
    if args.json != "-":
        print_table(f"one forecast, ms (load {load:.1f})", ["forecaster", "p50", "p95", "p99"], rows)
