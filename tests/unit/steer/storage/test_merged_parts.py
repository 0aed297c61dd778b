"""Parts that are merged while others read and commit, and by a process that is killed at any moment."""

import shutil
from collections import Counter

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from graded_rows import graded
from hooked_filesystem import CHANGES, HookedFileSystem, Killed, killed_at
from pyarrow import fs

from steer.storage import parts
from steer.storage.run_folder import RunFolder
from steer.storage.schemas import GRADED_SCHEMA, MIXTURE_STRUCT, SCHEMAS, STEP_STRUCT

IDS = {"traces": "trace_id", "steps": "trace_id", "mixtures": "n"}
"""A column by which the rows of a table are told apart here."""


def rows_of_commit(number, traces=2):
    """Graded rows with a step each and one mixture, whose `n` is the commit's number."""
    rows = graded(*(f"q{number}-{i}" for i in range(traces)))
    steps = pa.array([[{"step": 0, "text": "a step"}]] * traces, pa.list_(STEP_STRUCT))
    mixtures = pa.array([[{"group_id": "c/000", "n": number}]] + [[]] * (traces - 1), pa.list_(MIXTURE_STRUCT))
    names = GRADED_SCHEMA.names
    rows = rows.set_column(names.index("step_rows"), "step_rows", steps)
    return rows.set_column(names.index("mixture_rows"), "mixture_rows", mixtures)


def hooked(run, before):
    """The same folder, through a file system that calls `before`."""
    other = RunFolder(run.root)
    other._fs = fs.PyFileSystem(HookedFileSystem(before))
    other._parts = {table: parts.Parts(other._fs, held._folder) for table, held in run._parts.items()}
    return other


def ids(run, table):
    return Counter(run.read(table)[IDS[table]].to_pylist())


def globbed(run, table):
    """The same as a reader of all files finds them."""
    found = duckdb.sql(f"select {IDS[table]}, count(*) from '{run.root}/{table}/*.parquet' group by 1").fetchall()
    return Counter(dict(found))


@pytest.fixture
def run(tmp_path):
    run = RunFolder.create(tmp_path / "run", "run", {}, [0])
    for number in range(4):
        run.commit(rows_of_commit(number))
    return run


@pytest.fixture
def expected(run):
    return {table: ids(run, table) for table in SCHEMAS}


def test_small_parts_become_one_with_the_same_rows(run):
    before = {table: run.read(table) for table in SCHEMAS}
    run.merge_parts(least=5)
    assert len(run.parts("traces")) == 5, "four parts and the empty one: too few to be merged"
    run.merge_parts(least=4)
    for table in SCHEMAS:
        assert len(run.parts(table)) == 2
        assert run.read(table) == before[table]
        assert globbed(run, table) == ids(run, table)
    run.commit(rows_of_commit(4))
    run.merge_parts(least=2)
    assert [len(run.parts(table)) for table in SCHEMAS] == [2, 2, 2]
    assert len(ids(run, "traces")) == 10
    run.clean()
    assert len(ids(run, "steps")) == 10, "steps of merged traces are no strays"


def test_parts_come_out_between_the_sizes_and_large_ones_are_left_alone(run, monkeypatch):
    for number in range(4, 40):
        run.commit(rows_of_commit(number, traces=5))
    sizes = [fs.LocalFileSystem().get_file_info(path).size for path in run.parts("traces")]
    monkeypatch.setattr(parts, "FULL_BYTES", 8 * max(sizes))
    monkeypatch.setattr(parts, "SMALL_BYTES", max(sizes) + 1)
    monkeypatch.setattr(parts, "ROW_GROUP_BYTES", 4000)
    expected = ids(run, "traces")
    run.merge_parts()
    merged = [path for path in run.parts("traces") if parts.stem(path).startswith(parts.MERGED)]
    assert len(merged) >= 3
    assert all(pq.read_metadata(path).num_row_groups > 1 for path in merged)
    assert ids(run, "traces") == expected
    before = run.parts("traces")
    run.merge_parts()
    assert run.parts("traces") == before


def test_a_kill_at_any_moment_doubles_and_loses_nothing(run, expected, tmp_path):
    run.merge_parts(least=4)
    for number in range(4, 7):
        run.commit(rows_of_commit(number))
    expected = {table: ids(run, table) for table in SCHEMAS}
    kills, over = 0, False
    while not over:
        folder = kills
        copy = RunFolder(shutil.copytree(run.root, tmp_path / f"killed-{folder}"))
        before, _ = killed_at(kills)
        try:
            hooked(copy, before).merge_parts(least=2)
            over = True
        except Killed:
            kills += 1
        copy = RunFolder.open(copy.root)
        for table in SCHEMAS:
            assert ids(copy, table) == expected[table]
            assert set(globbed(copy, table)) == set(expected[table]), "a reader of all files misses nothing"
        assert copy.committed(["c"]).of("c/000").trace_ids == set(expected["traces"])
        copy.clean()
        for table in SCHEMAS:
            assert globbed(copy, table) == ids(copy, table) == expected[table]
        assert list(tmp_path.glob(f"killed-{folder}/*/.*")) == []
        copy.merge_parts(least=2)
        assert [len(copy.parts(table)) for table in SCHEMAS] == [2, 2, 2]
        assert {table: ids(copy, table) for table in SCHEMAS} == expected
        copy.remove()
    assert kills > 3 * 4


def test_readers_see_each_row_once_at_every_moment_of_a_merge(run, expected):
    moments = 0

    def look(what, path):
        nonlocal moments
        if what in CHANGES:
            moments += 1
            for table in SCHEMAS:
                assert ids(run, table) == expected[table]
                assert set(globbed(run, table)) == set(expected[table])

    hooked(run, look).merge_parts(least=2)
    assert moments > 3 * 4


def test_a_reader_whose_parts_are_merged_before_it_opens_them_reads_again(run, expected):
    merged = []

    def merge_once(what, path):
        if what == "read" and not merged:
            merged.append(path)
            run.merge_parts(least=2)

    reader = hooked(run, merge_once)
    assert Counter(reader.read("traces")["trace_id"].to_pylist()) == expected["traces"]


def test_what_is_committed_while_parts_are_merged_stays(run, expected):
    numbers = iter(range(100, 200))

    def commit(what, path):
        if what in CHANGES:
            run.commit(rows_of_commit(next(numbers)))

    hooked(run, commit).merge_parts(least=2)
    committed = next(numbers) - 100
    assert committed > 3 * 4
    assert sum(ids(run, "traces").values()) == len(ids(run, "traces")) == 8 + 2 * committed
    assert len(ids(run, "steps")) == 8 + 2 * committed
    assert len(ids(run, "mixtures")) == 4 + committed


def test_steps_whose_traces_are_not_committed_are_not_merged_and_go_with_the_next_clean(run, expected):
    before, _ = killed_at(5)  # Write and move of the steps and of the mixtures, and write of the traces.
    with pytest.raises(Killed):
        hooked(run, before).commit(rows_of_commit(9))
    run.merge_parts(least=2)
    assert ids(run, "steps") - expected["steps"] == Counter(["q9-0#0", "q9-1#0"])
    run.clean()
    assert {table: ids(run, table) for table in SCHEMAS} == expected


def test_a_commit_that_is_tried_again_after_its_part_was_merged_adds_nothing(run, expected):
    run.merge_parts(least=2)
    run.commit(rows_of_commit(2))
    assert {table: ids(run, table) for table in SCHEMAS} == expected
    run.merge_parts(least=2)
    assert {table: globbed(run, table) for table in SCHEMAS} == expected


def test_a_regrade_keeps_what_a_merged_part_replaces(run, expected):
    run.merge_parts(least=2)
    (merged,) = (path for path in run.parts("traces") if parts.stem(path).startswith(parts.MERGED))
    run.replace_traces(merged, run.read_part(merged))
    run.commit(rows_of_commit(2))
    assert ids(run, "traces") == expected["traces"]


def test_columns_that_an_older_version_did_not_write_are_null_in_a_merged_part(run):
    part = next(path for path in run.parts("traces") if "part-" in path)
    old = pq.read_table(part)
    pq.write_table(old.drop_columns(["tokens_signal"]), part)
    run.merge_parts(least=2)
    missing = run.read("traces")["tokens_signal"].is_null().to_pylist()
    assert sum(missing) == 2
