"""Refused rows as a person meets them: counted beside the accuracy, and a run without a question starts no model."""

import json
import subprocess

import pytest
import yaml
from patience import PATIENCE_S
from test_command_line import simulated_pair, start

pytestmark = pytest.mark.ray


def steer_run(tmp_path, address, rows, grader):
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = {"source": str(tmp_path / "d.jsonl"), "question": "q", "answer": "a", "grader": grader, "split": "all"}
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({"pair": simulated_pair(), "benchmark": own}))
    command = ["run", config, "--out", tmp_path / "run"]
    run = start(command, address, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said, wrong = run.communicate(timeout=PATIENCE_S)
    return run.returncode, said, wrong


def test_a_run_without_a_question_stops_before_a_model_is_loaded(local_ray, tmp_path):
    code, said, wrong = steer_run(tmp_path, local_ray, [{"q": f"{i}?", "a": i % 4} for i in range(5)], "choice")
    assert code == 2 and "Traceback" not in wrong and "accuracy" not in said
    assert "none of the 5 traces can be used" in wrong and "write the letter" in wrong and "d.jsonl row 1" in wrong
    assert not (tmp_path / "run").exists()


def test_refused_rows_are_counted_beside_the_accuracy(local_ray, tmp_path):
    rows = [{"q": f"{i}?", "a": i + 0.0} for i in range(20)] + [{"q": "x?", "a": 1.5}, {"q": "y?"}]
    code, said, wrong = steer_run(tmp_path, local_ray, rows, "aime")
    assert code == 0, wrong
    assert "accuracy" in said and "2 of 22 traces could not be asked and count as wrong" in said
    (described,) = json.loads((tmp_path / "run/run.json").read_text())["benchmarks"]
    assert described["refused"] == 2 and "'a'" in described["refusal"]
