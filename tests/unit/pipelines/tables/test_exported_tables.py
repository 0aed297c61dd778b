"""Many runs in one place: each row once, whatever became of their parts, and however often it is asked for."""

import shutil
import sys

import duckdb
import pyarrow.parquet as pq
import pytest
from graded_rows import graded
from handmade_runs import make
from paths import FIXTURES
from pyiceberg.catalog.sql import SqlCatalog

from pipelines import cli
from pipelines.tables.export import export
from pipelines.tables.iceberg import CATALOG, NAMESPACE
from pipelines.tables.runs import TABLES
from steer.config.load import SettingsError
from steer.storage.run_folder import RunFolder
from steer.storage.schemas import SCHEMAS

ROWS = 3 * 20
"""Traces of a run here: three cells."""


@pytest.fixture
def runs(tmp_path):
    """Three runs in a folder: one of today, one whose merge was killed before it deleted what it had merged, and one
    of an earlier version."""
    folder = tmp_path / "runs"
    make(folder / "plain", n=20)
    killed = RunFolder.open(make(folder / "killed", n=20, flip=1))
    before = {part: open(part, "rb").read() for table in SCHEMAS for part in killed.parts(table)}
    killed.merge_parts(least=2)
    for part, data in before.items():
        with open(part, "wb") as file:
            file.write(data)
    shutil.copytree(FIXTURES / "finished_runs" / "run", folder / "below" / "earlier")
    return folder


def whole(runs):
    """Rows that each table of all these runs has."""
    found = [RunFolder.open(folder) for folder in (runs / "plain", runs / "killed", runs / "below" / "earlier")]
    return {table: sum(run.read(table).num_rows for run in found) for table in SCHEMAS} | {"runs": 3, "questions": 12}


def counted(out, to):
    """Rows of each table as another program finds them."""
    if to == "duckdb":
        with duckdb.connect(str(out), read_only=True) as db:
            return {table: db.execute(f"select count(*) from {table}").fetchall()[0][0] for table in TABLES}
    if to == "iceberg":
        catalog = SqlCatalog(NAMESPACE, uri=f"sqlite:///{out / CATALOG}")
        return {table: catalog.load_table((NAMESPACE, table)).scan().to_arrow().num_rows for table in TABLES}
    files = {table: list((out / table).rglob("*.parquet")) for table in TABLES}
    return {table: sum(pq.read_metadata(path).num_rows for path in paths) for table, paths in files.items()}


@pytest.mark.parametrize("to", ["duckdb", "iceberg", "parquet"])
def test_each_row_of_three_runs_is_there_once_also_when_it_is_asked_again(runs, tmp_path, to):
    out = tmp_path / "out"
    for _ in range(2):
        said = export([str(runs)], to, out)
        assert f"traces {whole(runs)['traces']}" in said
        assert counted(out, to) == whole(runs)


def test_one_query_over_three_runs_in_duckdb(runs, tmp_path):
    glob = f"'{runs}/killed/traces/*.parquet'"
    assert duckdb.sql(f"select count(*) from {glob}").fetchall() == [(2 * ROWS,)], "the files alone have rows twice"
    export([str(runs)], "duckdb", tmp_path / "all.duckdb")
    with duckdb.connect(str(tmp_path / "all.duckdb")) as db:
        found = db.execute(
            "select regexp_extract(r.folder, '[^/]+$') as run, policy, setting, count(*), avg(correct::int),"
            " count(distinct trace_id) from traces join runs r using (run_id)"
            " where split = 'test' and policy in ('large', 'steer') group by all order by all"
        ).fetchall()
        assert [row[:4] for row in found if row[0] != "earlier"] == [
            ("killed", "large", None, 20),
            ("killed", "steer", "gamma=0.5", 20),
            ("plain", "large", None, 20),
            ("plain", "steer", "gamma=0.5", 20),
        ]
        assert [row[4] for row in found if row[1] == "large"] == [1.0, 1.0]
        assert all(row[3] == row[5] for row in found)
        (nans,) = db.execute("select count(*) from steps where isnan(posterior) or isnan(signal)").fetchall()
        assert nans == (0,)
        (asked,) = db.execute(
            "select count(*), count(distinct question_id), count(q.prompt) from traces t"
            " left join questions q using (run_id, benchmark, question_id) where run_id like 'earlier-%'"
        ).fetchall()
        assert asked == (12, 12, 12)
        (run,) = db.execute("select kind, config->>'$.policy.name', seeds from runs where kind = 'run'").fetchall()
        assert run == ("run", "steer", [3])


@pytest.mark.parametrize("to", ["duckdb", "iceberg", "parquet"])
def test_a_run_that_went_on_replaces_its_rows_and_no_others(tmp_path, to):
    first, second = (make(tmp_path / name, n=20) for name in ("first", "second"))
    out = tmp_path / "out"
    export([str(first), str(second)], to, out)
    RunFolder.open(first).commit(graded("new-0", "new-1"))
    export([str(first)], to, out)
    assert counted(out, to)["traces"] == 2 * ROWS + 2
    assert counted(out, to)["runs"] == 2


@pytest.mark.parametrize("to", ["duckdb", "iceberg", "parquet"])
def test_a_run_whose_parts_are_merged_while_they_are_read_is_read_again(tmp_path, monkeypatch, to):
    root, streamed, merged = make(tmp_path / "run", n=20), RunFolder.stream, []

    def merging(self, table):
        for rows in streamed(self, table):
            yield rows
            if table == "steps" and not merged:
                merged.append(table)
                RunFolder(root).merge_parts(least=2)

    monkeypatch.setattr(RunFolder, "stream", merging)
    export([str(root)], to, tmp_path / "out")
    assert merged and counted(tmp_path / "out", to)["traces"] == ROWS
    assert counted(tmp_path / "out", to)["steps"] == RunFolder(root).read("steps").num_rows


def test_hive_partitions_are_read_by_other_programs_and_hold_each_row_once(runs, tmp_path):
    out = tmp_path / "lake"
    for _ in range(2):
        export([str(runs)], "parquet", out, ["benchmark", "policy", "setting"])
    assert (out / "traces" / "benchmark=chain" / "policy=steer" / "setting=gamma%3D0.5").is_dir()
    assert counted(out, "parquet") == whole(runs)
    files = f"read_parquet('{out}/steps/**/*.parquet', hive_partitioning=true)"
    found = duckdb.sql(
        f"select policy, setting, count(*) from {files} where benchmark = 'chain' group by all"
    ).fetchall()
    assert set(found) == {("small", None, 40), ("large", None, 40), ("steer", "gamma=0.5", 160)}
    with pytest.raises(SettingsError, match="same --partition-by"):
        export([str(runs)], "parquet", out)


def test_iceberg_is_partitioned_by_the_run_and_what_is_asked_for(tmp_path):
    make(tmp_path / "run", n=20)
    out = tmp_path / "lake"
    export([str(tmp_path / "run")], "iceberg", out, ["policy"])
    table = SqlCatalog(NAMESPACE, uri=f"sqlite:///{out / CATALOG}").load_table((NAMESPACE, "traces"))
    assert [field.name for field in table.spec().fields] == ["run_id", "policy"]
    assert table.scan(row_filter="policy == 'steer'").to_arrow().num_rows == 20
    assert str(table.schema().find_type("started_at")) == "timestamptz"
    with pytest.raises(SettingsError, match="partitioned by run_id,policy: give the same"):
        export([str(tmp_path / "run")], "iceberg", out)


def test_a_file_of_an_earlier_version_gets_the_columns_that_are_new(tmp_path):
    root, out = str(make(tmp_path / "run", n=20)), tmp_path / "all.duckdb"
    export([root], "duckdb", out)
    with duckdb.connect(str(out)) as db:
        db.execute("alter table traces drop column started_at")
    export([root], "duckdb", out)
    with duckdb.connect(str(out)) as db:
        assert db.execute("select count(started_at) from traces").fetchall() == [(ROWS,)]


def test_two_folders_of_one_run_are_refused(tmp_path):
    make(tmp_path / "run", n=20)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    with pytest.raises(SettingsError, match="is a copy of .*give one of them"):
        export([str(tmp_path)], "duckdb", tmp_path / "all.duckdb")
    assert not (tmp_path / "all.duckdb").exists()
    export([str(tmp_path / "run"), f"{tmp_path}/run"], "duckdb", tmp_path / "all.duckdb")


@pytest.mark.parametrize("to", ["duckdb", "iceberg", "parquet"])
def test_something_else_is_not_written_over(tmp_path, to):
    root, other = str(make(tmp_path / "run", n=20)), tmp_path / "other"
    if to == "duckdb":
        other.write_text("a letter")
    else:
        other.mkdir()
        (other / "letter.txt").write_text("a letter")
    with pytest.raises(SettingsError, match="give another --out"):
        export([root], to, other)


def test_what_cannot_be_exported_is_usage_with_the_remedy(tmp_path, capsys, monkeypatch):
    root, out = str(make(tmp_path / "run", n=20)), str(tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert cli.main(["tables", str(tmp_path / "empty"), "--to", "duckdb", "--out", out]) == cli.USAGE
    assert "holds no run.json" in capsys.readouterr().err
    given = ["tables", root, "--to", "duckdb", "--out", out]
    assert cli.main([*given, "--partition-by", "cell"]) == cli.USAGE
    assert "has no partitions" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        cli.main([*given, "--partition-by", "text"])
    assert end.value.code == cli.USAGE
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert cli.main(given) == cli.USAGE
    assert "pip install 'duckdb'" in capsys.readouterr().err
