"""Data of one's own: a local file, the names of its fields and a prompt template.

A row that lacks a field becomes an error row that names file, row, field and remedy; what no row could be right about
(a field no row has, two rows of one id) is refused before the run starts. The file is read twice, row by row: once for
the names of its columns and the letters of its choices, and then for its rows.
"""

import json
import string
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from steer.benchmarks.benchmark import SAMPLE_RULE, BenchmarkRow, Key, Reading
from steer.benchmarks.embedded import EMBEDDED
from steer.benchmarks.fields import RowError, checked, lacks, text
from steer.benchmarks.records import Record, read_records
from steer.config.run import BenchmarkConfig
from steer.traces import Question

LEAST_LETTERS = 4
"""A choice has at least the letters A to D; more if a gold answer of the file has."""


def reading(config: BenchmarkConfig) -> Reading:
    """Raises ValueError, with the remedy, for what the configuration or the whole file has wrong."""
    path = Path(str(config.source)).absolute()
    absent = [key for key in ("question", "answer", "grader") if getattr(config, key) is None]
    if absent:
        raise ValueError(
            f"benchmark source: {path} needs {', '.join(absent)}: question and answer name fields of the file, "
            "grader is math, aime, choice, qa, kor or exact"
        )
    columns, letters = _scan(path, config)
    # `chain_math` is the key's default: it never names a file.
    name = path.name.split(".")[0] if config.name in EMBEDDED else config.name
    return Reading(
        name=name,
        split=config.split,
        split_rule="all rows of the file" if config.split == "all" else SAMPLE_RULE,
        grader=str(config.grader),
        tokens=config.tokens or ("math" if config.grader in ("math", "aime") else "all"),
        shards=(OwnShard(path, name, config, columns, letters),),
        limit=config.limit,
        samples=config.samples,
        local=True,
    )


def _scan(path: Path, config: BenchmarkConfig) -> tuple[frozenset[str], str]:
    """The file's columns, and the letters of its choices."""
    columns: set[str] = set()
    last, rows = LEAST_LETTERS, 0
    for record in read_records(path):
        rows += 1
        columns.update(record.values)
        gold = str(record.values.get(config.answer, "")).strip().upper()
        if len(gold) == 1 and gold in string.ascii_uppercase:
            last = max(last, string.ascii_uppercase.index(gold) + 1)
    if not rows:
        raise ValueError(f"{path} has no rows")
    for key in ("question", "answer", "id"):
        name = getattr(config, key)
        if name is not None and name not in columns:
            raise ValueError(
                f"{path} has no field {name!r} (benchmark {key}:) in any row; there are "
                f"{', '.join(sorted(columns)) or 'none'}"
            )
    PromptTemplate(config.prompt, config.question, config.answer, columns)
    return frozenset(columns), string.ascii_uppercase[:last]


class PromptTemplate:
    """The user turn of own data: `{question}` and any other column of the file.

    Python's format syntax without attribute access, conversions and format specs. `{}` stays as it stands, so that
    `\\boxed{}` can be written plainly; `{{` is a literal brace. Raises ValueError if the template cannot be read,
    names no column, or would show the gold answer.
    """

    def __init__(self, template: str, question_field: str, answer_field: str, columns: Collection[str]):
        try:
            self._parts = list(Formatter().parse(template))
        except ValueError as error:
            raise ValueError(f"prompt: {error}: write {{{{ and }}}} for braces that are meant as such") from None
        self._question_field = question_field
        for _, name, spec, conversion in self._parts:
            if not name and not spec and not conversion:
                continue
            if spec or conversion or (name != "question" and name not in columns):
                raise ValueError(
                    f"prompt: {{{name}}} is no column of the file (there are {', '.join(sorted(columns))}): "
                    "name one, or double the braces"
                )
            if self._column(name) == answer_field:
                raise ValueError(f"prompt: {{{name}}} would show the gold answer: remove it, or double the braces")

    def _column(self, name: str) -> str:
        return self._question_field if name == "question" else name

    @property
    def columns(self) -> list[str]:
        """The columns that every row needs for its prompt."""
        return [self._column(name) for _, name, _, _ in self._parts if name]

    def render(self, record: dict[str, Any]) -> str:
        return "".join(literal + self._filled(name, record) for literal, name, _, _ in self._parts)

    def _filled(self, name: str | None, record: dict[str, Any]) -> str:
        if not name:
            return "" if name is None else "{}"
        value = record[self._column(name)]
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


@dataclass(frozen=True)
class OwnShard:
    """The whole file."""

    path: Path
    name: str
    config: BenchmarkConfig
    columns: frozenset[str]
    letters: str
    split: str = ""

    def rows(self) -> Iterator[tuple[Key, BenchmarkRow]]:
        template = PromptTemplate(self.config.prompt, self.config.question, self.config.answer, self.columns)
        for record in read_records(self.path):
            place = f"{self.path} row {record.number}"
            texts: dict[str, str] = {}
            error, prompt = "", ""
            try:
                prompt = self._prompt(record, template, texts)
            except RowError as wrong:
                error = f"{place} {wrong}" if record.error else f"{place}: {wrong}"
            question = Question(
                id=texts.get("id") or str(record.number),
                sample=0,
                benchmark=self.name,
                prompt=prompt,
                gold=texts.get("answer", ""),
                grader=str(self.config.grader),
                labels=json.dumps(self._labels()),
            )
            yield Key(question.id, place, self.split, question.id), BenchmarkRow(question, error)

    def _prompt(self, record: Record, template: PromptTemplate, texts: dict[str, str]) -> str:
        """Fills in `texts` (id, question, answer) as far as they can be read."""
        if record.error:
            raise RowError(f"{record.error}: mend or remove the row")
        for key in ("id", "question", "answer"):
            if (name := getattr(self.config, key)) is not None:
                texts[key] = text(record.values, name)
        for name in template.columns:
            if record.values.get(name) is None:
                raise lacks(name)
        if self.config.grader == "choice":
            texts["answer"] = texts["answer"].upper()
            if texts["answer"] not in set(self.letters):
                raise RowError(
                    f"field {self.config.answer!r} is not a letter: grader choice needs the letter of the right option"
                )
        values: dict[str, Any] = {**record.values, str(self.config.question): texts["question"]}
        return checked(template.render(values), "of its prompt")

    def _labels(self) -> dict[str, Any]:
        if self.config.grader != "choice":
            return {}
        return {"letters": self.letters, **({"official": True} if self.config.choice_official else {})}
