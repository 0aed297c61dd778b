"""What the report shows of where a run's time went, for runs whose `run.json` says it."""

from collections.abc import Sequence

import pandas as pd

from pipelines.report import page
from pipelines.report.numbers import Numbers
from pipelines.report.tables import WHERE, Column
from pipelines.report.time_spent import WALL, lines

COLUMNS = (
    WHERE[0],
    Column("of", "of", "text", "the whole: a pool's replicas x wall time, the traces' seconds, or what works beside"),
    Column("part", "part", "text", "what was done"),
    Column("seconds", "seconds", "number", "summed over replicas, traces or tasks"),
    Column("share", "%", "percent", "of the whole; of the wall time for what is beside the engines"),
    Column("meaning", "what it is", "text", "what the seconds hold"),
)


def section(written, numbers: Sequence[Numbers]) -> None:
    """Adds the section and its table to the report, if any of the runs says where its time went."""
    timed = [(n.name, n.described["time"]) for n in numbers if n.described.get("time")]
    if not timed:
        return
    walls = "; ".join(f"{name}: {spent[WALL][WALL]:,.1f} s" for name, spent in timed)
    frame = pd.DataFrame([{"run": name, **line._asdict()} for name, spent in timed for line in lines(spent)])
    said = (
        f"<p>Wall time: <bdi>{page.escaped(walls)}</bdi>. The parts of an engine pool add up to its replicas times the "
        "wall time, those of the traces to the seconds of all traces from being admitted to being retired. What works "
        "beside the engines overlaps with them and with itself.</p>"
    )
    written.section("time", "Where the time goes", [said, written.table("time", "Where the time goes", COLUMNS, frame)])
