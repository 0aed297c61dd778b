"""A run of a pair that thinks, on real Ray actors with simulated engines: from configuration to graded tables."""

import os
import subprocess
import sys

import pytest
import yaml
from paths import ROOT
from patience import PATIENCE_S

from steer.storage.run_folder import RunFolder

pytestmark = pytest.mark.ray

TAG = "</think>"
STEPS, TOKENS = 8, 10


def run_steer(folder, address, thought, routing, *arguments):
    """`thought`: steps of the small and the large model's thought; of each trace the engines write 8 pieces."""
    engines = {
        name: {"steps": STEPS, "exact": True, "tokens": TOKENS, "thought": thought} for name in ("small", "large")
    }
    models = {
        name: {"path": f"simulated:{name}", "parameters": 1e6, "thinks": {}, "engine": engine}
        for name, engine in engines.items()
    }
    config = {
        "benchmark": {
            **{"name": "made_up", "source": str(folder / "rows.jsonl"), "question": "question", "answer": "answer"},
            **{"grader": "math", "split": "all"},
        },
        "pair": models,
        "routing": routing,
        "policy": {"name": "steer", "preset": "stepwise", "fit_from": "bank"},
    }
    rows = "".join(f'{{"question": "what is 3 + 4 ({i})?", "answer": "7"}}\n' for i in range(20))
    (folder / "rows.jsonl").write_text(rows)
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "pipelines.cli", "run", str(folder / "run.yaml"), *arguments]
    environment = {**os.environ, "RAY_ADDRESS": address}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return RunFolder.open(folder / "run")


@pytest.mark.parametrize(
    ("way", "budget"), [({}, None), ({"barrier": "rolling", "write_on": True}, 20)], ids=["strict", "write_on"]
)
def test_the_answer_behind_the_thought_is_graded_and_columns_tell_the_two_apart(local_ray, tmp_path, way, budget):
    """The thought has 4 steps of the 8. A budget of 20 tokens closes it after two of them."""
    routing = {**way, "thought_tokens": budget}
    run = run_steer(tmp_path, local_ray, 4, routing, "--out", str(tmp_path / "run"))
    traces = run.read("traces").to_pylist()
    assert len(traces) == 20
    for trace in traces:
        assert (trace["correct"], trace["extracted"], trace["status"]) == (True, "7", "answered")
        assert (trace["closing_tag"], trace["thought_cut"]) == (TAG, budget is not None)
        thought = 4 if budget is None else 2
        assert (trace["steps_thought"], trace["tokens_thought"]) == (thought, thought * TOKENS)
    steps = run.read("steps").to_pandas()
    kept = steps[steps.accepted]
    assert (kept.groupby("trace_id").thought.sum() == (4 if budget is None else 2)).all()
    assert kept[kept.thought].text.str.contains(TAG).sum() == 20


def test_a_thought_that_never_ends_is_wrong_and_says_so(local_ray, tmp_path):
    run = run_steer(tmp_path, local_ray, 1000, {}, "--out", str(tmp_path / "run"))
    traces = run.read("traces").to_pandas()
    assert not traces.correct.any() and set(traces.rule) == {"unclosed_thought"} and set(traces.extracted) == {""}
    assert (traces.steps_thought == traces.steps).all()
