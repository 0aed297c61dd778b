"""`steer sweep` with a policy of the user's own, from a folder that is not STEER's: the router, in a
process of its own, imports it too."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, str(Path(__file__).with_name("simulated_steer.py"))]
MODEL = {"parameters": 1e5, "engine": {"steps": 6}}
PAIR = {"small": {"path": "simulated-small", **MODEL}, "large": {"path": "simulated-large", **MODEL}}


def test_a_sweep_chooses_the_threshold_of_a_custom_policy(tmp_path):
    policy = {"name": "custom", "object": "turns:Turns", "threshold": "turn"}
    variants = [
        {"label": "large", "policy": {"name": "large"}},
        {"label": "by turns", "policy": policy, "grid": [1, 3]},
    ]
    sizes = {"validation_questions": 6, "test_questions": 6, "test_seeds": 1}
    config = {"pair": PAIR, "benchmarks": [{"name": "chain_math"}], "variants": variants, **sizes}
    shutil.copy(ROOT / "tests" / "turns.py", tmp_path)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(config))
    # The working directory is all that the router's process can know the file by.
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"PYTHONPATH": str(ROOT)}
    command = [*PROGRAM, "sweep", "sweep.yaml", "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())
    tried = {(r["split"], r["setting"]): r["share_large"] for r in rows if r["policy"] == "by turns"}
    assert tried["validation", "turn=1"] == 1.0 and 0.0 < tried["validation", "turn=3"] < 0.5
    assert [split for split, _ in tried].count("test") == 1
