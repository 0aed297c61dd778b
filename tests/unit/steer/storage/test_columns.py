"""The columns of the run, null for NaN, and the parts of earlier versions beside today's."""

import math
import shutil

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from graded_rows import graded
from paths import FIXTURES

from steer.storage.columns import without_nan
from steer.storage.run_folder import RunFolder
from steer.storage.schemas import GRADED_SCHEMA, MIXTURE_STRUCT, SCHEMAS, STEP_STRUCT

NAN = float("nan")
MODELS = {"pair": {"small": {"path": "org/tiny"}, "large": {"path": "org/big"}}}


def rows_with_nan(*ids):
    """A trace with a step and a mixture each; what was not measured is NaN, as the router hands it on."""
    rows = graded(*ids)
    tokens = [{"max_logit": 1.5, "entropy": NAN, "chosen": True}]
    step = {"step": 0, "text": "a step", "confidence": NAN, "posterior": NAN, "max_prob_small": 0.75}
    steps = pa.array([[step | {"token_scores_small": tokens}]] * len(ids), pa.list_(STEP_STRUCT))
    mixtures = pa.array([[{"group_id": "c/000", "mean_unsure": NAN}]] * len(ids), pa.list_(MIXTURE_STRUCT))
    for name, values in (("step_rows", steps), ("mixture_rows", mixtures)):
        rows = rows.set_column(GRADED_SCHEMA.names.index(name), name, values)
    return rows.set_column(GRADED_SCHEMA.names.index("f1"), "f1", pa.array([NAN] * len(ids)))


@pytest.fixture
def run(tmp_path):
    run = RunFolder.create(tmp_path / "run", "run", MODELS, [0])
    run.commit(rows_with_nan("q0", "q1"))
    return run


@pytest.fixture
def earlier(tmp_path):
    """A run that an earlier version wrote: column `group`, NaN, no columns of the run."""
    return RunFolder.open(shutil.copytree(FIXTURES / "finished_runs" / "run", tmp_path / "earlier"))


def nan_columns(table):
    """Columns that hold a NaN at any depth."""
    return [name for name in table.column_names if "nan" in str(table[name].to_pylist()).replace("'nan'", "")]


def test_every_row_names_its_run_and_its_models(run):
    described = run.describe()
    again = RunFolder.open(run.root)
    again.commit(rows_with_nan("q2"))
    for table in SCHEMAS:
        sql = f"select distinct run_id, epoch(started_at)::bigint from '{run.root}/{table}/*.parquet'"
        (named,) = duckdb.sql(sql).fetchall()
        started = again.read(table, columns=["started_at"])["started_at"][0].as_py()
        assert named == (described["id"], started.timestamp())
        assert started.isoformat(timespec="seconds") == described["started"]
    models = duckdb.sql(f"select distinct model_small, model_large from '{run.root}/traces/*.parquet'").fetchall()
    assert models == [("org/tiny", "org/big")]


def test_two_runs_have_two_ids(run, tmp_path):
    assert RunFolder.create(tmp_path / "other", "run", MODELS, [0]).describe()["id"] != run.describe()["id"]


def test_what_was_not_measured_is_null_in_the_files(run):
    for table in SCHEMAS:
        for part in run.parts(table):
            assert nan_columns(pq.read_table(part)) == []
    sql = "select avg(confidence), avg(max_prob_small), max(token_scores_small[1].entropy) from"
    assert duckdb.sql(f"{sql} '{run.root}/steps/*.parquet'").fetchall() == [(None, 0.75, None)]
    assert run.read("steps")["token_scores_small"][0].as_py() == [
        {"max_logit": 1.5, "entropy": None, "max_prob": None, "margin": None, "chosen": True}
    ]


def test_nan_in_a_slice_of_lists_with_nulls_becomes_null():
    lists = pa.array([[9.0], None, [1.0, NAN], [], [NAN]], pa.list_(pa.float32()))
    assert without_nan(pa.chunked_array([lists[1:]])).to_pylist() == [None, [1.0, None], [], [None]]
    structs = pa.array([{"a": NAN, "b": 1}, None, {"a": 2.0, "b": None}])
    assert without_nan(pa.chunked_array([structs[:2], structs[2:]])).to_pylist() == [
        {"a": None, "b": 1},
        None,
        {"a": 2.0, "b": None},
    ]


def test_an_earlier_run_is_read_under_todays_names(earlier):
    held = pq.read_schema(earlier.parts("traces")[-1]).names
    assert "group" in held and "run_id" not in held
    ids = set()
    for table, schema in SCHEMAS.items():
        rows = earlier.read(table)
        assert rows.num_rows and rows.schema.names == schema.names
        assert rows["group_id"].null_count == 0 and nan_columns(rows) == []
        ids |= set(rows["run_id"].to_pylist())
    assert len(ids) == 1 and None not in ids
    assert set(earlier.read("traces")["model_large"].to_pylist()) == {"simulated:large"}


def test_the_id_of_an_earlier_run_moves_with_its_folder(earlier, tmp_path):
    before = earlier.read("traces")["run_id"][0]
    moved = shutil.move(earlier.root, tmp_path / "moved")
    RunFolder.open(moved).update(finished="2030-01-01T00:00:00+00:00")
    assert RunFolder.open(moved).read("traces")["run_id"][0] == before


def test_an_earlier_run_that_is_gone_on_with_is_one_table(earlier):
    before = {table: earlier.read(table) for table in SCHEMAS}
    (cell,) = earlier.describe()["cells"]
    group = before["traces"]["group_id"][0].as_py()
    assert [g["group_id"][0].as_py() for g in earlier.read_groups(cell["part"], [cell["name"]], ["id"])] == [group]
    whole = [g.column_names for g in earlier.read_groups(cell["part"], [cell["name"]])]
    assert whole == [["cell", "group_id", "questions"]]
    earlier.commit(rows_with_nan("new-0", "new-1"))
    for merged in (False, True):
        if merged:
            earlier.merge_parts(least=2)
            assert [len(earlier.parts(table)) for table in SCHEMAS] == [2, 2, 2]
        held = earlier.committed([cell["name"]]).of(group)
        assert held.trace_ids == set(before["traces"]["trace_id"].to_pylist())
        assert len(held.mixtures) == before["mixtures"].num_rows
        for table, then in before.items():
            rows = earlier.read(table)
            assert rows.num_rows == then.num_rows + 2
            assert rows.filter(pc.equal(rows["cell"], cell["name"])) == then
            assert set(rows["run_id"].to_pylist()) == set(then["run_id"].to_pylist())
    sql = "select count(*), count(run_id), count(posterior), count(*) filter (isnan(posterior)) from"
    files = [part for part in earlier.parts("steps") if "merged" in part]
    ((rows, named, measured, nans),) = duckdb.sql(f"{sql} read_parquet({files})").fetchall()
    assert (rows, named, nans) == (before["steps"].num_rows + 2, rows, 0)
    assert measured == sum(value is not None for value in before["steps"]["posterior"].to_pylist())


def test_a_regrade_of_an_earlier_run_keeps_every_row(earlier):
    before = earlier.read("traces")
    for part in earlier.parts("traces"):
        earlier.replace_traces(part, earlier.read_part(part))
    assert earlier.read("traces") == before
    held = set(duckdb.sql(f"select group_id from '{earlier.root}/traces/*.parquet'").fetchall())
    assert held == {(group,) for group in before["group_id"].to_pylist()}


def test_nulls_of_todays_and_nan_of_earlier_runs_are_the_same_to_pandas(run, earlier):
    for held in (run, earlier):
        frame = held.read("steps").to_pandas()
        assert frame["posterior"].dtype == float and not any(map(math.isnan, frame["tokens"].dropna()))
