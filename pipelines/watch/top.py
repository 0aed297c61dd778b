"""`steer top RUN`: a run's counts live in a terminal, from any shell that sees the run's folder.

It starts no Ray and asks no actor: all it reads is the folder, so it does not disturb the run and works after it.
"""

import argparse
import time
from typing import Any

LOCAL_S = 1.0
"""Seconds between two frames."""
ELSEWHERE_S = 5.0
"""The same where the folder is not on this machine: an object store charges for each look."""


def add_command(commands: Any) -> None:
    top = commands.add_parser("top", help="watch a run live in a terminal, from another shell")
    top.add_argument("run", metavar="RUN", help="folder or URL of a run or a sweep")
    top.add_argument("--once", action="store_true", help="print one frame as plain text and end")
    top.set_defaults(command=show)


def show(args: argparse.Namespace) -> None:
    """Show frames until the run is finished or stopped, or until Ctrl-C. Raises SettingsError if there is no run."""
    from steer.config.load import refusals_as_settings_errors
    from steer.storage.run_folder import RunFolder

    with refusals_as_settings_errors():
        run = RunFolder.open(args.run)
    if args.once:
        print(_look(run, args.run).text)
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False, transient=True) as shown:
        try:
            while not (now := _look(run, args.run)).over:
                shown.update(Text(now.text, no_wrap=True, overflow="ellipsis"), refresh=True)
                time.sleep(LOCAL_S if run.is_local else ELSEWHERE_S)
        except KeyboardInterrupt:  # the way to leave it
            now = _look(run, args.run)
    console.print(Text(now.text, no_wrap=True, overflow="ellipsis"))


def _look(run: Any, root: str) -> Any:
    """The frame of this moment, with the run's tables once it is finished."""
    from pipelines.report.printed import tables
    from pipelines.report.summary import read_json
    from pipelines.watch.frame import frame
    from pipelines.watch.live_file import read_live

    described = run.describe()
    now = frame(root, described, read_live(run), run.read_file("driver.json") is not None)
    rows = read_json(run) if described["finished"] else None
    return now if rows is None else now._replace(text=f"{now.text}\n\n{tables(rows)}")
