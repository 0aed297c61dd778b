"""ACPBench: multiple-choice questions about action, change and planning, seven tasks (Kokel et al. 2024, IBM).

The benchmark has a validation split of its own. In its files, a question's text ends with the options; the prompt lists
them on separate lines.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from steer.benchmarks.fields import RowError, items, lacks, text
from steer.benchmarks.files import DataFile, data_files
from steer.benchmarks.public.definition import Asked, Definition, Source
from steer.benchmarks.public.sources import FileSource, HubSource

TASKS = {
    "app": "applicable_actions_mc",
    "areach": "reachable_action_mc",
    "just": "action_justification_mcq",
    "land": "landmarks_mcq",
    "prog": "progression_mcq",
    "reach": "reachable_atom_mc",
    "val": "validation_mcq",
}
"""Maps each task to the value of field `group` in its rows."""

_BETWEEN_WORDS = re.compile(r"[\W\d_]+")
_OWN_SPLITS = "the benchmark's own validation and test splits"


def _hub() -> list[HubSource]:
    return [
        HubSource("ibm-research/acp_bench", split, f"acp_{task}_mcq", split, task)
        for task in TASKS
        for split in ("validation", "test")
    ]


def _files(sources: Sequence[str]) -> list[FileSource]:
    return [FileSource(file, _split(file)) for file in data_files(sources, "mcq")]


def _split(file: DataFile) -> str:
    """The split by a word in the name of the file, else of a folder around it in the source: `dev` or `validation`, or
    `test`.

    Any other file is split by the sampling rule.
    """
    for name in reversed(file.label.lower().split("/")):
        words = set(_BETWEEN_WORDS.split(name))
        if words & {"dev", "validation"}:
            return "validation"
        if "test" in words:
            return "test"
    return ""


def _asked(values: Mapping[str, Any], source: Source) -> Asked:
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
    group = text(values, "group") if source.subset == "" else ""
    subset = source.subset or next((task for task, name in TASKS.items() if name == group), group)
    listed = [f"{letter}. {option}" for letter, option in zip(labels, options, strict=True)]
    context = text(values, "context")
    return Asked(
        id=f"{subset}/{text(values, 'id')}",
        filling={
            "context": context,
            "question": _stem(text(values, "question"), listed),
            "options": "\n".join(listed),
        },
        gold=lambda: _gold(values, labels),
        subset=subset,
        difficulty="",
        labels={"letters": letters, "options": options, "context": _named(context)},
    )


def _named(context: str) -> str:
    """A hash of the description that several questions may share. Their answers are no independent evidence."""
    return hashlib.blake2b(context.encode(), digest_size=8).hexdigest()


def _gold(values: Mapping[str, Any], labels: Sequence[str]) -> str:
    gold = text(values, "answer")
    if gold not in labels:
        raise RowError(f"answer {gold!r} is none of the choices {', '.join(labels)}")
    return gold


def _stem(question: str, listed: list[str]) -> str:
    """Remove the options from the end of a question's text."""
    for end in (". ".join(listed) + ".", ". ".join(listed)):
        if question.endswith(end) and len(question) > len(end):
            return question[: -len(end)].rstrip()
    return question


ACPBENCH = Definition(
    "acpbench", "planning, seven tasks, four options", "choice", "all", _hub, _files, _asked, split_rule=_OWN_SPLITS
)
