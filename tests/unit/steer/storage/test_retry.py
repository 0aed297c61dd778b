"""Error rows that are taken out of a run's tables, by a process that is killed at any moment, and asked again."""

import json
import shutil

import pyarrow as pa
import pytest
from graded_rows import graded
from hooked_filesystem import Killed, killed_at
from test_merged_parts import hooked, ids, rows_of_commit

from steer.error_kinds import RETRIED, ErrorKind, error_kind
from steer.messages import PROMPT_TOO_LONG
from steer.storage import retry
from steer.storage.retry import mark_errors, take_out_marked
from steer.storage.run_folder import RunFolder
from steer.storage.schemas import SCHEMAS

LOST = "step 2 failed 3 times: the replica died"
TOO_LONG = f"{PROMPT_TOO_LONG} 9000 tokens, the model's context 4096"
N = 5
"""Commits, each of one answered trace and one error row; the error of the last one is that of its prompt."""


def commit_of(number):
    """Rows of a commit, with a step each: q0-0 is answered, q0-1 an error."""
    rows = rows_of_commit(number)
    error = TOO_LONG if number == N - 1 else LOST
    for name, values in (("status", ["answered", "error"]), ("error", ["", error]), ("tokens_small", [7, 5])):
        where = rows.schema.get_field_index(name)
        rows = rows.set_column(where, name, pa.array(values, rows.schema.field(name).type))
    return rows


ANSWERED = {f"q{number}-0#0": 1 for number in range(N)}
ASKED = {f"q{number}-1#0" for number in range(N - 1)}
LEFT = {**ANSWERED, f"q{N - 1}-1#0": 1}


@pytest.fixture(params=["parts as committed", "merged parts"])
def run(request, tmp_path):
    run = RunFolder.create(tmp_path / "run", "run", {}, [0])
    for number in range(N):
        run.commit(commit_of(number))
    if request.param == "merged parts":
        run.merge_parts(least=2)
    run.update(finished="yesterday")
    return run


def forgotten(groups):
    assert groups == {("c", "c/000")}


def test_an_error_row_goes_with_its_steps_and_its_cost_stays_in_the_notes(run):
    mixtures = ids(run, "mixtures")
    assert mark_errors(run, RETRIED) == {"replica": N - 1, "prompt": 1}
    note = take_out_marked(run, forgotten)
    assert ids(run, "traces") == ids(run, "steps") == LEFT
    assert ids(run, "mixtures") == mixtures
    assert (note["kinds"], note["traces"], note["tokens_small"]) == ({"replica": N - 1}, N - 1, 5 * (N - 1))
    assert run.describe()["retried"] == [note]
    assert run.describe()["finished"] is None
    assert run.read_file(retry.FILE) is None


def test_where_no_row_is_of_the_kinds_nothing_changes(run):
    assert mark_errors(run, [ErrorKind.ENGINE]) == {"replica": N - 1, "prompt": 1}
    assert take_out_marked(run, forgotten) is None
    assert len(ids(run, "traces")) == 2 * N
    assert run.describe()["finished"] == "yesterday"


def test_rows_that_are_asked_again_are_there_once_also_in_parts_of_the_same_traces(run):
    """One part each, as an error row that ended alone was committed: its part's name was taken before."""
    alone = graded("alone")
    run.commit(alone)
    run.merge_parts(least=2)
    mark_errors(run, [ErrorKind.ENGINE])
    take_out_marked(run, forgotten)
    run.retries = 1
    run.commit(alone)
    assert ids(run, "traces")["alone#0"] == 1
    run.merge_parts(least=2)
    run.clean()
    assert ids(run, "traces")["alone#0"] == 1


def test_a_kill_at_any_moment_doubles_and_loses_nothing(run, tmp_path):
    kills, over = 0, False
    while not over:
        copy = RunFolder(shutil.copytree(run.root, tmp_path / f"killed-{kills}"))
        before, _ = killed_at(kills)
        try:
            killed = hooked(copy, before)
            mark_errors(killed, RETRIED)
            take_out_marked(killed, forgotten)
            over = True
        except Killed:
            kills += 1
        copy = RunFolder.open(copy.root)
        copy.clean()
        take_out_marked(copy, forgotten)
        if len(ids(copy, "traces")) == 2 * N:  # killed before any row was marked
            mark_errors(copy, RETRIED)
            take_out_marked(copy, forgotten)
        assert ids(copy, "traces") == ids(copy, "steps") == LEFT
        copy.retries = len(copy.describe()["retried"])
        assert copy.retries == 1
        for number in range(N - 1):
            copy.commit(commit_of(number).slice(1))
        copy.clean()
        copy.merge_parts(least=2)
        for table in ("traces", "steps"):
            assert ids(copy, table) == {**LEFT, **dict.fromkeys(ASKED, 1)}
        assert json.loads((tmp_path / copy.root / "run.json").read_text())["retried"][0]["traces"] == N - 1
        copy.remove()
    assert kills > 6


def test_every_table_can_still_be_read_where_all_its_rows_are_gone(tmp_path):
    run = RunFolder.create(tmp_path / "run", "run", {}, [0])
    run.commit(graded("only"))
    mark_errors(run, [ErrorKind.ENGINE])
    take_out_marked(run, forgotten)
    for table in SCHEMAS:
        assert run.read(table).num_rows == 0


@pytest.mark.parametrize(
    ("error", "unaskable", "kind"),
    [
        (LOST, False, ErrorKind.REPLICA),
        (TOO_LONG, False, ErrorKind.PROMPT),
        ("vLLM refuses the row: no such token", False, ErrorKind.ENGINE),
        ("own.jsonl row 7: no question", True, ErrorKind.INPUT),
    ],
)
def test_kinds_of_errors(error, unaskable, kind):
    assert error_kind(error, unaskable) == kind
