"""`steer grade`: grade the answers of any system by STEER's rules, in parallel on Ray Data.

Rows of (text, gold) in, verdicts out. Invariant: every row of the file has one row of the output, in the file's order.
A row that cannot be graded says why.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
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
from pipelines.run.refused import Refusal, commonest
from pipelines.run.session import cluster
from steer.benchmarks.fields import (
    Gold,
    RowError,
    described,
    gold,
    is_missing,
    is_scalar,
    listed,
    require_readable,
    text,
)
from steer.benchmarks.files import DataFile, data_files
from steer.benchmarks.records import Record, read_records
from steer.config.load import SettingsError, refusals_as_settings_errors
from steer.grading import GRADERS, grade
from steer.grading.golds import plain
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
    answers: str | None = None
    """What a list of several golds is: see `steer.benchmarks.fields.gold`."""


def grade_file(
    source: str | Path | Sequence[str | Path], fields: Fields, out: Path | None = None, verbose: bool = False
) -> str:
    """Grade a file, every data file of a folder, a glob or a URL, or those of several such sources. Returns the table
    to print, and writes the verdicts to `out` (Parquet). Raises SettingsError for a file that cannot be read, if no row
    can be graded, and for an `out` that exists."""
    if fields.grader is not None and fields.grader not in GRADERS:
        raise SettingsError(f"--grader {fields.grader}: there are {', '.join(GRADERS)}")
    if out is not None and out.exists():
        raise SettingsError(f"--out {out} is there already: name a new file or remove it")
    with refusals_as_settings_errors():
        files = data_files(source)
        for file in files:
            next(read_records(file), None)
    with cluster(verbose):
        with DataContext.current(_context()):
            return _write(_graded(files, fields), out).table()


def _graded(files: list[DataFile], fields: Fields) -> Dataset:
    local = any(file.is_local for file in files)
    rows = TablesSource([FileBlocks(file, fields) for file in files]).dataset(local, num_cpus=1)
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

    file: DataFile
    fields: Fields

    def __call__(self) -> Iterator[pa.Table]:
        return in_blocks(read_records(self.file), self._block, self._refused, _READ_SCHEMA)

    def _block(self, records: list[Record], _first: int) -> pa.Table:
        return pa.Table.from_pylist([self._row(record) for record in records], _READ_SCHEMA)

    def _refused(self, why: str) -> pa.Table:
        return pa.Table.from_pylist([{"place": "", "error": why}], _READ_SCHEMA)

    def _row(self, record: Record) -> dict[str, str]:
        values = record.values
        place = f"{self.file} row {record.number}"
        id, grader = values.get("id"), self.fields.grader or values.get("grader")
        row = {
            "place": place,
            "id": plain(id) if is_scalar(id) and not is_missing(id) else "",
            "text": "",
            "gold": "",
            "grader": str(grader or ""),
            "labels": "{}",
            "error": "",
        }
        try:
            self._read(record, grader, row)
        except RowError as wrong:
            row["error"] = f"{place} {wrong}" if record.error else f"{place}: {wrong}"
        return {name: value.encode("utf-8", "replace").decode() for name, value in row.items()}

    def _read(self, record: Record, grader: Any, row: dict[str, str]) -> None:
        """Fill `row` as far as the record can be read. Raises RowError for the first field that cannot."""
        fields, values = self.fields, record.values
        if record.error:
            raise RowError(record.error)
        row["text"] = self._response(values)
        labels = self._labels(values)
        if grader not in GRADERS:
            raise RowError(f"grader {grader!r}: set --grader or a column grader to one of {', '.join(GRADERS)}")
        value = values.get(fields.gold)
        if is_missing(value):
            raise RowError(f"field {fields.gold!r} is missing or empty: name the gold answer's field by --gold")
        read = gold(values, fields.gold, grader, fields.answers)
        row["gold"] = read.text
        aliases = (*read.aliases, *labels.get("aliases", ()))
        labels |= {"aliases": [*aliases]} if aliases else {}
        require_readable(Gold(read.text, aliases), fields.gold, grader, labels)
        row["labels"] = json.dumps(labels, default=str)

    def _response(self, values: dict[str, Any]) -> str:
        """The response; empty if the system answered nothing: an empty text, null or NaN."""
        name = self.fields.text
        value = values.get(name)
        if isinstance(value, str):
            return value
        if name in values and is_missing(value):
            return ""
        if not is_scalar(value):
            raise RowError(f"field {name!r} is {described(value)}, not text: name the response's field by --text")
        return text(values, name)

    def _labels(self, values: dict[str, Any]) -> dict[str, Any]:
        labels = values.get("labels") or {}
        try:
            labels = json.loads(labels) if isinstance(labels, str) else labels
        except (ValueError, RecursionError):
            raise RowError("field 'labels' is no JSON object") from None
        if not isinstance(labels, dict):
            raise RowError(f"field 'labels' is {described(labels)}, not an object")
        # A struct of Parquet holds each of its members in every row.
        labels = {name: value for name, value in labels.items() if not is_missing(value)}
        labels |= {name: values[name] for name in LABEL_COLUMNS if not is_missing(values.get(name))}
        labels |= {"official": True} if self.fields.official else {}
        for name in ("aliases", "options"):
            if name in labels:
                labels[name] = listed(labels[name])
            if not isinstance(labels.get(name, []), list) or not all(isinstance(x, str) for x in labels.get(name, [])):
                raise RowError(f"label {name!r} is {described(labels[name])}, not a list of texts")
        if not isinstance(labels.get("letters", ""), str):
            raise RowError("label 'letters' is no text, such as ABCD")
        return labels


class Tally:
    """Counts of verdicts by grader and rule, and the errors."""

    def __init__(self) -> None:
        self._right: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._rules: Counter[tuple[str, str]] = Counter()
        self._f1: Counter[str] = Counter()
        self._errors: list[Refusal] = []

    def add(self, verdicts: pa.Table) -> None:
        for row in verdicts.to_pylist():
            if not row["place"]:
                raise SettingsError(row["error"])
            if row["error"]:
                self._errors.append(Refusal(row["place"], row["error"]))
                continue
            self._rows[row["grader"]] += 1
            self._right[row["grader"]] += row["correct"]
            self._rules[row["grader"], row["rule"]] += 1
            self._f1[row["grader"]] += row["f1"] or 0.0

    def require_any(self) -> None:
        """Raise SettingsError if there are rows and none could be graded."""
        if self._errors and not self._rows:
            raise SettingsError(
                f"none of the {len(self._errors)} rows can be graded. The commonest reason: {commonest(self._errors)}"
            )

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
            lines += [f"not graded: {len(self._errors)}", *first_of([e.error for e in self._errors], ERRORS_SHOWN)]
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
        tally.require_any()
    return tally


def _context() -> DataContext:
    context = quiet_context()
    context.target_max_block_size = BLOCK_BYTES
    context.execution_options.preserve_order = True
    return context
