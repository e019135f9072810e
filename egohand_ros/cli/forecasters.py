"""`egohand forecasters`: what there is to forecast with."""


def add_parser(subparsers) -> None:
    """Add the command."""
    from ._options import add_json
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "forecasters",
        help="list the forecasters",
        description="List the forecaster presets: what they need and what they give.",
        formatter_class=HelpFormatter,
    )
    add_json(parser, "write the list")
    parser.set_defaults(run=run)


def run(args) -> None:
    """Print one row a preset, or write all of it as JSON."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from ..forecast.registry import presets
    from ._tables import WIDE, check_json, write_json

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("sees", max_width=32)
    table.add_column("of the last", no_wrap=True)
    table.add_column("gives", no_wrap=True)
    table.add_column("futures", no_wrap=True)
    table.add_column("weights", no_wrap=True)
    table.add_column("what it is")
    check_json(args.json)
    rows: dict[str, dict] = {}
    for name, preset in presets().items():
        spec = preset.spec()
        weights = "shipped" if preset.weights is not None else "none" if preset.system is None else "yours"
        rows[name] = {
            "description": preset.summary,
            "weights": weights,
            "sees": list(spec.modalities),
            "needs": [need.reason for need in spec.needs],
            "gives": list(spec.gives),
            "window_s": spec.window_length * spec.step,
            "step_s": spec.step,
            "horizon_steps": spec.horizon_steps,
            "max_hypotheses": spec.max_hypotheses,
        }
        table.add_row(
            name,
            ", ".join(spec.modalities),
            f"{spec.window_length * spec.step:.2g} s",
            f"{spec.horizon_steps} x {spec.step:.3g} s",
            str(spec.max_hypotheses),
            weights,
            preset.summary,
        )
    if args.json:
        return write_json(rows, args.json)
    console = Console()
    (console if console.is_terminal else Console(width=WIDE)).print(table)
