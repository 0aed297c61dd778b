"""`steer run` and `steer sweep` as processes, with simulated engines: folder, exit codes, and a clean stop."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
import yaml

from pipelines.report.summary import Summary
from steer.storage.run_folder import RunFolder

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


def test_a_sweep_that_was_cut_off_goes_on_and_runs_no_ended_cell_again(tmp_path):
    config, out = tmp_path / "sweep.yaml", tmp_path / "run"
    slow = simulated_pair(step_s=0.3, steps=4)
    variants = [{"label": n, "policy": {"name": n}} for n in ("small", "large", "steer")]
    settings = {"benchmarks": [{"name": "hops"}], "validation_questions": 8, "test_questions": 8, "test_seeds": 1}
    config.write_text(yaml.safe_dump({**settings, "variants": variants, "pair": slow}))
    sweep = start(["sweep", config, "--out", out], stderr=subprocess.DEVNULL)
    run = RunFolder(out)
    while not ((out / "run.json").exists() and run.finished_cells()):
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"the sweep ended by itself, with {sweep.wait(0.2)}")
    sweep.kill()
    sweep.wait()
    ended = run.finished_cells()
    assert not any("/test/" in cell for cell in ended)
    before = {part: Path(part).stat().st_mtime_ns for part in run.parts("traces")}

    done = start(["sweep", config, "--out", out, "--resume"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, errors = done.communicate(timeout=300)
    assert done.returncode == 0, errors

    traces = run.read("traces").to_pandas()
    assert not traces.duplicated(["cell", "trace_id"]).any()
    assert set(traces.groupby("cell").size()) == {8}
    assert {c["name"] for c in run.describe()["cells"]} == set(traces["cell"])
    assert run.describe()["finished"] is not None
    kept = [part for part in before if Path(part).exists() and set(pq.read_table(part)["cell"].to_pylist()) <= ended]
    assert len(kept) > 1 and all(Path(part).stat().st_mtime_ns == before[part] for part in kept)
    rows = json.loads((out / "summary.json").read_text())
    assert [r["policy"] for r in rows if r["split"] == "test"] == ["small", "large", "steer"]


def test_the_paper_s_experiment_leaves_every_table_and_figure(tmp_path):
    config, out = tmp_path / "experiment.yaml", tmp_path / "run"
    sizes = {"validation_questions": 20, "test_questions": 20}
    config.write_text(yaml.safe_dump({**sizes, "pair": simulated_pair(steps=3, exact=True)}))
    ask = ["experiment", "paper", config, "--benchmarks", "hops", "--out", out]
    first = start(ask, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    printed, errors = first.communicate(timeout=600)
    assert first.returncode == 0, errors
    assert "rsd: not run, the pair has no process reward model" in printed and "query_router: not run" in printed

    tables, figures = ({path.stem for path in (out / "report" / d).iterdir()} for d in ("tables", "figures"))
    assert {"table-1-2", "table-1-2-best-on-test", "table-3", "figure-3", "figure-4", "against-steer"} <= tables
    assert {"figure-3-percentiles", "figure-4-latency"} <= figures
    page = (out / "report" / "report.html").read_text()
    assert all(f"{name}: " in page for name in ("Tables 1 and 2", "Table 3", "Figure 3", "Figure 4"))
    methods = pd.read_csv(out / "report" / "tables" / "table-1-2.csv")
    assert list(methods["policy"]) == [
        *("small", "large", "random_query", "random_step"),
        *("spec_reason", "steer paper", "steer stepwise", "steer"),
    ]
    assert (methods["a_f"] - 100 * methods["accuracy"] / methods["flops_paper"]).abs().max() < 1e-6
    groups = pd.read_csv(out / "report" / "tables" / "table-3.csv")
    assert list(groups["groups"]) == [1, 2, 5, 10] * 2


def test_a_stop_ends_cleanly_and_leaves_no_process(tmp_path):
    """By SIGTERM, which becomes what Ctrl-C is."""
    config, out = tmp_path / "run.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump({"pair": simulated_pair(step_s=2.0, steps=500)}))
    few_steps = ["--set", "benchmark.limit=20", "--set", "policy.preset=stepwise"]
    run = start(["run", config, "--out", out, *few_steps], stderr=subprocess.PIPE)
    try:
        for line in run.stderr:
            if "live 20" in line:
                break
        else:
            pytest.fail("the run ended before it began")
        children = psutil.Process(run.pid).children(recursive=True)
        assert any("Router" in " ".join(child.cmdline()) for child in children)
        run.send_signal(signal.SIGTERM)
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
