"""`egohand forecasters`: what there is to forecast with."""


def add_parser(subparsers) -> None:
    """Add the command."""
    from .main import HelpFormatter

    parser = subparsers.add_parser(
        "forecasters",
        help="list the forecasters",
        description="List the forecaster presets: what they need and what they give.",
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(run=run)


def run(args) -> None:
    """Print one row a preset."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from ..errors import UserError
    from ..forecast.registry import presets

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("sees", max_width=12)
    table.add_column("gives", no_wrap=True)
    table.add_column("K", no_wrap=True)
    table.add_column("what it is")
    for name, preset in presets().items():
        try:
            spec = preset.factory().spec
        except UserError as error:
            table.add_row(name, "-", "-", "-", f"{preset.summary} (not usable here: {str(error).partition(';')[0]})")
            continue
        table.add_row(
            name,
            f"{', '.join(spec.modalities)} of {spec.window_length * spec.step:g} s",
            f"{spec.horizon_steps} x {spec.step:.3g} s",
            str(spec.max_hypotheses),
            preset.summary,
        )
    Console().print(table)
