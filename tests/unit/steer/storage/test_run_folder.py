"""A run's folder and the groups that go into it, without Ray."""

import numpy as np
import pytest
from graded_rows import graded
from held_rows import rows_of
from paths import ROOT

from pipelines.run.cells import GROUP_BYTES, Cell, cut_into_groups, groups_in_flight
from steer.config.policy import SmallPolicy
from steer.config.run import RoutingOptions
from steer.storage.run_folder import RunFolder
from steer.storage.schemas import SCHEMAS


def cell(n, groups=1, seed=0, name="c", ids=None, sizes=None, **routing):
    ids = [f"q{i:03d}#0" for i in range(n)] if ids is None else ids
    return Cell(name, SmallPolicy(), RoutingOptions(**routing), rows_of(ids, sizes=sizes), "math", seed, groups)


def listed(parts):
    return [part.tolist() for part in parts]


def test_groups_are_equal_parts_that_only_seed_and_ids_decide():
    parts = listed(cut_into_groups(cell(10, groups=3)))
    assert sorted(len(part) for part in parts) == [3, 3, 4]
    assert sorted(i for part in parts for i in part) == list(range(10))
    assert parts == listed(cut_into_groups(cell(10, groups=3)))
    assert parts != listed(cut_into_groups(cell(10, groups=3, seed=1)))
    assert all(part == sorted(part) for part in parts)
    # As every version has cut them: a run that is cut again, with another setting, compares the same groups.
    assert parts == [[0, 4, 5, 6], [1, 3, 9], [2, 7, 8]]


def test_more_groups_than_traces_and_double_traces_are_refused():
    with pytest.raises(ValueError, match="fewer groups"):
        cut_into_groups(cell(2, groups=3))
    with pytest.raises(ValueError, match="q000#0"):
        cut_into_groups(cell(3, ids=["q001#0", "q000#0", "q000#0"]))


@pytest.mark.parametrize(
    ("traces", "groups", "routing"),
    [
        (100, 1, {"max_live": 40, "groups_in_flight": 4}),
        (100, 3, {"max_live": 40, "groups_in_flight": 2}),
        (10, 1, {"max_live": 2, "groups_in_flight": 4}),
        (1000, 1, {"max_live": 1, "groups_in_flight": 1}),
        (100, 7, {"max_live": 1000, "groups_in_flight": 4}),
    ],
)
def test_groups_in_flight_together_never_have_more_than_max_live_traces(traces, groups, routing):
    mine = cell(traces, groups, **routing)
    parts = cut_into_groups(mine)
    assert sorted(np.concatenate(parts)) == list(range(traces))
    assert len(parts) >= groups
    in_flight = groups_in_flight([mine], [{"traces": traces, "groups": len(parts)}])
    assert 1 <= in_flight <= routing["groups_in_flight"]
    assert in_flight * max(map(len, parts)) <= routing["max_live"]
    # Engines do not run dry at a group's end: as many groups fly as were asked for, if there are traces for them.
    assert in_flight == min(routing["groups_in_flight"], routing["max_live"])


def test_without_max_live_small_benchmarks_are_one_group_and_huge_ones_are_cut():
    assert len(cut_into_groups(cell(0, ids=[f"q{i}#0" for i in range(25_000)]))) == 1
    assert max(map(len, cut_into_groups(cell(0, ids=[f"q{i}#0" for i in range(60_001)])))) <= 25_000


def test_groups_that_an_earlier_version_cut_too_large_fly_one_at_a_time():
    mine = cell(10, max_live=100, groups_in_flight=4)
    assert groups_in_flight([mine], [{"traces": 3000, "groups": 2}]) == 1
    assert groups_in_flight([mine], [{"traces": 80, "groups": 2}]) == 2


def test_a_group_whose_questions_are_too_long_is_cut_further():
    sizes = [GROUP_BYTES // 3] * 9 + [4 * GROUP_BYTES]
    parts = cut_into_groups(cell(10, sizes=sizes))
    assert sorted(np.concatenate(parts)) == list(range(10))
    assert all(len(part) == 1 or sum(sizes[i] for i in part) <= GROUP_BYTES for part in parts)


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
