"""Gold answers and ids as JSON, Parquet and CSV hold them: floats, decimals, NaN, lists, and rows without an id."""

import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from steer.benchmarks import load_benchmark
from steer.benchmarks.fields import RowError, gold
from steer.config.run import BenchmarkConfig
from steer.grading import grade
from steer.grading.golds import plain


def own(path, **changes):
    settings = {"source": str(path), "question": "q", "answer": "a", "grader": "math", "split": "all", **changes}
    return load_benchmark(BenchmarkConfig(**settings)).rows


def jsonl(tmp_path, *lines):
    path = tmp_path / "d.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def parquet(tmp_path, column):
    path = tmp_path / "d.parquet"
    pq.write_table(pa.table({"q": ["?"] * len(column), "a": column}), path)
    return path


def verdict(row, response):
    question = row.question
    return grade(response, question.gold, question.grader, json.loads(question.labels)).correct


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (27.0, "27"),
        (-3.0, "-3"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (2.5, "2.5"),
        (1e-05, "0.00001"),
        (-4.25e-07, "-0.000000425"),
        (1e19, "10000000000000000000"),
        (1.5e22, "15000000000000000000000"),
        (123456789.125, "123456789.125"),
        (7, "7"),
        (Decimal("3.00"), "3"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0.5000"), "0.5"),
        (Decimal("12345678901234567890123456789012345.50"), "12345678901234567890123456789012345.5"),
    ],
)
def test_a_number_is_its_plain_decimal_and_nothing_is_rounded(number, text):
    assert plain(number) == text


@pytest.mark.parametrize("grader", ["math", "aime", "exact", "qa"])
def test_a_float_of_an_integer_value_is_that_integer_for_every_grader(tmp_path, grader):
    from_json, from_parquet = jsonl(tmp_path, {"q": "?", "a": 27.0}), parquet(tmp_path, [27.0])
    for path in (from_json, from_parquet):
        (row,) = own(path, grader=grader)
        assert row.error == "" and row.question.gold == "27"
        assert verdict(row, "\\boxed{27}") and not verdict(row, "\\boxed{28}")


@pytest.mark.parametrize(
    ("column", "golds"),
    [
        (pa.array([0.1, 2.0, 1e-05], pa.float32()), ["0.1", "2", "0.00001"]),
        (pa.array([Decimal("3.00"), Decimal("2.50")], pa.decimal128(8, 2)), ["3", "2.5"]),
        (pa.array([[0.1], [27.0]], pa.list_(pa.float32())), ["0.1", "27"]),
        (pa.array([5, 6], pa.uint8()), ["5", "6"]),
    ],
)
def test_the_number_types_of_parquet_are_the_numbers_that_were_written(tmp_path, column, golds):
    assert [row.question.gold for row in own(parquet(tmp_path, column))] == golds


@pytest.mark.parametrize(
    ("grader", "cell", "text"),
    [
        ("aime", "27.0", "27"),
        ("aime", "7e1", "70"),
        ("aime", "012", "012"),
        ("math", "1e-05", "0.00001"),
        ("math", "2E3", "2000"),
        ("math", "inf", r"\infty"),
        ("math", "-Infinity", r"-\infty"),
        ("exact", "27.0", "27.0"),
        ("exact", "1e-05", "1e-05"),
        ("qa", "nan", "nan"),
        ("qa", "None", "None"),
    ],
)
def test_a_text_is_a_number_for_graders_of_numbers_and_stays_a_text_for_the_others(tmp_path, grader, cell, text):
    path = tmp_path / "d.csv"
    path.write_text(f"q,a\n?,{cell}\n")
    (row,) = own(path, grader=grader)
    assert (row.error, row.question.gold) == ("", text)


def test_an_infinite_float_is_infinity_for_mathematics(tmp_path):
    up, down = own(jsonl(tmp_path, '{"q": "?", "a": Infinity}', '{"q": "?", "a": -Infinity}'))
    assert (up.question.gold, down.question.gold) == (r"\infty", r"-\infty")
    assert verdict(up, r"\boxed{\infty}") and not verdict(up, r"\boxed{-\infty}")


@pytest.mark.parametrize("grader", ["math", "aime", "exact", "qa", "choice", "kor"])
@pytest.mark.parametrize("value", ["NaN", "null", '""', '"  "', "[]"])
def test_nan_is_refused_like_a_missing_answer(tmp_path, grader, value):
    good = {"math": "1", "aime": "1", "choice": "A"}.get(grader, "x")
    wrong, right = own(jsonl(tmp_path, f'{{"q": "?", "a": {value}}}', {"q": "?", "a": good}), grader=grader)
    assert "'a' is missing or empty" in wrong.error
    assert right.error == ""


def test_nan_and_none_of_parquet_and_an_empty_csv_cell_are_missing(tmp_path):
    for path in (parquet(tmp_path, [1.0, float("nan"), None]), tmp_path / "d.csv"):
        if path.suffix == ".csv":
            path.write_text("q,a\n?,1\n?,\n?\n")
        assert [bool(row.error) for row in own(path)] == [False, True, True]


@pytest.mark.parametrize(
    ("grader", "value", "reason"),
    [
        ("aime", 27.5, "no integer from 0 to 999"),
        ("aime", 1e19, "no integer from 0 to 999"),
        ("aime", "twelve", "no integer from 0 to 999"),
        ("math", "nan", "missing number"),
        ("math", "\\frac{1}{2", "brackets"),
        ("choice", 2, "counted from 0 or from 1"),
        ("choice", 2.0, "counted from 0 or from 1"),
        ("choice", "2", "counted from 0 or from 1"),
        ("choice", "Paris", "is no letter"),
        ("exact", True, "is a bool"),
        ("math", {"value": 3}, "is an object (value)"),
    ],
)
def test_a_gold_that_its_grader_cannot_read_is_an_error_row_with_the_reason(tmp_path, grader, value, reason):
    good = "A" if grader == "choice" else "1"
    wrong, right = own(jsonl(tmp_path, {"q": "?", "a": value}, {"q": "?", "a": good}), grader=grader)
    assert reason in wrong.error and "d.jsonl row 1" in wrong.error
    assert right.error == ""


@pytest.mark.parametrize("written", ["b", "B", "(B)", "B.", " b) ", "[B]"])
def test_a_letter_may_be_marked(tmp_path, written):
    (row,) = own(jsonl(tmp_path, {"q": "?", "a": written}), grader="choice")
    assert (row.error, row.question.gold) == ("", "B")


@pytest.mark.parametrize(
    ("grader", "written", "gold"),
    [
        ("choice", "\\boxed{A}", "A"),
        ("choice", "$\\boxed{(b)}$", "B"),
        ("choice", "\uff21", "A"),
        ("choice", "\uff08\uff22\uff09", "B"),
        ("choice", "**C**", "C"),
        ("aime", "\\boxed{070}", "070"),
        ("aime", "$\\boxed{27.0}$", "27"),
        ("exact", "\\boxed{5}", "5"),
        ("exact", "\\fbox{x{y}}", "x{y}"),
        ("exact", "$5$", "$5$"),
    ],
)
def test_a_gold_in_a_box_or_in_letters_of_another_form_is_read_as_responses_are(tmp_path, grader, written, gold):
    (row,) = own(jsonl(tmp_path, {"q": "?", "a": written}), grader=grader)
    assert (row.question.gold, row.error) == (gold, "")
    assert verdict(row, f"\\boxed{{{gold}}}")


@pytest.mark.parametrize("written", ["A. foo", "(A) foo", "a) foo", "[A] foo"])
def test_a_letter_with_its_options_text_is_refused_with_the_letter_to_write(tmp_path, written):
    (row,) = own(jsonl(tmp_path, {"q": "?", "a": written}), grader="choice")
    assert "(write A alone): it holds" in row.error


def test_a_column_of_the_prompt_may_be_empty_and_not_missing(tmp_path):
    rows = [{"q": "?", "a": 1, "context": context} for context in ("", "c", None, float("nan"))]
    read = own(jsonl(tmp_path, *rows), prompt="{context}{question}")
    assert [row.question.prompt for row in read] == ["?", "c?", "", ""]
    assert all("'context' is missing" in row.error for row in read[2:])


@pytest.mark.parametrize(
    ("column", "gold"),
    [
        (pa.array([[0.1]], pa.large_list(pa.float32())), "0.1"),
        (pa.array([[0.1, 0.2]], pa.list_(pa.float32(), 2)), "0.1, 0.2"),
        (pa.array([np.float16(0.1)], pa.float16()), "0.1"),
        (pa.array([[np.float16(0.1)]], pa.list_(pa.float16())), "0.1"),
        (pa.array([0.1], pa.float32()).dictionary_encode(), "0.1"),
    ],
)
def test_narrow_floats_are_the_decimals_that_were_written(tmp_path, column, gold):
    (row,) = own(parquet(tmp_path, column))
    assert (row.question.gold, row.error) == (gold, "")


def test_narrow_floats_inside_objects_are_shown_as_written(tmp_path):
    kind = pa.struct([("x", pa.float32()), ("y", pa.list_(pa.float16())), ("z", pa.float64())])
    path = tmp_path / "d.parquet"
    values = pa.array([{"x": 0.1, "y": [np.float16(0.2)], "z": 0.1000000001}], kind)
    pq.write_table(pa.table({"q": ["?"], "a": ["1"], "s": values}), path)
    (row,) = own(path, prompt="{question}{s}")
    assert row.question.prompt == '?{"x": 0.1, "y": [0.2], "z": 0.1000000001}'


@pytest.mark.parametrize(
    ("written", "gold"),
    [("1e400", "1" + "0" * 400), ("-1.5e309", "-15" + "0" * 308), ("1e-350", "0." + "0" * 349 + "1")],
)
def test_a_json_number_beyond_a_double_is_that_number(tmp_path, written, gold):
    (row,) = own(jsonl(tmp_path, f'{{"q": "?", "a": {written}}}'), grader="exact")
    assert row.question.gold == gold


def test_a_json_number_of_a_billion_digits_is_not_written_out(tmp_path):
    (row,) = own(jsonl(tmp_path, '{"q": "?", "a": 1e999999999}'), grader="exact")
    assert row.question.gold == "1e999999999"


# --- lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [["2"], [2], [2.0], "2", [["2"]], '["2"]', "['2']"])
def test_a_list_of_one_answer_is_that_answer(value):
    assert gold({"a": value}, "a", "math") == ("2", ())


@pytest.mark.parametrize(
    ("grader", "answers", "right", "wrong"),
    [
        ("qa", None, ["\\boxed{Roma}", "\\boxed{Rome}"], ["\\boxed{Rome, Roma}"]),
        ("exact", None, ["\\boxed{Roma}", "\\boxed{Rome}"], ["\\boxed{Rome, Roma}"]),
        ("exact", "all", ["\\boxed{Rome, Roma}"], ["\\boxed{Rome}"]),
    ],
)
def test_several_texts_are_accepted_answers_or_one_answer(tmp_path, grader, answers, right, wrong):
    (row,) = own(jsonl(tmp_path, {"q": "?", "a": ["Rome", "Roma"]}), grader=grader, answers=answers)
    assert [verdict(row, response) for response in right] == [True] * len(right)
    assert [verdict(row, response) for response in wrong] == [False] * len(wrong)


@pytest.mark.parametrize(("answers", "both", "one"), [(None, True, False), ("all", True, False), ("any", False, True)])
def test_several_formulas_are_together_the_answer_unless_each_is_said_to_be_right(tmp_path, answers, both, one):
    (row,) = own(jsonl(tmp_path, {"q": "?", "a": ["3", "5.0"]}), answers=answers)
    assert verdict(row, "\\boxed{3, 5}") is both
    assert verdict(row, "\\boxed{5}") is one


def test_several_letters_are_accepted_letters(tmp_path):
    (row,) = own(jsonl(tmp_path, {"q": "?", "a": ["A", "(e)"]}), grader="choice")
    assert [verdict(row, f"\\boxed{{{letter}}}") for letter in "AEB"] == [True, True, False]


@pytest.mark.parametrize(
    ("grader", "answers", "value"),
    [("aime", None, [3, 5]), ("kor", None, ["x", "y"]), ("qa", "all", ["x", "y"]), ("choice", "all", ["A", "B"])],
)
def test_a_grader_of_one_answer_refuses_several(grader, answers, value):
    with pytest.raises(RowError, match="takes one answer"):
        gold({"a": value}, "a", grader, answers)


@pytest.mark.parametrize("value", [["3", None], ["3", float("nan")], ["3", ""]])
def test_a_list_with_a_missing_answer_is_refused(value):
    with pytest.raises(RowError, match="missing or empty"):
        gold({"a": value}, "a", "math")


@pytest.mark.parametrize("text", ["[1, 2]", "[0, 1)", "[Smith]", '["open', "[x for x in y]"])
def test_a_text_that_only_looks_like_a_list_stays_a_text(text):
    assert gold({"a": text}, "a", "exact") == (text, ())


# --- ids --------------------------------------------------------------------------------------------------------------

GOOD = [{"id": i, "q": f"{i}?", "a": i} for i in range(6)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"id": 3, "q": "3?", "a"', "not valid JSON"),
        ('{"id": null, "q": "3?", "a": 3}', "'id' is missing"),
        ('{"q": "3?", "a": 3}', "'id' is missing"),
        ('{"id": NaN, "q": "3?", "a": 3}', "'id' is missing"),
        ('{"id": " ", "q": "3?", "a": 3}', "'id' is missing"),
        ('{"id": {"n": 3}, "q": "3?", "a": 3}', "'id' is an object"),
        ('{"id": Infinity, "q": "3?", "a": 3}', "'id' is infinite"),
        ("[3]", "is a list"),
    ],
)
def test_a_row_without_an_id_is_one_error_row_whose_id_is_no_others(tmp_path, bad, reason):
    path = jsonl(tmp_path, *GOOD[:3], bad, *GOOD[4:])
    rows = own(path, id="id")
    assert [bool(row.error) for row in rows] == [False, False, False, True, False, False]
    assert reason in rows[3].error and f"{path} row 4" in rows[3].error
    assert len({row.question.id for row in rows}) == 6


def test_no_real_id_is_the_id_of_a_row_without_one(tmp_path):
    lost = [{"q": "?", "a": 1}, "not json"]
    (first, second) = (row.question.id for row in own(jsonl(tmp_path, *lost, *GOOD), id="id")[:2])
    taken = [{"id": id, "q": "?", "a": 1} for id in (first, second, first.strip(), "2", "row 2", "d.jsonl row 2")]
    taken = [row for i, row in enumerate(taken) if row["id"].strip() not in {t["id"].strip() for t in taken[:i]}]
    ids = [row.question.id for row in own(jsonl(tmp_path, *lost, *taken), id="id")]
    assert len(set(ids)) == len(ids) == 2 + len(taken)


def test_the_id_of_a_row_without_one_does_not_depend_on_the_folder(tmp_path):
    ids = []
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        ids.append([row.question.id for row in own(jsonl(tmp_path / name, {"q": "?", "a": 1}, *GOOD), id="id")])
    assert ids[0] == ids[1]


def test_float_ids_of_a_column_with_gaps_are_integers(tmp_path):
    path = tmp_path / "d.parquet"
    pq.write_table(pa.table({"id": [0.0, None, 2.0], "q": ["a", "b", "c"], "a": ["1", "2", "3"]}), path)
    assert [row.question.id for row in own(path, id="id")][::2] == ["0", "2"]


def test_two_rows_of_one_id_are_still_refused_by_both_places(tmp_path):
    with pytest.raises(ValueError, match="row 1 and .*row 3 have one id, '0': make ids distinct"):
        own(jsonl(tmp_path, GOOD[0], GOOD[1], GOOD[0]), id="id")
