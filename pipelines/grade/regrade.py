"""`steer regrade`: renew a finished run's verdicts by today's rules, without generating anything.

Every part of `traces/` is replaced by one with the same rows and new verdicts. Nothing else of a row changes.
Invariant: a part is replaced in one rename. A regrade that was cut short leaves whole parts, and the next regrade
finishes it.
"""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow.compute as pc
import ray
from ray.data import DataContext

from pipelines.report.printed import tables
from pipelines.report.summary import Summary, read_json, summarise, write_json
from pipelines.run.ingest import quiet_context
from pipelines.run.run import run_entry
from pipelines.run.session import cluster
from pipelines.run.stages import with_verdicts
from pipelines.sweep.sweep import entries
from steer.config.load import refusals_as_settings_errors
from steer.config.run import RunConfig
from steer.config.sweep import SweepConfig
from steer.storage.provenance import git_commit
from steer.storage.run_folder import RunFolder


def regrade(root: str | Path, verbose: bool = False) -> str:
    """Renew the verdicts and `summary.json` of a run or a sweep. Returns the text to print. The thresholds that a sweep
    chose stay as they are. Raises SettingsError for a folder that holds no run."""
    with refusals_as_settings_errors():
        run = RunFolder.open(root)
    with cluster(verbose), DataContext.current(quiet_context()):
        parts = ray.data.from_items([{"part": part} for part in run.parts("traces")])
        counts = parts.map(_regrade_part, fn_args=(run,)).to_pandas().drop(columns="part").sum()
    described = run.describe()
    record = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        **{name: int(count) for name, count in counts.items()},
    }
    run.update(regraded=[*described.get("regraded", []), record])
    text = (
        f"{record['traces']} verdicts renewed: {record['now_right']} turned right, {record['now_wrong']} turned wrong, "
        f"{record['other_answer']} read another answer"
    )
    before = read_json(run)
    if before is None:
        return f"{text}\nthe run has no summary.json: it did not finish"
    rows = _summary(run, described, before)
    write_json(run, rows)
    return f"{text}\n\n{tables(rows)}"


def _regrade_part(row: dict, run: RunFolder) -> dict:
    before = run.read_part(row["part"])
    after = with_verdicts(before)
    run.replace_traces(row["part"], after)
    was, now = before["correct"].to_pylist(), after["correct"].to_pylist()
    return {
        **row,
        "traces": len(now),
        "now_right": sum(n and not w for w, n in zip(was, now, strict=True)),
        "now_wrong": sum(w and not n for w, n in zip(was, now, strict=True)),
        "other_answer": pc.sum(pc.not_equal(before["extracted"], after["extracted"])).as_py() or 0,
    }


def _summary(run: RunFolder, described: dict, before: list[Summary]) -> list[Summary]:
    """The rows of `before`, with new accuracies."""
    rows = []
    for split in dict.fromkeys(row.split for row in before):
        if described["kind"] == "run":
            mine = [run_entry(RunConfig.model_validate(described["config"]), before[0].benchmark, split)]
        else:
            choice = {(benchmark, label): setting for benchmark, label, setting in described.get("chosen", [])}
            config = SweepConfig.model_validate(described["config"])
            mine = [entry for entry, *_ in entries(config, split, None if split == "validation" else choice)]
        rows += summarise(run, mine)
    return rows
