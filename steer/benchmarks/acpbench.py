"""ACPBench: multiple-choice questions about action, change and planning, seven tasks (Kokel et al. 2024, IBM).

It has a validation split of its own. The question's text ends with its options; the prompt has them one a line.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steer.benchmarks.fields import RowError, items, lacks, text
from steer.benchmarks.public import Asked, Definition
from steer.benchmarks.sources import FileSource, HubSource, data_files

TASKS = {
    "app": "applicable_actions_mc",
    "areach": "reachable_action_mc",
    "just": "action_justification_mcq",
    "land": "landmarks_mcq",
    "prog": "progression_mcq",
    "reach": "reachable_atom_mc",
    "val": "validation_mcq",
}
"""Task -> value of its rows' field `group`."""

_OWN_SPLITS = "the benchmark's own validation and test splits"


def _hub() -> list[HubSource]:
    return [
        HubSource("ibm-research/acp_bench", split, f"acp_{task}_mcq", split, task)
        for task in TASKS
        for split in ("validation", "test")
    ]


def _files(root: Path) -> list[FileSource]:
    return [FileSource(path, _split(path.name.lower())) for path in data_files(root, "mcq")]


def _split(name: str) -> str:
    """Files are named `dev` or `validation`, and `test`; any other file is sampled like a benchmark without splits."""
    if "dev" in name or "validation" in name:
        return "validation"
    return "test" if "test" in name else ""


def _asked(values: Mapping[str, Any], source: FileSource | HubSource) -> Asked:
    choices = values.get("choices")
    if not isinstance(choices, Mapping):
        raise lacks("choices") if choices is None else RowError(f"field 'choices' is a {type(choices).__name__}")
    labels = [text({"choices.label": label}, "choices.label") for label in items(choices, "label")]
    options = [text({"choices.text": option}, "choices.text") for option in items(choices, "text")]
    letters = "".join(labels)
    if (
        len(letters) != len(options)
        or len(set(letters)) != len(options)
        or not (letters.isascii() and letters.isupper())
    ):
        raise RowError("field 'choices' must have a capital letter for each of its texts")
    gold = text(values, "answer")
    if gold not in labels:
        raise RowError(f"answer {gold!r} is none of the choices {', '.join(labels)}")
    group = text(values, "group") if source.subset == "" else ""
    subset = source.subset or next((task for task, name in TASKS.items() if name == group), group)
    listed = [f"{letter}. {option}" for letter, option in zip(labels, options, strict=True)]
    return Asked(
        id=f"{subset}/{text(values, 'id')}",
        filling={
            "context": text(values, "context"),
            "question": _stem(text(values, "question"), listed),
            "options": "\n".join(listed),
        },
        gold=gold,
        subset=subset,
        difficulty="",
        labels={"letters": letters, "options": options},
    )


def _stem(question: str, listed: list[str]) -> str:
    """The question without the options that its text ends with."""
    for end in (". ".join(listed) + ".", ". ".join(listed)):
        if question.endswith(end) and len(question) > len(end):
            return question[: -len(end)].rstrip()
    return question


ACPBENCH = Definition(
    "acpbench", "planning, seven tasks, four options", "choice", "all", _hub, _files, _asked, split_rule=_OWN_SPLITS
)
