"""How a public benchmark is defined, and how its rows become questions. Each benchmark has its own file."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from steer.benchmarks.benchmark import SAMPLE_RULE, BenchmarkRow, Key, unread_id
from steer.benchmarks.fields import Gold, RowError, checked, require_readable
from steer.benchmarks.public.prompts import PROMPTS
from steer.benchmarks.records import Record
from steer.traces import Question


class Source(Protocol):
    """A file, or one split of a hub data set. Sources can be pickled."""

    @property
    def split(self) -> str: ...

    @property
    def subset(self) -> str: ...

    def records(self) -> Iterator[Record]: ...

    def place(self, number: int) -> str:
        """A row by its number, for messages."""
        ...

    def name(self, number: int) -> str:
        """The same, but equal on every machine: without the folders above the source."""
        ...


@dataclass(frozen=True)
class Asked:
    """The question that a benchmark's own code reads from one row."""

    id: str
    filling: dict[str, str]
    """Values for the fields of the benchmark's prompt."""
    gold: Callable[[], str]
    """Reads the gold answer. Called last, so that a row whose gold is refused keeps its id and its subset."""
    subset: str
    difficulty: str
    labels: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Definition:
    name: str
    about: str
    grader: str
    tokens: Literal["math", "all"]
    hub: Callable[[], Sequence[Source]]
    files: Callable[[Sequence[str]], Sequence[Source]]
    """Sources in files, folders, globs and URLs. Raises ValueError, with the remedy, if they are no copy of the
    benchmark."""
    asked: Callable[[Mapping[str, Any], Source], Asked]
    """Raises RowError for a row that cannot be asked."""
    split_rule: str = SAMPLE_RULE
    repeats: bool = False
    """The rows have no ids of their own and may occur twice; repeats are numbered."""


@dataclass(frozen=True)
class PublicShard:
    """One source of a public benchmark, whose rows it turns into questions."""

    definition: Definition
    source: Source
    grader: str
    official_choice: bool = False

    @property
    def split(self) -> str:
        return self.source.split

    def rows(self) -> Iterator[tuple[Key, BenchmarkRow]]:
        seen: Counter[str] = Counter()
        for record in self.source.records():
            yield self._row(record, seen)

    def _row(self, record: Record, seen: Counter[str]) -> tuple[Key, BenchmarkRow]:
        place = self.source.place(record.number)
        try:
            if record.error:
                raise RowError(f"{record.error}: mend or remove the row")
            asked = self.definition.asked(record.values, self.source)
            seen[asked.id] += 1
            repeat = f"-{seen[asked.id]}" if self.definition.repeats and seen[asked.id] > 1 else ""
            labels = {**asked.labels, **({"official": True} if self.official_choice else {})}
            question = self._question(asked, f"{asked.id}{repeat}", labels)
        except RowError as error:
            # The id may be what could not be read, so the number of the row names it.
            id = unread_id(self.source.name(record.number))
            unread = Question(id, 0, self.definition.name, "", "", self.grader, self.source.subset)
            return Key(id, place, self.split, id), BenchmarkRow(unread, f"{place}: {error}")
        key = Key(question.id, place, self.split, asked.id, question.difficulty)
        try:
            question = replace(question, gold=asked.gold())
            require_readable(Gold(question.gold, tuple(labels.get("aliases", ()))), "answer", self.grader, labels)
        except RowError as error:
            return key, BenchmarkRow(question, f"{place}: {error}")
        return key, BenchmarkRow(question)

    def _question(self, asked: Asked, question_id: str, labels: dict[str, Any]) -> Question:
        """The question without its gold answer."""
        prompt = PROMPTS[self.definition.name]
        return Question(
            id=checked(question_id, "of its id"),
            sample=0,
            benchmark=self.definition.name,
            prompt=checked(prompt.user.format(**asked.filling), "of its prompt"),
            gold="",
            grader=self.grader,
            subset=asked.subset,
            difficulty=asked.difficulty,
            labels=json.dumps(labels, ensure_ascii=False),
            system=prompt.system,
        )
