"""Data of one's own: a local file, the names of its fields and a prompt template.

A row that lacks a field becomes an error row that names file, row, field and remedy; what no row could be right about
(a field no row has, two rows of one id) is refused before the run starts.
"""

import json
import string
from pathlib import Path
from typing import Any

from steer.benchmarks.benchmark import Benchmark, Row, validation_ids
from steer.benchmarks.embedded import EMBEDDED
from steer.benchmarks.records import Record, read_records
from steer.benchmarks.template import PromptTemplate
from steer.config import BenchmarkConfig
from steer.traces import Question

LEAST_LETTERS = 4
"""A choice has at least the letters A to D; more if a gold answer of the file has."""


def load(config: BenchmarkConfig) -> Benchmark:
    """Raises ValueError, with the remedy, for what the configuration or the whole file has wrong."""
    path = Path(config.source)
    absent = [key for key in ("question", "answer", "grader") if getattr(config, key) is None]
    if absent:
        raise ValueError(
            f"benchmark source: {path} needs {', '.join(absent)}: question and answer name fields of the file, "
            "grader is math, choice, qa or exact"
        )
    records = read_records(path)
    if not records:
        raise ValueError(f"{path} has no rows")
    reader = _RowReader(config, path, records)
    rows = [reader.row(record) for record in records]
    _refuse_duplicates(path, records, rows)
    return Benchmark(
        name=reader.name,
        split=config.split,
        split_rule="all rows of the file"
        if config.split == "all"
        else "the fifth of the ids with the smallest hashes is validation, the rest is test",
        grader=str(config.grader),
        tokens=config.tokens or ("math" if config.grader == "math" else "all"),
        rows=_of_split(config.split, rows, path),
    )


class _RowReader:
    def __init__(self, config: BenchmarkConfig, path: Path, records: list[Record]):
        self._config, self._path = config, path
        columns = {name for record in records for name in record.values}
        for key in ("question", "answer", "id"):
            name = getattr(config, key)
            if name is not None and name not in columns:
                raise ValueError(
                    f"{path} has no field {name!r} (benchmark {key}:) in any row; there are "
                    f"{', '.join(sorted(columns)) or 'none'}"
                )
        self._template = PromptTemplate(config.prompt, config.question, config.answer, columns)
        self._letters = self._choice_letters(records)
        # `chain_math` is the key's default: it never names a file.
        self.name = path.name.split(".")[0] if config.name in EMBEDDED else config.name

    def _choice_letters(self, records: list[Record]) -> str:
        golds = {str(record.values.get(self._config.answer, "")).strip().upper() for record in records}
        letters = [string.ascii_uppercase.index(gold) + 1 for gold in golds if gold in set(string.ascii_uppercase)]
        return string.ascii_uppercase[: max([LEAST_LETTERS, *letters])]

    def row(self, record: Record) -> Row:
        config = self._config
        error = record.error and f"{self._path} row {record.number} {record.error}: mend or remove the row"
        texts = {}
        for key in ("id", "question", "answer"):
            name = getattr(config, key)
            if not error and name is not None:
                texts[key], error = self._text(record, name)
        for name in self._template.columns:
            if not error and record.values.get(name) is None:
                error = self._lacks(record, name)
        gold = texts.get("answer", "")
        if not error and config.grader == "choice":
            gold = gold.upper()
            if gold not in set(self._letters):
                error = (
                    f"{self._path} row {record.number}: field {config.answer!r} is not a letter: grader choice needs "
                    "the letter of the right option"
                )
        prompt = "" if error else self._template.render({**record.values, config.question: texts["question"]})
        if not _is_unicode(prompt):
            prompt, error = "", self._surrogate(record, "of its prompt")
        question = Question(
            id=texts.get("id") or str(record.number),
            sample=0,
            benchmark=self.name,
            prompt=prompt,
            gold=gold,
            grader=str(config.grader),
            labels=json.dumps({"letters": self._letters} if config.grader == "choice" else {}),
        )
        return Row(question, error)

    def _text(self, record: Record, name: str) -> tuple[str, str]:
        """The field as text, and why it has none."""
        value: Any = record.values.get(name)
        if isinstance(value, str | int | float) and str(value).strip():
            if not _is_unicode(str(value)):
                return "", self._surrogate(record, repr(name))
            return str(value).strip(), ""
        if value is None or isinstance(value, str):
            return "", self._lacks(record, name)
        return "", f"{self._path} row {record.number}: field {name!r} is a {type(value).__name__}, not text"

    def _lacks(self, record: Record, name: str) -> str:
        return f"{self._path} row {record.number}: field {name!r} is missing or empty: fill it in or remove the row"

    def _surrogate(self, record: Record, what: str) -> str:
        return f"{self._path} row {record.number}: field {what} holds a lone surrogate: remove that character"


def _is_unicode(text: str) -> bool:
    """JSON can spell half of a surrogate pair (`\\ud800`), which no UTF-8 table can hold."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _refuse_duplicates(path: Path, records: list[Record], rows: list[Row]) -> None:
    first: dict[str, int] = {}
    for record, row in zip(records, rows, strict=True):
        earlier = first.setdefault(row.question.id, record.number)
        if earlier != record.number:
            raise ValueError(
                f"{path} rows {earlier} and {record.number} have one id, {row.question.id!r}: make ids distinct, or "
                "leave out benchmark id: to number the rows"
            )


def _of_split(split: str, rows: list[Row], path: Path) -> tuple[Row, ...]:
    if split == "all":
        return tuple(rows)
    validation = validation_ids([row.question.id for row in rows])
    chosen = tuple(row for row in rows if (row.question.id in validation) == (split == "validation"))
    if not chosen:
        raise ValueError(f"{path} has {len(rows)} row, none of them in split {split}: use split: all")
    return chosen
