"""The prefix table as it is read from a run folder."""

import numpy as np
import pytest
from prefix_tables import made_table, write_run

from steer.plans.table import read_prefix_table


@pytest.fixture(scope="module")
def table():
    made = made_table(30, seed=5)
    assert made.steps_Q.max() == made.tokens_QK.shape[1]
    return made


def assert_same(read, table):
    for name, value in vars(table).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(read, name), value, err_msg=name)
    assert read.questions == table.questions and read.scores.keys() == table.scores.keys()
    for key, score_QK in table.scores.items():
        np.testing.assert_array_equal(read.scores[key], score_QK, err_msg=str(key))


@pytest.mark.parametrize("under", ["", "made_up/validation/"])
def test_what_was_written_is_read(tmp_path, table, under):
    read = read_prefix_table(write_run(tmp_path / "run", table, under))
    assert_same(read, table)
    assert (read.n_small, read.n_large, read.benchmark, read.left_out) == (1e9, 7e9, "made_up", ())


def test_questions_without_all_completions_are_left_out_and_counted(tmp_path, table):
    drop, fail = ("q000003", 0), ("q000005", table.steps_Q[5] - 1)
    read = read_prefix_table(write_run(tmp_path / "run", table, drop=[drop], fail=[fail]))
    kept = [q not in ("q000003", "q000005") for q in table.questions]
    short = table.take(kept)
    assert read.questions == short.questions
    np.testing.assert_array_equal(read.large_tokens_QK, short.large_tokens_QK)
    assert dict(read.left_out) == {"a completion failed or is missing": 2}


def test_a_table_of_several_benchmarks_needs_one_named(tmp_path, table):
    root = write_run(tmp_path / "run", table, "one/validation/")
    other = write_run(tmp_path / "other", made_table(20, seed=2), "two/validation/")
    for name in ("traces", "steps"):
        for part in (tmp_path / "other" / name).glob("part-*.parquet"):
            part.rename(tmp_path / "run" / name / f"other-{part.name}")
    with pytest.raises(ValueError, match="one/validation, two/validation: name one"):
        read_prefix_table(root)
    assert_same(read_prefix_table(root, "one/validation"), table)
    assert other.exists()


def test_another_run_is_no_table(tmp_path, table):
    with pytest.raises(ValueError, match="a run of `steer sweep`, not a prefix table: give the --out folder"):
        read_prefix_table(write_run(tmp_path / "run", table, kind="sweep"))
    with pytest.raises(FileNotFoundError, match="no run.json"):
        read_prefix_table(tmp_path / "nothing")


def test_missing_scores_are_named(tmp_path, table):
    columns = [f"{m}{a}_small" for m in ("max_prob", "margin") for a in ("", "_min")]
    with pytest.raises(ValueError, match="no scores by the small model"):
        read_prefix_table(write_run(tmp_path / "run", table, without=columns))
    with pytest.raises(ValueError, match="steps: column tokens is empty"):
        read_prefix_table(write_run(tmp_path / "other", table, without=["tokens"]))


def test_without_counted_tokens_there_is_no_correction_by_length(tmp_path, table):
    from steer.plans.signals import signals_of

    read = read_prefix_table(write_run(tmp_path / "run", table, without=["scored_tokens_small"]))
    assert np.isnan(read.scored_QK).all()
    assert not any(signal.by_length for signal in signals_of(read)) and any(s.by_length for s in signals_of(table))
