"""`steer run` and `steer sweep` as processes, with simulated engines: folder, exit codes, and a clean stop."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml
from paths import ROOT
from patience import PATIENCE_S

from pipelines.report.summary import Summary
from steer.storage.run_folder import RunFolder

pytestmark = pytest.mark.ray

PROGRAM = [sys.executable, str(Path(__file__).with_name("simulated_steer.py"))]


def simulated_pair(**options):
    return {
        "small": {"path": "simulated-small", "parameters": 4e4, "engine": options},
        "large": {"path": "simulated-large", "parameters": 7e5, "engine": options},
    }


def start(arguments, address=None, cwd=ROOT, **streams):
    """`address`: of the cluster to run on; None: one of its own."""
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"PYTHONPATH": str(ROOT)}
    environment |= {"RAY_ADDRESS": address} if address else {}
    return subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        text=True,
        # A shell that runs the tests in the background has SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **streams,
    )


def steps_of(run, cells):
    """The steps of some cells, with their times."""
    steps = run.read("steps").to_pandas()
    keys = ["cell", "trace_id", "step", "attempt"]
    return steps[steps["cell"].isin(cells)].sort_values(keys, ignore_index=True)


def test_a_sweep_that_was_cut_off_goes_on_and_leaves_tables_summary_and_picture(tmp_path):
    """From a folder that is not STEER's, with a policy of the user's own: the router, a process of its own, imports it
    by the working directory alone."""
    out = tmp_path / "run"
    turns = {"name": "custom", "object": "turns:Turns", "threshold": "turn"}
    variants = [
        {"label": "small", "policy": {"name": "small"}},
        {"label": "large", "policy": {"name": "large"}},
        {"label": "random_query", "policy": {"name": "random_query"}, "grid": [0.5]},
        {"label": "steer", "policy": {"name": "steer"}, "grid": [0.2, 0.8]},
        {"label": "by turns", "policy": turns, "grid": [1, 3]},
    ]
    sizes = {"validation_questions": 8, "test_questions": 10, "test_seeds": 2}
    config = {"benchmarks": [{"name": "hops"}], "variants": variants, "pair": simulated_pair(step_s=0.1, steps=4)}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sizes | config))
    shutil.copy(ROOT / "tests" / "turns.py", tmp_path)
    ask = ["sweep", "sweep.yaml", "--out", "run"]
    sweep = start(ask, cwd=tmp_path, stderr=subprocess.DEVNULL)
    run = RunFolder(out)
    while not ((out / "run.json").exists() and run.finished_cells()):
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"the sweep ended by itself, with {sweep.wait(0.2)}")
    sweep.kill()
    sweep.wait()
    ended = run.finished_cells()
    assert not any("/test/" in cell for cell in ended)
    before = steps_of(run, ended)
    assert len(before)

    done = start([*ask, "--resume"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    printed, errors = done.communicate(timeout=PATIENCE_S)
    assert done.returncode == 0, errors

    traces = run.read("traces").to_pandas()
    assert not traces.duplicated(["cell", "trace_id"]).any()
    assert {c["name"] for c in run.describe()["cells"]} == set(traces["cell"])
    assert run.describe()["finished"] is not None
    assert steps_of(run, ended).equals(before), "what had ended was written again: its steps took other times"

    rows = json.loads((out / "summary.json").read_text())
    assert all(list(row) == list(Summary._fields) for row in rows)
    listed = [(r["split"], r["policy"], r["setting"], r["seeds"], r["n"]) for r in rows]
    settings = [("small", ""), ("large", ""), ("random_query", "p=0.5")]
    settings += [("steer", "gamma=0.2"), ("steer", "gamma=0.8"), ("by turns", "turn=1"), ("by turns", "turn=3")]
    assert [r for r in listed if r[0] == "validation"] == [("validation", *setting, 1, 8) for setting in settings]
    tested = [r for r in listed if r[0] == "test"]
    assert [r[1] for r in tested] == ["small", "large", "random_query", "steer", "by turns"]
    assert all(r[3:] == (2, 10) for r in tested) and f"{tested[3][2]} *" in printed
    assert all(r["accuracy_low"] <= r["accuracy"] <= r["accuracy_high"] for r in rows)
    assert all(r["random_query_accuracy"] is not None and r["seconds"] >= 0 for r in rows)
    shares = {r["setting"]: r["share_large"] for r in rows if r["policy"] == "by turns" and r["split"] == "validation"}
    assert shares["turn=1"] == 1.0 and 0.0 < shares["turn=3"] < 0.5
    assert run.read("traces").num_rows == 7 * 8 + 5 * 10 * 2
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG") and "</svg>" in (out / "curve.svg").read_text()


def test_the_paper_s_experiment_leaves_every_table_and_figure(local_ray, tmp_path):
    config, out = tmp_path / "experiment.yaml", tmp_path / "run"
    sizes = {"validation_questions": 20, "test_questions": 20}
    config.write_text(yaml.safe_dump({**sizes, "pair": simulated_pair(steps=3, exact=True)}))
    ask = ["experiment", "paper", config, "--benchmarks", "hops", "--out", out]
    first = start(ask, local_ray, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    printed, errors = first.communicate(timeout=PATIENCE_S)
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
        assert "steer: stopped" in run.communicate(timeout=PATIENCE_S)[1]
        assert run.returncode == 130
        _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
        assert not alive
    finally:
        run.kill()
        run.wait()


def test_models_that_do_not_start_fail_with_the_reason_and_leave_no_folder(local_ray, tmp_path):
    config, out = tmp_path / "run.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump({"pair": simulated_pair(unusable=True)}))
    run = start(["run", config, "--out", out], local_ray, stderr=subprocess.PIPE)
    _, errors = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 1
    assert "steer: the models did not start" in errors and "it is simulated so" in errors
    assert not out.exists()


@pytest.mark.parametrize(
    ("setting", "own", "missing"),
    [
        ("pools.small.gpus=64", True, "pools.small.gpus = 64"),
        ("pools.large.label=larg", False, "no node has the label steer-pool=larg; the nodes have none of that name"),
        ("pools.large.replicas=1000", False, "fewer places than the first replicas need"),
    ],
)
def test_a_run_for_which_the_cluster_can_have_no_place_is_usage(local_ray, tmp_path, setting, own, missing):
    """At once: with the default patience of ten minutes for a node the test would not end."""
    config, out, log = tmp_path / "run.yaml", tmp_path / "run", tmp_path / "log"
    config.write_text(yaml.safe_dump({"pair": simulated_pair(log=str(log))}))
    command = ["run", config, "--out", out, "--set", setting]
    run = start(command, None if own else local_ray, stderr=subprocess.PIPE)
    _, errors = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 2
    assert "steer: the cluster has no place for this run" in errors and missing in errors
    assert not out.exists() and not log.exists()


def test_more_groups_than_questions_is_usage(local_ray, tmp_path):
    out = tmp_path / "run"
    run = start(
        ["run", "--out", out, "--set", "benchmark.limit=3", "--set", "benchmark.groups=4"],
        local_ray,
        stderr=subprocess.PIPE,
    )
    assert "fewer groups" in run.communicate(timeout=PATIENCE_S)[1]
    assert run.returncode == 2
    assert not out.exists()
