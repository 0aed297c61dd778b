"""A run that is stopped, resumed with its error rows asked again, and resumed once more: each question has one row, and
what the run took adds up."""

import json
import signal
import subprocess
from contextlib import suppress

import pytest
import yaml
from patience import PATIENCE_S
from test_command_line import simulated_pair, start

from steer.storage.run_folder import RunFolder

pytestmark = pytest.mark.ray

GOOD, BAD = 8, 4


@pytest.fixture
def steer(local_ray, tmp_path):
    """Starts `steer run --resume` on made-up questions; the last ones are refused while the mark is missing."""
    rows = [{"q": f"question {i}{' bad' if i >= GOOD else ''}", "a": 7} for i in range(GOOD + BAD)] + [{"q": "no gold"}]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = {"source": str(tmp_path / "own.jsonl"), "question": "q", "answer": "a", "grader": "math", "split": "all"}
    engine = {"steps": 30, "exact": True, "step_s": 0.2, "refuse": "bad", "refuse_mark": str(tmp_path / "mark")}
    config = {"pair": simulated_pair(**engine), "benchmark": own, "policy": {"name": "steer", "preset": "stepwise"}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))

    def started(*options):
        command = ["run", tmp_path / "run.yaml", "--resume", tmp_path / "run", *options]
        return start(command, local_ray, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    return started


def ended(process):
    said, wrong = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, wrong
    return said, wrong


def took(run):
    described = run.describe()
    engines = described["engines"]
    by_role = {f"{name} {role}": s for name in ("replica_s", "busy_s", "tokens") for role, s in engines[name].items()}
    return {"wall": described["time"]["wall"]["wall"], **by_role}


def test_a_stopped_run_asks_its_error_rows_again_and_its_totals_add_up(steer, tmp_path):
    first = steer()
    while True:
        with suppress(FileNotFoundError):
            if (tmp_path / "run/traces").exists() and RunFolder.open(tmp_path / "run").read("traces").num_rows > BAD:
                break
        with suppress(subprocess.TimeoutExpired):
            first.wait(0.1)
            pytest.fail(f"the run ended by itself: {first.communicate()}")
    first.send_signal(signal.SIGTERM)
    _, wrong = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 130, wrong
    run = RunFolder.open(tmp_path / "run")
    stopped = took(run)
    assert stopped["wall"] > 0 and stopped["tokens small"] > 0

    (tmp_path / "mark").touch()
    _, wrong = ended(steer("--retry-errors"))
    assert f"asked again: engine {BAD}; that stay: input 1" in wrong
    traces = run.read("traces")
    assert len(set(traces["trace_id"].to_pylist())) == traces.num_rows == GOOD + BAD + 1
    assert sorted(traces["status"].to_pylist()) == ["answered"] * (GOOD + BAD) + ["error"]
    steps = run.read("steps", columns=["trace_id", "step", "attempt"]).to_pylist()
    assert len({tuple(step.values()) for step in steps}) == len(steps)
    whole = took(run)
    assert all(whole[name] >= stopped[name] for name in stopped) and whole["wall"] > stopped["wall"]
    written = sum(sum(traces[name].to_pylist()) for name in ("tokens_small", "tokens_large"))
    assert whole["tokens small"] + whole["tokens large"] >= written
    (note,) = run.describe()["retried"]
    assert (note["kinds"], note["traces"]) == ({"engine": BAD}, BAD)
    assert run.describe()["finished"] and run.read_file("retry.json") is None

    _, wrong = ended(steer("--retry-errors"))
    assert "asked again: none; that stay: input 1" in wrong
    assert run.read("traces") == traces and took(run) == whole
