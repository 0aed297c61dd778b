"""`steer grade`: grade the answers of any system by STEER's rules, in parallel on Ray Data.

Rows of (text, gold) in, verdicts out. Invariant: every row of the file has one row of the output, in the file's order.
A row that cannot be graded says why.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs
from ray.data import DataContext, Dataset

from pipelines.report.printed import first_of
from pipelines.run.ingest import TablesSource, in_blocks, quiet_context
from pipelines.run.session import cluster
from steer.benchmarks.records import Record, read_records
from steer.benchmarks.sources import data_files
from steer.config.load import SettingsError, refusals_as_settings_errors
from steer.grading import GRADERS, grade
from steer.statistics.intervals import accuracy_interval
from steer.storage.filesystem import written_whole
from steer.storage.schemas import VERDICT_FIELDS

LABEL_COLUMNS = ("aliases", "letters", "options", "official", "subset", "rule_id")
"""Labels that a grader may need. Each has a column of its name, or all are in one JSON object in column `labels`."""
BLOCK_BYTES = 2**20
"""Size of a block: a few hundred answers. That is enough to pay for a task, and few enough to keep every core busy."""
ERRORS_SHOWN = 10

_READ_SCHEMA = pa.schema([(name, pa.string()) for name in ("place", "id", "text", "gold", "grader", "labels", "error")])
VERDICTS_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("place", "id", "gold", "grader")] + VERDICT_FIELDS + [("error", pa.string())]
)
"""Columns of `--out`. `error` says why a row has no verdict; its `correct` is null."""


@dataclass(frozen=True)
class Fields:
    """Which columns of the rows hold what."""

    text: str = "text"
    gold: str = "gold"
    grader: str | None = None
    """Grader of all rows. None: the column `grader` of each row."""
    official: bool = False
    """Grade choices by the rule of ACPBench's own harness."""


def grade_file(path: Path, fields: Fields, out: Path | None = None, verbose: bool = False) -> str:
    """Grade a file, or every data file of a folder. Returns the table to print, and writes the verdicts to `out`
    (Parquet). Raises SettingsError for a file that cannot be read and for an `out` that exists."""
    if fields.grader is not None and fields.grader not in GRADERS:
        raise SettingsError(f"--grader {fields.grader}: there are {', '.join(GRADERS)}")
    if out is not None and out.exists():
        raise SettingsError(f"--out {out} is there already: name a new file or remove it")
    with refusals_as_settings_errors():
        files = data_files(path.absolute())
        for file in files:
            next(read_records(file), None)
    with cluster(verbose):
        with DataContext.current(_context()):
            return _write(_graded(files, fields), out).table()


def _graded(files: list[Path], fields: Fields) -> Dataset:
    rows = TablesSource([FileBlocks(file, fields) for file in files]).dataset(local=True, num_cpus=1)
    return rows.map_batches(grade_rows, batch_format="pyarrow", batch_size=None)


def grade_rows(rows: pa.Table) -> pa.Table:
    """Rows of `_READ_SCHEMA` to rows of `VERDICTS_SCHEMA`."""
    verdicts = []
    for row in rows.to_pylist():
        kept = {name: row[name] for name in ("place", "id", "gold", "grader", "error")}
        if not row["error"]:
            verdict = grade(row["text"], row["gold"], row["grader"], json.loads(row["labels"]))
            kept |= {name: getattr(verdict, name) for name, _ in VERDICT_FIELDS}
        verdicts.append(kept)
    return pa.Table.from_pylist(verdicts, VERDICTS_SCHEMA)


@dataclass(frozen=True)
class FileBlocks:
    """The read task of one file. Yields blocks of `_READ_SCHEMA`."""

    path: Path
    fields: Fields

    def __call__(self) -> Iterator[pa.Table]:
        return in_blocks(read_records(self.path), self._block, self._refused, _READ_SCHEMA)

    def _block(self, records: list[Record], _first: int) -> pa.Table:
        return pa.Table.from_pylist([self._row(record) for record in records], _READ_SCHEMA)

    def _refused(self, why: str) -> pa.Table:
        return pa.Table.from_pylist([{"place": "", "error": why}], _READ_SCHEMA)

    def _row(self, record: Record) -> dict[str, str]:
        fields, values = self.fields, record.values
        place = f"{self.path} row {record.number}"
        text, gold = values.get(fields.text), values.get(fields.gold)
        grader = fields.grader or values.get("grader")
        labels, error = self._labels(values)
        if record.error:
            error = record.error
        elif not isinstance(text, str):
            error = f"field {fields.text!r} is missing or no text: name the response's field by --text"
        elif gold is None or isinstance(gold, bool) or not isinstance(gold, str | int | float):
            error = f"field {fields.gold!r} is missing or no text: name the gold answer's field by --gold"
        elif grader not in GRADERS:
            error = f"grader {grader!r}: set --grader or a column grader to one of {', '.join(GRADERS)}"
        row = {
            "place": place,
            "id": str(values.get("id", "")),
            "text": text if isinstance(text, str) else "",
            "gold": "" if gold is None else str(gold),
            "grader": str(grader or ""),
            "labels": labels,
            "error": error and f"{place}: {error}",
        }
        return {name: value.encode("utf-8", "replace").decode() for name, value in row.items()}

    def _labels(self, values: dict[str, Any]) -> tuple[str, str]:
        """(labels as a JSON object, error or "")."""
        labels = values.get("labels") or {}
        try:
            labels = json.loads(labels) if isinstance(labels, str) else labels
        except (ValueError, RecursionError):
            return "{}", "field 'labels' is no JSON object"
        if not isinstance(labels, dict):
            return "{}", f"field 'labels' is a {type(labels).__name__}, not an object"
        labels = labels | {name: values[name] for name in LABEL_COLUMNS if values.get(name) is not None}
        labels |= {"official": True} if self.fields.official else {}
        for name in ("aliases", "options"):
            if not isinstance(labels.get(name, []), list) or not all(isinstance(x, str) for x in labels.get(name, [])):
                return "{}", f"label {name!r} is no list of texts"
        if not isinstance(labels.get("letters", ""), str):
            return "{}", "label 'letters' is no text, such as ABCD"
        return json.dumps(labels, default=str), ""


class Tally:
    """Counts of verdicts by grader and rule, and the errors."""

    def __init__(self) -> None:
        self._right: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._rules: Counter[tuple[str, str]] = Counter()
        self._f1: Counter[str] = Counter()
        self._errors: list[str] = []

    def add(self, verdicts: pa.Table) -> None:
        for row in verdicts.to_pylist():
            if not row["place"]:
                raise SettingsError(row["error"])
            if row["error"]:
                self._errors.append(row["error"])
                continue
            self._rows[row["grader"]] += 1
            self._right[row["grader"]] += row["correct"]
            self._rules[row["grader"], row["rule"]] += 1
            self._f1[row["grader"]] += row["f1"] or 0.0

    def table(self) -> str:
        lines = []
        for grader, n in sorted(self._rows.items()):
            low, high = accuracy_interval(self._right[grader], n)
            share = f"{100 * self._right[grader] / n:.1f} % right ({100 * low:.1f} to {100 * high:.1f})"
            f1 = f", F1 {100 * self._f1[grader] / n:.1f}" if grader == "qa" else ""
            lines.append(f"{grader}: {n} answers, {share}{f1}")
            rules = [(rule, count) for (of, rule), count in self._rules.items() if of == grader]
            lines += [f"  {count:7d}  {rule}" for rule, count in sorted(rules, key=lambda item: (-item[1], item[0]))]
        if self._errors:
            lines += [f"not graded: {len(self._errors)}", *first_of(self._errors, ERRORS_SHOWN)]
        return "\n".join(lines) or "no rows"


def _write(graded: Dataset, out: Path | None) -> Tally:
    tally = Tally()
    with ExitStack() as stack:
        writer = None
        if out is not None:
            hidden = stack.enter_context(written_whole(fs.LocalFileSystem(), str(out.absolute())))
            writer = stack.enter_context(pq.ParquetWriter(hidden, VERDICTS_SCHEMA, compression="zstd"))
        for verdicts in graded.iter_batches(batch_format="pyarrow", batch_size=None):
            verdicts = verdicts.select(VERDICTS_SCHEMA.names).cast(VERDICTS_SCHEMA)
            tally.add(verdicts)
            if writer is not None:
                writer.write_table(verdicts)
    return tally


def _context() -> DataContext:
    context = quiet_context()
    context.target_max_block_size = BLOCK_BYTES
    context.execution_options.preserve_order = True
    return context
