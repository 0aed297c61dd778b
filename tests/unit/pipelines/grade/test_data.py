"""`steer data` and `steer show-prompt`, on made-up rows and the embedded pair's tokenizers."""

import json

import pytest
from paths import FIXTURES

from pipelines import cli


def printed(capsys, *arguments):
    assert cli.main([str(argument) for argument in arguments]) == cli.OK
    return capsys.readouterr().out


def test_data_counts_rows_splits_levels_and_lengths_and_lists_what_is_refused(capsys, tmp_path):
    rows = (FIXTURES / "math500/test.jsonl").read_text().splitlines()
    rows[3] = json.dumps({k: v for k, v in json.loads(rows[3]).items() if k != "answer"})
    (tmp_path / "test.jsonl").write_text("\n".join(rows))
    said = printed(capsys, "data", "math500", "--source", tmp_path / "test.jsonl", "--pair", "embedded")
    assert "math500: 5 rows, 4 questions, 1 refused" in said
    assert "splits: validation 1, test 4" in said
    assert "test.jsonl row 4: field 'answer' is missing" in said
    assert f"  2 {2:6d} ####" in said
    assert "tokens of embedded:large, chat template included" in said


def test_show_prompt_prints_the_row_as_text_and_as_a_template_makes_it(capsys):
    arguments = ("show-prompt", "kor_bench", "--source", FIXTURES / "kor_bench", "--row", 2, "--split", "all")
    said = printed(capsys, *arguments)
    assert "row 2 of 4: counterfactual/1" in said and "gold: [[B]]" in said
    assert "--- system ---" in said and "--- user ---\nRule:\nIn this world rivers flow uphill" in said
    templated = printed(capsys, *arguments, "--pair", "embedded")
    assert "--- as embedded:small is given it ---\n<|user|>You solve puzzles" in templated
    assert templated.rstrip().endswith("<|assistant|>")


def test_own_data_is_shown_by_its_field_names(capsys, tmp_path):
    (tmp_path / "own.jsonl").write_text('{"q": "Why?", "a": "So"}\n{"a": "So"}\n')
    own = ("--source", tmp_path / "own.jsonl", "--set", "question=q", "--set", "answer=a", "--set", "grader=exact")
    assert "--- user ---\nWhy?" in printed(capsys, "show-prompt", "own", *own, "--split", "all")
    assert "refused: " in printed(capsys, "show-prompt", "own", *own, "--split", "all", "--row", 2)
    assert "2 rows, 1 questions, 1 refused" in printed(capsys, "data", "own", *own)


def test_a_folder_of_one_split_has_no_row_in_the_other(capsys, tmp_path):
    (tmp_path / "test.mcq.json").write_bytes((FIXTURES / "acpbench/app/test.mcq.json").read_bytes())
    said = printed(capsys, "data", "acpbench", "--source", tmp_path)
    assert "splits: validation 0, test 2" in said and "0 refused" in said


def test_golds_that_no_answer_can_match_are_listed_and_not_graded(capsys, tmp_path):
    golds = [27.0, "27.5", "nan", None, 1e19, 5]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps({"q": "Why?", "a": gold}) + "\n" for gold in golds))
    own = ("--source", tmp_path / "own.jsonl", "--set", "question=q", "--set", "answer=a", "--set", "grader=aime")
    said = printed(capsys, "data", "own", *own, "--check-grading")
    assert "6 rows, 2 questions, 4 refused" in said
    assert "refused, and not graded here: 4 rows" in said and "it holds '27.5'" in said
    assert "gold in the form that the prompt asks for: 2 of 2 right" in said


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("show-prompt", "math500", "--source", FIXTURES / "math500", "--row", "9"), "rows 1 to 4"),
        (("show-prompt", "math500", "--source", "nowhere"), "there is no nowhere"),
        (("data", "math5000"), "no benchmark of that name"),
        (("data", "hops", "--pair", "qwen9"), "known pairs are"),
        (("data", "hops", "--set", "splitt=all"), "did you mean split?"),
    ],
)
def test_what_cannot_be_shown_is_usage_with_the_remedy(capsys, arguments, reason):
    assert cli.main([str(argument) for argument in arguments]) == cli.USAGE
    assert reason in capsys.readouterr().err
