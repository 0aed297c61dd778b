"""What `steer grade` reads of a row, without a cluster: golds, labels, partition columns, and what it refuses."""

import json
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.grade.grade import Fields, FileBlocks, Tally, grade_rows
from steer.benchmarks.files import data_files
from steer.config.load import SettingsError


def graded(source, **fields):
    files = data_files(source)
    rows = pa.concat_tables([block for file in files for block in FileBlocks(file, Fields(**fields))()])
    return grade_rows(rows)


def jsonl(tmp_path, *rows):
    path = tmp_path / "d.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("grader", "gold", "response", "correct"),
    [
        ("aime", 27.0, "27", True),
        ("exact", 27.0, "27", True),
        ("qa", 27.0, "27", True),
        ("math", 27.0, "27", True),
        ("math", 1e-05, "0.00001", True),
        ("math", 1e-05, "10^{-5}", True),
        ("math", 1e19, "10000000000000000000", True),
        ("math", 0.1, "\\frac{1}{10}", True),
        ("math", "inf", "\\infty", True),
        ("math", float("inf"), "\\infty", True),
        ("math", ["2"], "2", True),
        ("math", ["2", "3"], "2", False),
        ("math", ["2", "3"], "2, 3", True),
        ("qa", ["Rome", "Roma"], "Roma", True),
        ("exact", ["Rome", "Roma"], "Roma", True),
        ("choice", "(c)", "C", True),
    ],
)
def test_a_gold_is_what_its_owner_means(tmp_path, grader, gold, response, correct):
    path = jsonl(tmp_path, {"text": f"\\boxed{{{response}}}", "gold": gold, "grader": grader})
    (row,) = graded(path).to_pylist()
    assert (row["error"], row["correct"]) == ("", correct)


@pytest.mark.parametrize(
    ("grader", "gold", "reason"),
    [
        ("math", float("nan"), "missing or empty"),
        ("math", "", "missing or empty"),
        ("math", "nan", "missing number"),
        ("math", "\\boxed{}", "no number"),
        ("math", "\\frac{1}{2", "brackets"),
        ("aime", 27.5, "no integer from 0 to 999"),
        ("aime", [1, 2], "takes one answer"),
        ("choice", 2, "counted from 0 or from 1"),
        ("choice", "Paris", "no letter of ABCD"),
        ("qa", {"text": ["Rome"]}, "is an object (text)"),
        ("exact", True, "is a bool"),
    ],
)
def test_a_gold_that_cannot_be_read_is_not_graded_and_says_why(tmp_path, grader, gold, reason):
    (row,) = graded(jsonl(tmp_path, {"text": "\\boxed{nan}", "gold": gold, "grader": grader})).to_pylist()
    assert row["correct"] is None and reason in row["error"] and "d.jsonl row 1" in row["error"]


def test_each_of_several_formulas_is_right_where_the_option_says_so(tmp_path):
    path = jsonl(tmp_path, {"text": "\\boxed{3}", "gold": ["2", "3"]})
    assert graded(path, grader="math", answers="any")["correct"].to_pylist() == [True]
    assert graded(path, grader="math", answers="all")["correct"].to_pylist() == [False]


def test_decimals_and_numbers_of_parquet_are_read_and_bytes_are_named(tmp_path):
    columns = {"text": ["\\boxed{3}"] * 2, "gold": [Decimal("3.00"), Decimal("3.50")], "id": [1.0, None]}
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    rows = graded(tmp_path / "d.parquet", grader="math").to_pylist()
    assert [(row["id"], row["gold"], row["correct"]) for row in rows] == [("1", "3", True), ("", "3.5", False)]
    pq.write_table(pa.table({**columns, "gold": [b"3", b"4"]}), tmp_path / "d.parquet")
    assert all("is bytes" in row["error"] for row in graded(tmp_path / "d.parquet", grader="math").to_pylist())


@pytest.mark.parametrize(("text", "what"), [([{"role": "user"}], "is a list of 1 object (role)"), (True, "is a bool")])
def test_a_response_that_is_no_text_is_named_by_its_type(tmp_path, text, what):
    (row,) = graded(jsonl(tmp_path, {"text": text, "gold": "1"}), grader="math").to_pylist()
    assert what in row["error"] and "--text" in row["error"]


def test_a_response_may_be_a_number_or_nothing(tmp_path):
    path = jsonl(tmp_path, {"text": 27.0, "gold": "27"}, {"text": "", "gold": "27"})
    assert graded(path, grader="math")["correct"].to_pylist() == [True, False]


def test_partition_folders_give_the_grader(tmp_path):
    for grader, gold in (("math", "0.5"), ("exact", "1/2")):
        (tmp_path / f"grader={grader}").mkdir()
        row = {"text": ["\\boxed{1/2}"], "gold": [gold]}
        pq.write_table(pa.table(row), tmp_path / f"grader={grader}" / "part-0.parquet")
    rows = graded(tmp_path).to_pylist()
    assert {row["grader"]: row["correct"] for row in rows} == {"math": True, "exact": True}


def test_rows_of_which_none_can_be_graded_are_refused_with_the_commonest_reason(tmp_path):
    path = jsonl(tmp_path, {"text": "1", "gold": 2}, "no json", {"text": "1", "gold": 3})
    tally = Tally()
    tally.add(graded(path, grader="choice"))
    with pytest.raises(SettingsError, match=r"none of the 3 rows can be graded.*\(2 rows, as .*row 1, which holds 2\)"):
        tally.require_any()
    tally.add(graded(jsonl(tmp_path, {"text": "A", "gold": "A"}), grader="choice"))
    tally.require_any()
    assert "not graded: 3" in tally.table()


def test_a_response_that_is_null_is_an_empty_one_in_every_format(tmp_path):
    rows = [{"text": None, "gold": "x"}, {"text": "", "gold": "x"}, {"text": "x", "gold": "x"}]
    files = [jsonl(tmp_path, *rows), tmp_path / "d.csv", tmp_path / "d.parquet"]
    files[1].write_text("gold,text\nx\nx,\nx,x\n")
    pq.write_table(pa.Table.from_pylist(rows), files[2])
    for file in files:
        assert [(row["correct"], row["rule"], row["error"]) for row in graded(file, grader="exact").to_pylist()] == [
            (False, "none", ""),
            (False, "none", ""),
            (True, "whole", ""),
        ]


def test_a_response_whose_column_is_not_there_is_not_graded(tmp_path):
    (row,) = graded(jsonl(tmp_path, {"answer": "x", "gold": "x"}), grader="exact").to_pylist()
    assert row["correct"] is None and "name the response's field by --text" in row["error"]


def test_labels_of_a_struct_may_lack_members(tmp_path):
    labels = [{"aliases": ["y"], "options": None}, {"aliases": None, "options": None}]
    path = tmp_path / "d.parquet"
    pq.write_table(pa.table({"text": ["y", "y"], "gold": ["x", "x"], "labels": labels}), path)
    assert [(row["correct"], row["error"]) for row in graded(path, grader="qa").to_pylist()] == [
        (True, ""),
        (False, ""),
    ]


@pytest.mark.parametrize("cell", ['["y"]', "['y']", '["y", "z"]'])
def test_a_csv_cell_may_hold_a_list_of_accepted_answers(tmp_path, cell):
    path = tmp_path / "d.csv"
    pd.DataFrame({"text": ["y"], "gold": ["x"], "aliases": [cell]}).to_csv(path, index=False)
    (row,) = graded(path, grader="qa").to_pylist()
    assert (row["correct"], row["error"]) == (True, "")


def test_a_list_of_several_kinds_is_called_so(tmp_path):
    (row,) = graded(jsonl(tmp_path, {"text": "x", "gold": "x", "aliases": ["x", 1]}), grader="qa").to_pylist()
    assert row["error"].endswith("is a list of 2 items of several kinds (text, number), not a list of texts")


def test_a_broken_line_is_named_as_the_subject_of_its_sentence(tmp_path):
    broken, _ = graded(jsonl(tmp_path, "{", {"text": "x", "gold": "x"}), grader="exact").to_pylist()
    assert "d.jsonl row 1 is not valid JSON" in broken["error"]
