"""`egohand view`: a recording as a live web page."""

import argparse

EXAMPLES = """examples:
  egohand view out/demo/bag
  egohand view out/demo/bag --forecaster kalman --port 8090
"""


def add_parser(subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "view",
        help="look at a recording in a browser",
        description="Serve a recording as a web page on this machine: camera, hands, forecasts and robot along a time "
        "line, with the forecasts that were recorded or those of any forecaster on the same inputs. Ctrl-C ends it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bag", help="rosbag2 folder")
    parser.add_argument("--forecaster", metavar="NAME", help="choose this one first; any other can be chosen there")
    parser.add_argument("--hand", default="", metavar="NAME", help="robot hand to show (default: the recording's)")
    parser.add_argument(
        "--port", type=int, default=8080, metavar="PORT", help="port, or the next free one (default: 8080)"
    )
    parser.set_defaults(run=run)


def run(args) -> None:
    """Serve until interrupted."""
    from ..errors import UserError
    from ..forecast.registry import check_forecaster, presets
    from ..viewer.recording_page import RecordingPage
    from ._heartbeat import HEARTBEAT

    if not 1 <= args.port <= 65535:
        raise UserError(f"--port {args.port}: expected 1 to 65535")
    if args.forecaster:
        check_forecaster(args.forecaster)
    others = [name for name in presets() if name != args.forecaster]
    names = [*([args.forecaster] if args.forecaster else []), *others]
    with RecordingPage(args.bag, names, args.port, args.hand) as view:
        if args.forecaster:
            view.choose(args.forecaster)
        print(f"page: {view.url}  (Ctrl-C ends it)", flush=True)
        try:
            with HEARTBEAT.doing(str, live=True):  # it is there to be looked at, for hours maybe
                view.run()
        except KeyboardInterrupt:
            return
