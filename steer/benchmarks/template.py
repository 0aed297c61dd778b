"""The prompt template of data of one's own: `{question}` and any other column of the file.

Python's format syntax without its attribute access, conversions and format specs; `{}` stays as it stands, so that
`\\boxed{}` can be written plainly, and `{{` is a literal brace.
"""

import json
from collections.abc import Collection
from string import Formatter
from typing import Any


class PromptTemplate:
    """Raises ValueError if the template cannot be read, names no column, or would show the gold answer."""

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
