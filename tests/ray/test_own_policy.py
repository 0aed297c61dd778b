"""`steer run` and `steer sweep` with a policy of the user's own, from a folder that is not STEER's: the router, in a
process of its own, imports it too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, str(Path(__file__).with_name("simulated_steer.py"))]
POLICY = """
import numpy as np
from steer.policies import Act, Blind

class Turns(Blind):
    '''The large model writes every `turn`-th step.'''
    whole = False

    def __init__(self, turn=2):
        self.turn = turn

    def decide(self, view, ready_N):
        large_N = (view.step_L[ready_N] + 1) % self.turn == 0
        return np.where(large_N, Act.LARGE, Act.SMALL), np.full(len(ready_N), np.nan)
"""
MODEL = {"parameters": 1e5, "engine": {"steps": 6}}
PAIR = {"small": {"path": "simulated-small", **MODEL}, "large": {"path": "simulated-large", **MODEL}}


def steer(folder, command, config, *more):
    """The finished process, started in `folder`; the working directory is all that the workers can know it by."""
    (folder / "turns.py").write_text(POLICY)
    (folder / "config.yaml").write_text(yaml.safe_dump({"pair": PAIR, **config}))
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"PYTHONPATH": str(ROOT)}
    arguments = [*PROGRAM, command, "config.yaml", "--out", "out", *more]
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_a_sweep_chooses_the_threshold_of_a_custom_policy(tmp_path):
    policy = {"name": "custom", "object": "turns:Turns", "threshold": "turn"}
    variants = [
        {"label": "large", "policy": {"name": "large"}},
        {"label": "by turns", "policy": policy, "grid": [1, 3]},
    ]
    sizes = {"validation_questions": 6, "test_questions": 6, "test_seeds": 1}
    done = steer(tmp_path, "sweep", {"benchmarks": [{"name": "chain_math"}], "variants": variants, **sizes})
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())
    tried = {(r["split"], r["setting"]): r["share_large"] for r in rows if r["policy"] == "by turns"}
    assert tried["validation", "turn=1"] == 1.0 and 0.0 < tried["validation", "turn=3"] < 0.5
    assert [split for split, _ in tried].count("test") == 1


def test_a_run_is_named_by_the_class_and_a_bad_object_ends_it_at_once(tmp_path):
    policy = {"name": "custom", "object": "turns:Turns", "options": {"turn": 2}}
    config = {"benchmark": {"limit": 4}, "policy": policy}
    refused = steer(tmp_path, "run", config, "--set", "policy.object=turns:Turn")
    assert refused.returncode == 2
    assert "steer: policy.object = 'turns:Turn': turns has no Turn; did you mean Turns?" in refused.stderr
    assert not (tmp_path / "out").exists()
    done = steer(tmp_path, "run", config)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (row["policy"], row["n"]) == ("Turns", 4) and row["share_large"] == pytest.approx(0.5)
