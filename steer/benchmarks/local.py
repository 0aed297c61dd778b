"""Own data: files, the names of their fields and a prompt template.

A row that lacks a field becomes an error row, which names the file, the row, the field and the remedy. An error of all
rows (a field that none has, two rows with one id) is refused before the run starts. The files are read twice, row by
row: first for the names of their columns and the letters of their choices, then for their rows.
"""

import json
import string
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from string import Formatter
from typing import Any, Literal
from urllib.parse import urlsplit

from steer.benchmarks.benchmark import SAMPLE_RULE, BenchmarkRow, Key, Reading, unread_id
from steer.benchmarks.embedded import EMBEDDED
from steer.benchmarks.fields import (
    RowError,
    checked,
    gold,
    identity,
    is_missing,
    is_scalar,
    lacks,
    require_readable,
    text,
)
from steer.benchmarks.files import DataFile, data_files, several, shown
from steer.benchmarks.records import Record, read_records
from steer.config.run import BenchmarkConfig
from steer.grading.golds import plain
from steer.traces import Question

LEAST_LETTERS = 4
"""A choice has at least the letters A to D, and more if a gold answer of the files is a later letter."""


def token_rule(grader: str) -> Literal["math", "all"]:
    """Which tokens the score of a step averages over, unless the configuration says so."""
    return "math" if grader in ("math", "aime") else "all"


def reading(config: BenchmarkConfig) -> Reading:
    """How the files are read. Raises ValueError, with the remedy, for an error of the configuration or of all rows."""
    sources = several(config.source or ())
    question, answer, grader = config.question, config.answer, config.grader
    if question is None or answer is None or grader is None:
        absent = [key for key in ("question", "answer", "grader") if getattr(config, key) is None]
        raise ValueError(
            f"benchmark source: {shown(sources)} needs {', '.join(absent)}: question and answer name fields of the "
            "file, grader is math, aime, choice, qa, kor or exact"
        )
    files = data_files(sources)
    columns, letters = _scan(files, config, question, answer, grader)
    # `chain_math` is the default of key `name`, so an embedded benchmark's name never names own data.
    name = _name(sources[0]) if config.name in EMBEDDED else config.name
    alone = len(files) == 1
    return Reading(
        name=name,
        split=config.split,
        split_rule=f"all rows of the {'file' if alone else 'files'}" if config.split == "all" else SAMPLE_RULE,
        grader=grader,
        tokens=config.tokens or token_rule(grader),
        shards=tuple(OwnShard(file, alone, name, config, question, answer, grader, columns, letters) for file in files),
        limit=config.limit,
        samples=config.samples,
        local=any(file.is_local for file in files),
    )


def _name(source: str) -> str:
    """The benchmark's name by that of its file or folder."""
    path = PurePosixPath(urlsplit(source).path if "://" in source else source)
    named = [part for part in reversed(path.parts) if not set("*?[/") & set(part)]
    return (named[0].split(".")[0] if named else "") or "own"


def _scan(
    files: Sequence[DataFile], config: BenchmarkConfig, question: str, answer: str, grader: str
) -> tuple[frozenset[str], str]:
    """The files' columns, and the letters of their choices."""
    columns: dict[str, None] = {}
    last, rows, broken = LEAST_LETTERS, 0, ""
    for file in files:
        for record in read_records(file):
            rows += 1
            columns.update(dict.fromkeys(record.values))
            broken = broken or (record.error and f"{file} row {record.number} {record.error}")
            for letter in _letters(record, answer) if grader == "choice" else ():
                last = max(last, string.ascii_uppercase.index(letter) + 1)
    where = shown(files)
    if not rows:
        raise ValueError(f"{where} has no rows")
    if not columns:
        raise ValueError(f"none of the {rows} rows of {where} can be read; the first: {broken}: mend the file")
    for key in ("question", "answer", "id"):
        name = getattr(config, key)
        if name is not None and name not in columns:
            there = ", ".join(sorted(columns))
            raise ValueError(f"{where} has no field {name!r} (benchmark {key}:) in any row; there are {there}")
    PromptTemplate(config.prompt, question, answer, columns)
    return frozenset(columns), string.ascii_uppercase[:last]


def _letters(record: Record, answer: str) -> list[str]:
    """The capital letters among the gold answers of a row."""
    try:
        read = gold(record.values, answer, "choice")
    except RowError:
        return []
    return [letter for letter in (read.text, *read.aliases) if len(letter) == 1 and letter in string.ascii_uppercase]


class PromptTemplate:
    """The template of the user turn of own data. It may name `{question}` and any other column of the file.

    The syntax is Python's format syntax without attribute access, conversions and format specs. `{}` stays as it is, so
    that `\\boxed{}` needs no escape; `{{` is a literal brace. Raises ValueError if the template cannot be parsed, names
    an unknown column or none at all, or would show the gold answer.
    """

    def __init__(self, template: str, question_field: str, answer_field: str, columns: Collection[str]) -> None:
        try:
            self._parts = list(Formatter().parse(template))
        except ValueError as error:
            raise ValueError(f"prompt: {error}: write {{{{ and }}}} for braces that are meant as such") from None
        self._question_field = question_field
        for _, name, spec, conversion in self._parts:
            if spec or conversion or (name and name != "question" and name not in columns):
                raise ValueError(
                    f"prompt: {{{name}}} is no column of the file (there are {', '.join(sorted(columns))}): "
                    "name one, or double the braces"
                )
            if name and self._column(name) == answer_field:
                raise ValueError(f"prompt: {{{name}}} would show the gold answer: remove it, or double the braces")
        if not self.columns:
            raise ValueError(
                "prompt: it names no column, so all questions would be one: write {question} where it goes"
            )

    def _column(self, name: str) -> str:
        return self._question_field if name == "question" else name

    @property
    def columns(self) -> list[str]:
        """The columns that the prompt needs in every row."""
        return [self._column(name) for _, name, _, _ in self._parts if name]

    def render(self, record: dict[str, Any]) -> str:
        return "".join(literal + self._filled(name, record) for literal, name, _, _ in self._parts)

    def _filled(self, name: str | None, record: dict[str, Any]) -> str:
        if not name:
            return "" if name is None else "{}"
        value = record[self._column(name)]
        if is_scalar(value):
            return value if isinstance(value, str) else plain(value)
        return json.dumps(value, ensure_ascii=False, default=str)


@dataclass(frozen=True)
class OwnShard:
    """One file, as one shard."""

    file: DataFile
    alone: bool
    """Whether it is the benchmark's only file. If so, rows without an id field are numbered."""
    name: str
    config: BenchmarkConfig
    question: str
    """Field that holds the question text."""
    answer: str
    """Field that holds the gold answer."""
    grader: str
    columns: frozenset[str]
    letters: str
    split: str = ""

    def rows(self) -> Iterator[tuple[Key, BenchmarkRow]]:
        template = PromptTemplate(self.config.prompt, self.question, self.answer, self.columns)
        for record in read_records(self.file):
            place = f"{self.file} row {record.number}"
            row = _Row(labels=self._labels())
            error = ""
            try:
                self._read(record, template, row)
            except RowError as wrong:
                error = f"{place} {wrong}" if record.error else f"{place}: {wrong}"
            question = Question(
                id=row.id or self._numbered(record.number),
                sample=0,
                benchmark=self.name,
                prompt=row.prompt,
                gold=row.gold,
                grader=self.grader,
                labels=json.dumps(row.labels, ensure_ascii=False) if row.labels else "{}",
            )
            yield Key(question.id, place, self.split, question.id), BenchmarkRow(question, error)

    def _numbered(self, number: int) -> str:
        """The id of a row whose own is not asked for, or cannot be read."""
        if self.config.id is not None:
            return unread_id(f"{self.file.label} row {number}")
        return str(number) if self.alone else f"{self.file.label}:{number}"

    def _read(self, record: Record, template: PromptTemplate, row: "_Row") -> None:
        """Fill `row` as far as its fields can be read. Raises RowError for the first that cannot."""
        if record.error:
            raise RowError(f"{record.error}: mend or remove the row")
        if self.config.id is not None:
            row.id = identity(record.values, self.config.id)
        try:
            question = text(record.values, self.question)
        except RowError as wrong:
            # The answer may be no better: the message says of both what they hold.
            raise RowError("; ".join([str(wrong), *self._answer_problem(record, row)])) from None
        self._read_gold(record, row)
        for name in template.columns:
            value = record.values.get(name)
            # A column of the prompt may be empty, a context for example, but not missing.
            if is_missing(value) and not isinstance(value, str):
                raise lacks(name)
        values: dict[str, Any] = {**record.values, self.question: question}
        row.prompt = checked(template.render(values), "of its prompt")

    def _read_gold(self, record: Record, row: "_Row") -> None:
        read = gold(record.values, self.answer, self.grader, self.config.answers)
        row.gold = read.text
        if read.aliases:
            row.labels["aliases"] = [*read.aliases]
        require_readable(read, self.answer, self.grader, row.labels)

    def _answer_problem(self, record: Record, row: "_Row") -> list[str]:
        try:
            self._read_gold(record, row)
        except RowError as wrong:
            return [str(wrong)]
        return []

    def _labels(self) -> dict[str, Any]:
        if self.grader != "choice":
            return {}
        return {"letters": self.letters, **({"official": True} if self.config.choice_official else {})}


@dataclass
class _Row:
    """What could be read of one row."""

    labels: dict[str, Any]
    id: str = ""
    gold: str = ""
    prompt: str = ""
