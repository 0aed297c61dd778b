"""The lengths of steps that engines are simulated with: drawn, fitted, and read from a run."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.bench.step_lengths import FITTED, SHIPPED, TRACES, draw, fit, read
from steer.config.load import SettingsError


def table(**columns):
    rows = {
        "cell": ["c", "c", "c", "d"],
        "trace_id": ["q1#0", "q1#0", "q1#0", "q1#0"],
        "step": [1, 0, 0, 0],
        "tokens": [20, 10, 99, 7],
        "accepted": [True, True, False, True],
        "model": ["small"] * 4,
    }
    return pa.table({name: values for name, values in (rows | columns).items() if values is not None})


def test_the_shipped_file_is_what_its_command_draws():
    assert pq.read_table(SHIPPED).equals(draw())
    assert SHIPPED.stat().st_size < 100_000


def test_shipped_traces_have_long_tails():
    traces = read()
    tokens = np.concatenate(traces)
    assert len(traces) == TRACES
    assert np.percentile(tokens, 99) > 10 * np.median(tokens)
    assert max(map(len, traces)) > 4 * np.median([len(steps) for steps in traces])


def test_a_fit_finds_the_parameters_that_texts_were_drawn_by():
    drawn = draw(traces=2000)
    steps = [drawn["tokens"].to_pylist()[start:end] for start, end in bounds(drawn)]
    words = ["\n\n".join(" ".join(["w"] * round(tokens / 1.3)) or "w" for tokens in trace) for trace in steps]
    long_enough = fit(words)
    assert long_enough.tokens_mean == pytest.approx(FITTED.tokens_mean, abs=0.1)
    assert long_enough.tokens_between_sd == pytest.approx(FITTED.tokens_between_sd, abs=0.1)
    assert long_enough.tokens_within_sd == pytest.approx(FITTED.tokens_within_sd, abs=0.1)


def bounds(drawn):
    starts = [i for i, step in enumerate(drawn["step"].to_pylist()) if step == 0]
    return zip(starts, [*starts[1:], drawn.num_rows], strict=True)


@pytest.mark.parametrize("folder", ["", "steps", "run/steps"])
def test_kept_steps_are_read_in_order_from_a_file_a_table_and_a_run(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    pq.write_table(table(), tmp_path / folder / "part.parquet")
    given = {"": tmp_path / "part.parquet", "steps": tmp_path / "steps", "run/steps": tmp_path / "run"}[folder]
    assert read(given) == [[10, 20], [7]]


def test_a_last_step_without_a_token_is_no_step(tmp_path):
    pq.write_table(table(tokens=[0, 10, 99, 7]), tmp_path / "part.parquet")
    assert read(tmp_path / "part.parquet") == [[10], [7]]


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"tokens": None}, "no column tokens"),
        ({"tokens": ["ten", "20", "99", "7"]}, "column tokens must hold integers"),
        ({"tokens": [None, 1, 2, 3]}, "column tokens must hold integers"),
        ({"tokens": [-1, 1, 2, 3]}, "column tokens holds a number below 0"),
        ({"accepted": [1, 1, 0, 1]}, "column accepted must hold true or false"),
        ({"accepted": [False] * 4}, "no kept step"),
    ],
)
def test_a_bad_table_is_refused_by_file_column_and_remedy(tmp_path, columns, named):
    path = tmp_path / "bad.parquet"
    pq.write_table(table(**columns), path)
    with pytest.raises(SettingsError, match=named) as refused:
        read(path)
    assert str(path) in str(refused.value) and "steps/ folder of a run" in str(refused.value)


@pytest.mark.parametrize("content", [None, b"step,tokens\n0,10\n"])
def test_what_is_no_parquet_is_refused(tmp_path, content):
    path = tmp_path / "steps.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match="not readable as Parquet"):
        read(path)
