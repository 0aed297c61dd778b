"""KOR-Bench: puzzles with rules that no corpus contains, in subsets cipher, counterfactual and logic (Ma et al. 2024).

A subset consists of two files, `rule.jsonl` and `sample.jsonl`, joined on `rule_id`. The GitHub repository is the
reference copy. The layout of the hub's copy could not be checked, so both likely folders are tried.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from steer.benchmarks.fields import RowError, text
from steer.benchmarks.files import DataFile, data_files, shown
from steer.benchmarks.public.definition import Asked, Definition, Source
from steer.benchmarks.records import Record, read_records

SUBSETS = ("cipher", "counterfactual", "logic")
HUB = "hf://datasets/m-a-p/KOR-Bench"
_BY_HAND = (
    "clone https://github.com/KOR-Bench/KOR-Bench and set benchmark.source to its folder data (with "
    "cipher, counterfactual and logic, each with rule.jsonl and sample.jsonl)"
)


@dataclass(frozen=True)
class KorFiles:
    """One subset, read from its file `sample.jsonl` and the file `rule.jsonl` beside it."""

    file: DataFile
    subset: str
    split: str = ""

    def records(self) -> Iterator[Record]:
        rules, rule_file = {}, self.file.beside("rule.jsonl")
        for record in _rules(rule_file):
            if record.error or not isinstance(record.values.get("rule_content"), str):
                raise ValueError(f"{rule_file} row {record.number} has no rule_content: mend the row")
            rules[str(record.values.get("idx"))] = record.values["rule_content"]
        for record in read_records(self.file):
            yield Record(record.number, joined(record.values, rules), record.error)

    def place(self, number: int) -> str:
        return f"{self.file} row {number}"

    def name(self, number: int) -> str:
        return f"{self.subset}/{self.file.name} row {number}"


@dataclass(frozen=True)
class KorHub:
    """One subset, streamed from the hub's copy."""

    subset: str
    split: str = ""
    root: str = HUB

    def records(self) -> Iterator[Record]:
        rules = {str(values.get("idx")): values.get("rule_content") for values in self._streamed("rule")}
        for number, values in enumerate(self._streamed("sample"), start=1):
            yield Record(number, joined(values, rules))

    def place(self, number: int) -> str:
        return f"{self.root}/{self.subset}/sample.jsonl row {number}"

    def name(self, number: int) -> str:
        return self.place(number)

    def _streamed(self, part: str) -> Iterator[dict[str, Any]]:
        from datasets import load_dataset

        failures = []
        for folder in (f"data/{self.subset}", self.subset):
            try:
                file = f"{self.root}/{folder}/{part}.jsonl"
                rows = iter(load_dataset("json", data_files=file, split="train", streaming=True))
                first = next(rows)
            except Exception as error:  # many libraries can raise here: network, authentication, layout
                failures.append(f"{folder}/{part}.jsonl: {type(error).__name__}: {error}")
                continue
            yield dict(first)
            yield from map(dict, rows)
            return
        raise ValueError(f"{self.root} cannot be read ({'; '.join(failures)}): {_BY_HAND}")


def _rules(file: DataFile) -> list[Record]:
    try:
        return list(read_records(file))
    except ValueError as error:
        raise ValueError(f"{error}; put rule.jsonl, with the rules of the subset, beside sample.jsonl") from None


def joined(values: Mapping[str, Any], rules: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, "rule_content": rules.get(str(values.get("rule_id")))}


def _hub() -> list[KorHub]:
    return [KorHub(subset) for subset in SUBSETS]


def _files(sources: Sequence[str]) -> list[KorFiles]:
    """Sources are the folder of all subsets, the folder of one, or a file in the folder of one."""
    found = {}
    for file in data_files(sources):
        subset = PurePosixPath(file.path).parent.name
        if subset in SUBSETS and file.name in ("sample.jsonl", "rule.jsonl"):
            sample = file.beside("sample.jsonl")
            found[str(sample)] = KorFiles(sample, subset)
    if not found:
        raise ValueError(f"benchmark source: {shown(sources)} is no copy of KOR-Bench: {_BY_HAND}")
    return sorted(found.values(), key=lambda files: SUBSETS.index(files.subset))


def _asked(values: Mapping[str, Any], source: Source) -> Asked:
    rule_id = text(values, "rule_id")
    if values.get("rule_content") is None:
        raise RowError(f"rule {rule_id} is not in rule.jsonl: add it or remove the row")
    return Asked(
        id=f"{source.subset}/{text(values, 'idx')}",
        filling={"rule": text(values, "rule_content"), "question": text(values, "question")},
        gold=lambda: text(values, "answer"),
        subset=source.subset,
        difficulty="",
        labels={"subset": source.subset, "rule_id": rule_id},
    )


KOR_BENCH = Definition(
    "kor_bench", "puzzles by unfamiliar rules: cipher, counterfactual, logic", "kor", "all", _hub, _files, _asked
)
