"""Going on with a run that was cut off: is it the same run, and what of it is left.

A run goes on from its folder alone: the questions as they were admitted, the rows that are committed, and the journal
of those that are not. What it ran on may be another machine, with other pools.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.run.run_lock import take_over_lock
from steer.config.load import SettingsError
from steer.storage.run_folder import RunFolder

FREE = ("pools", "journal")
"""Keys that may differ when a run goes on..."""
FIXED = ("pools.measures",)
"""...and those below them that may not."""


def held_run(out: str | Path, kind: str) -> RunFolder | None:
    """The run in a folder; None if it holds none. Raises SettingsError if it is of another kind."""
    try:
        run = RunFolder.open(out)
    except FileNotFoundError:
        return None
    held = run.describe()["kind"]
    if held != kind:
        raise SettingsError(f"{out} holds a {held}, not a {kind}: go on by `steer {held}`, or give another folder")
    return run


def go_on(run: RunFolder, wanted: dict[str, Any], out: str | Path) -> None:
    """Ready a run to be gone on with, by this process alone. Raises SettingsError, naming the key, if `wanted` is
    another configuration."""
    changes = [
        (key, was, now)
        for key, was, now in changed(run.describe()["config"], json.loads(json.dumps(wanted)))
        if not key.startswith(tuple(f"{free}." for free in FREE)) and key not in FREE or key.startswith(FIXED)
    ]
    if changes:
        key, was, now = changes[0]
        raise SettingsError(
            f"{out} was begun with {key} = {was!r}, not {now!r}: give the same configuration, or another folder"
        )
    take_over_lock(run)
    run.clean()


def changed(was: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, value then, value now) of every difference between two configurations as JSON values."""
    if isinstance(was, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*was, *now]):
            yield from changed(was.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif was != now:
        yield key, was, now
