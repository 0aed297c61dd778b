"""`steer prefixes` as a process, with simulated engines."""

import json
import subprocess
from contextlib import suppress

import pytest
import yaml
from patience import PATIENCE_S
from test_command_line import simulated_pair, start

from steer.storage.run_folder import RunFolder

pytestmark = pytest.mark.ray


def table(run):
    traces, steps = run.read("traces").to_pandas(), run.read("steps").to_pandas()
    small = steps[steps["cell"] == "small"].groupby("question_id")["text"].agg(list)
    return traces, small


def test_the_large_model_goes_on_from_every_step_of_every_small_answer(local_ray, tmp_path):
    config, out = tmp_path / "run.yaml", tmp_path / "table"
    config.write_text(yaml.safe_dump({"benchmark": {"name": "hops", "limit": 12}, "pair": simulated_pair(steps=3)}))
    done = start(["prefixes", config, "--out", out], local_ray, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    printed, errors = done.communicate(timeout=PATIENCE_S)
    assert done.returncode == 0, errors
    run = RunFolder.open(out)
    traces, small = table(run)
    assert run.describe()["kind"] == "prefixes" and "validation" in traces["question_id"].iloc[0]
    assert f"12 questions, {small.map(len).sum()} completions" in printed

    for question, texts in small.items():
        mine = traces[traces["question_id"] == question].set_index("cell")
        assert set(mine.index) == {"small", *(f"large@{k}" for k in range(len(texts)))}
        assert mine.loc["small", "text"] == "".join(texts)
        for k in range(len(texts)):
            completed = mine.loc[f"large@{k}"]
            assert completed["text"].startswith("".join(texts[:k])) and completed["text"] != "".join(texts[:k])
            assert completed["tokens_small"] == 0 < completed["tokens_large"]
            assert completed["prompt_tokens"] == 10 * (1 + k), "it reads the prompt and the steps before"
            assert completed["extracted"] == "7", "graded"
    scored = run.read("steps", ["small"]).to_pandas()
    assert scored["margin_min_small"].notna().all() and (scored["decision"].isin(["small", "end"])).all()


def test_a_table_that_was_cut_off_goes_on_without_asking_again(tmp_path):
    log, out = tmp_path / "log", tmp_path / "table"
    pair = simulated_pair(step_s=0.2, steps=6, exact=True, log=str(log))
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({"benchmark": {"name": "hops", "limit": 4}, "pair": pair}))
    ask = ["prefixes", config, "--out", out]
    cut_off = start(ask, stderr=subprocess.DEVNULL)
    run = RunFolder(out)
    while not ((out / "run.json").exists() and run.finished_cells()):
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"it ended by itself, with {cut_off.wait(0.1)}")
    cut_off.kill()
    cut_off.wait()
    before = run.read("traces").to_pandas().set_index(["cell", "trace_id"])["text"]
    done = start([*ask, "--resume"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, errors = done.communicate(timeout=PATIENCE_S)
    assert done.returncode == 0, errors
    traces, small = table(run)
    assert len(traces) == 4 * (1 + 6) and not traces.duplicated(["cell", "trace_id"]).any()
    assert small.map(len).eq(6).all() and run.describe()["finished"] is not None
    after = traces.set_index(["cell", "trace_id"])["text"]
    assert after.loc[before.index].equals(before)


def test_another_configuration_is_refused_before_anything_starts(tmp_path):
    out = tmp_path / "table"
    RunFolder.create(out, "prefixes", {"seed": 7, "pair": {}, "pools": {}}, [7])
    done = start(["prefixes", "--out", out, "--resume"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, errors = done.communicate(timeout=PATIENCE_S)
    assert done.returncode == 2 and "give the same configuration" in errors
    assert json.loads((out / "run.json").read_text())["seeds"] == [7]
