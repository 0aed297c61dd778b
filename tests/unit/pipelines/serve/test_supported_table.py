"""docs/serve.md names every parameter, key, status field and header that an endpoint knows."""

import json
import re

import pytest
from paths import ROOT

from pipelines.serve import answer, request
from pipelines.serve.config import EndpointOptions
from steer.traces import Question, Status, Trace

PAGE = (ROOT / "docs" / "serve.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| `")]


def row_of(name):
    """The row of a table that begins with this name, perhaps among others."""
    rows = [row for row in ROWS if f"`{name}`" in row.split("|")[1]]
    assert rows, f"docs/serve.md has no row for {name}"
    return rows[-1]


@pytest.mark.parametrize("name", [*request._READ, *request._XARGS])
def test_what_is_read_has_a_row(name):
    row_of(name)


@pytest.mark.parametrize("name", request._ABSENT)
def test_what_is_not_supported_has_a_row_with_the_values_that_are_let_through(name):
    let_through = row_of(name).split("|")[2].strip()
    assert let_through == (", ".join(map(json.dumps, request._ABSENT[name])) or "null alone")


def test_what_is_ignored_is_named():
    (line,) = [line for line in PAGE.splitlines() if line.startswith("Read and not used:")]
    assert set(request._IGNORED) <= set(re.findall(r"`(\w+)`", line))


def test_every_key_of_endpoint_has_its_default():
    for key, field in EndpointOptions.model_fields.items():
        said = row_of(key).split("|")[2].strip()
        if field.default is not None:
            assert json.loads(said) == field.default, key


def test_every_key_of_usage_and_every_header_is_named():
    question = Question(id="", sample=0, benchmark="", prompt="", gold="", grader="")
    used = answer.usage(Trace(question, Status.ANSWERED, "", [], 1, 1, 0, 1, 1, 1, 0, (0, 0, 4, 0, 0)), 1.0, 1.0)
    for key in used["steer"]:
        row_of(f"usage.steer.{key}")
    named = set(re.findall(r"`(x-steer-[a-z-]+)`", PAGE))
    assert named == set(answer.headers(used))
