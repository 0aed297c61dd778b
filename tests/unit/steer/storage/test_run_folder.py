"""A run's folder and the groups that go into it, without Ray."""

import pytest
from graded_rows import graded
from paths import ROOT

from pipelines.run.cells import Cell, cut_into_groups
from pipelines.run.ingest import Rows
from steer.config.policy import SmallPolicy
from steer.config.run import RoutingOptions
from steer.storage.run_folder import RunFolder
from steer.storage.schemas import SCHEMAS


def cell(n, groups=1, seed=0, name="c"):
    return Cell(name, SmallPolicy(), RoutingOptions(), rows(f"q{i:03d}#0" for i in range(n)), "math", seed, groups)


def rows(trace_ids):
    ids = tuple(trace_ids)
    return Rows(ids, 0, (), tuple((i, 0) for i in range(len(ids))))


def test_groups_are_equal_parts_that_only_seed_and_ids_decide():
    parts = cut_into_groups(cell(10, groups=3))
    assert sorted(len(part) for part in parts) == [3, 3, 4]
    assert sorted(i for part in parts for i in part) == list(range(10))
    assert parts == cut_into_groups(cell(10, groups=3))
    assert parts != cut_into_groups(cell(10, groups=3, seed=1))
    assert all(part == sorted(part) for part in parts)


def test_more_groups_than_traces_and_double_traces_are_refused():
    with pytest.raises(ValueError, match="fewer groups"):
        cut_into_groups(cell(2, groups=3))
    with pytest.raises(ValueError, match="q000#0"):
        cut_into_groups(Cell("c", SmallPolicy(), RoutingOptions(), rows(["q000#0"] * 2), "math"))


def test_a_folder_that_holds_anything_is_refused_with_the_remedy(tmp_path):
    RunFolder.create(tmp_path / "run", "run", {}, [0])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    for name, reason in (("run", "another run"), ("other", "not empty")):
        with pytest.raises(FileExistsError, match=f"{reason}: choose another --out or remove it"):
            RunFolder.create(tmp_path / name, "run", {}, [0])
    (tmp_path / "empty").mkdir()
    RunFolder.create(tmp_path / "empty", "run", {}, [0])


def test_only_a_run_can_be_opened(tmp_path):
    with pytest.raises(FileNotFoundError, match="run.json"):
        RunFolder.open(tmp_path)
    RunFolder.create(tmp_path / "run", "sweep", {"seed": 3}, [3, 4])
    run = RunFolder.open(tmp_path / "run")
    run.finish(engines=["small-0"])
    described = run.describe()
    assert (described["kind"], described["config"], described["seeds"]) == ("sweep", {"seed": 3}, [3, 4])
    assert described["seconds"] >= 0
    assert described["engines"] == ["small-0"]
    assert {"python", "ray", "pyarrow"} <= set(described["versions"])


def test_empty_tables_have_their_columns(tmp_path):
    run = RunFolder.create(tmp_path / "run", "run", {}, [0])
    for name, schema in SCHEMAS.items():
        table = run.read(name)
        assert (table.num_rows, table.schema.names) == (0, schema.names)


def test_parts_are_read_in_one_order_and_a_repeated_commit_adds_nothing(tmp_path):
    run = RunFolder.create(tmp_path / "run", "run", {}, [0])
    run.commit(graded("q2", "q0"))
    run.commit(graded("q1"))
    run.commit(graded("q2", "q0"))
    assert run.read("traces", columns=["question_id"])["question_id"].to_pylist() == ["q0", "q1", "q2"]
    assert run.read("traces", cells=["d"]).num_rows == 0
    assert [path for path in tmp_path.rglob(".*")] == []


def test_every_column_is_documented():

    documented = (ROOT / "docs" / "tables.md").read_text()
    missing = [(t, name) for t, schema in SCHEMAS.items() for name in schema.names if f"| `{name}` |" not in documented]
    assert missing == []
