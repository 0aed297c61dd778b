"""Own data: a local file, the names of its fields and a prompt template.

A row that lacks a field becomes an error row, which names the file, the row, the field and the remedy. An error of the
whole file (a field that no row has, two rows with one id) is refused before the run starts. The file is read twice, row
by row: first for the names of its columns and the letters of its choices, then for its rows.
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
"""A choice has at least the letters A to D, and more if a gold answer of the file is a later letter."""


def reading(config: BenchmarkConfig) -> Reading:
    """How the file is read. Raises ValueError, with the remedy, for an error of the configuration or the whole file."""
    path = Path(str(config.source)).absolute()
    question, answer, grader = config.question, config.answer, config.grader
    if question is None or answer is None or grader is None:
        absent = [key for key in ("question", "answer", "grader") if getattr(config, key) is None]
        raise ValueError(
            f"benchmark source: {path} needs {', '.join(absent)}: question and answer name fields of the file, "
            "grader is math, aime, choice, qa, kor or exact"
        )
    columns, letters = _scan(path, config, question, answer)
    # `chain_math` is the default of key `name`, so an embedded benchmark's name never names own data.
    name = path.name.split(".")[0] if config.name in EMBEDDED else config.name
    return Reading(
        name=name,
        split=config.split,
        split_rule="all rows of the file" if config.split == "all" else SAMPLE_RULE,
        grader=grader,
        tokens=config.tokens or ("math" if grader in ("math", "aime") else "all"),
        shards=(OwnShard(path, name, config, question, answer, columns, letters),),
        limit=config.limit,
        samples=config.samples,
        local=True,
    )


def _scan(path: Path, config: BenchmarkConfig, question: str, answer: str) -> tuple[frozenset[str], str]:
    """The file's columns, and the letters of its choices."""
    columns: set[str] = set()
    last, rows = LEAST_LETTERS, 0
    for record in read_records(path):
        rows += 1
        columns.update(record.values)
        gold = str(record.values.get(answer, "")).strip().upper()
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
    PromptTemplate(config.prompt, question, answer, columns)
    return frozenset(columns), string.ascii_uppercase[:last]


class PromptTemplate:
    """The template of the user turn of own data. It may name `{question}` and any other column of the file.

    The syntax is Python's format syntax without attribute access, conversions and format specs. `{}` stays as it is, so
    that `\\boxed{}` needs no escape; `{{` is a literal brace. Raises ValueError if the template cannot be parsed, names
    an unknown column, or would show the gold answer.
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
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


@dataclass(frozen=True)
class OwnShard:
    """The whole file, as one shard."""

    path: Path
    name: str
    config: BenchmarkConfig
    question: str
    """Field that holds the question text."""
    answer: str
    """Field that holds the gold answer."""
    columns: frozenset[str]
    letters: str
    split: str = ""

    def rows(self) -> Iterator[tuple[Key, BenchmarkRow]]:
        template = PromptTemplate(self.config.prompt, self.question, self.answer, self.columns)
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
        """The prompt of one row. It also fills `texts` (id, question, answer) as far as they can be read."""
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
                    f"field {self.answer!r} is not a letter: grader choice needs the letter of the right option"
                )
        values: dict[str, Any] = {**record.values, self.question: texts["question"]}
        return checked(template.render(values), "of its prompt")

    def _labels(self) -> dict[str, Any]:
        if self.config.grader != "choice":
            return {}
        return {"letters": self.letters, **({"official": True} if self.config.choice_official else {})}
