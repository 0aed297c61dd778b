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
