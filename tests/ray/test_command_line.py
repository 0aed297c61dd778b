"""`steer run` and `steer sweep` as processes, with simulated engines: folder, exit codes, and a clean stop."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from pipelines.store import RunFolder
from pipelines.summary import Summary

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, str(Path(__file__).with_name("simulated_steer.py"))]


def simulated_pair(**options):
    return {
        "small": {"path": "simulated-small", "parameters": 4e4, "engine": options},
        "large": {"path": "simulated-large", "parameters": 7e5, "engine": options},
    }


def start(arguments, **streams):
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        text=True,
        # A shell that runs the tests in the background has SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **streams,
    )


def test_sweep_leaves_tables_summary_picture_and_marks_what_validation_chose(tmp_path):
    config, out = tmp_path / "sweep.yaml", tmp_path / "run"
    variants = [
        {"label": "small", "policy": {"name": "small"}},
        {"label": "large", "policy": {"name": "large"}},
        {"label": "random_query", "policy": {"name": "random_query"}, "grid": [0.5]},
        {"label": "steer", "policy": {"name": "steer"}, "grid": [0.2, 0.8]},
    ]
    config.write_text(
        yaml.safe_dump(
            {
                "benchmarks": [{"name": "chain_math"}],
                "validation_questions": 12,
                "test_questions": 16,
                "test_seeds": 2,
                "pair": simulated_pair(),
                "variants": variants,
            }
        )
    )
    done = start(["sweep", config, "--out", out], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    printed, errors = done.communicate(timeout=300)
    assert done.returncode == 0, errors

    rows = json.loads((out / "summary.json").read_text())
    assert all(list(row) == list(Summary._fields) for row in rows)
    listed = [(r["split"], r["policy"], r["setting"], r["seeds"], r["n"]) for r in rows]
    validation = [(*entry[1:], 1, 12) for entry in [(0, "small", ""), (0, "large", ""), (0, "random_query", "p=0.5")]]
    assert [r[1:] for r in listed if r[0] == "validation"] == [
        *validation,
        ("steer", "gamma=0.2", 1, 12),
        ("steer", "gamma=0.8", 1, 12),
    ]
    (chosen,) = [r for r in listed if r[:2] == ("test", "steer")]
    assert chosen[3:] == (2, 16)
    assert f"{chosen[2]} *" in printed
    assert all(r["accuracy_low"] <= r["accuracy"] <= r["accuracy_high"] for r in rows)
    assert all(r["random_query_accuracy"] is not None and r["seconds"] >= 0 for r in rows)
    assert RunFolder.open(out).read("traces").num_rows == 5 * 12 + 4 * 16 * 2
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG") and "</svg>" in (out / "curve.svg").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_cleanly_and_leaves_no_process(number, tmp_path):
    config, out = tmp_path / "run.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump({"pair": simulated_pair(step_s=2.0, steps=500)}))
    run = start(["run", config, "--out", out, "--set", "benchmark.limit=20"], stderr=subprocess.PIPE)
    try:
        for line in run.stderr:
            if "live 20" in line:
                break
        else:
            pytest.fail("the run ended before it began")
        children = psutil.Process(run.pid).children(recursive=True)
        assert any("Router" in " ".join(child.cmdline()) for child in children)
        run.send_signal(number)
        assert "steer: stopped" in run.communicate(timeout=60)[1]
        assert run.returncode == 130
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive
    finally:
        run.kill()
        run.wait()


def test_models_that_do_not_start_fail_with_the_reason_and_leave_no_folder(tmp_path):
    config, out = tmp_path / "run.yaml", tmp_path / "run"
    pools = {"large": {"label": "nowhere", "start_timeout_s": 0.5}}
    config.write_text(yaml.safe_dump({"pair": simulated_pair(), "pools": pools}))
    run = start(["run", config, "--out", out], stderr=subprocess.PIPE)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 1
    assert "steer: the models did not start" in errors and "steer-pool=nowhere" in errors
    assert not out.exists()


def test_more_groups_than_questions_is_usage(tmp_path):
    out = tmp_path / "run"
    run = start(
        ["run", "--out", out, "--set", "benchmark.limit=3", "--set", "benchmark.groups=4"], stderr=subprocess.PIPE
    )
    assert "fewer groups" in run.communicate(timeout=120)[1]
    assert run.returncode == 2
    assert not out.exists()
