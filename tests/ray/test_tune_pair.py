"""`steer tune CONFIG` and `--plan` as processes, with simulated engines: they know nothing, so routing cannot pay."""

import json
import subprocess

import pytest
import yaml
from patience import PATIENCE_S
from test_command_line import start
from test_prefixes import simulated_pair

from steer.plans.plan import read_plan
from steer.storage.run_folder import RunFolder

pytestmark = pytest.mark.ray


def ended(arguments, address):
    done = start(arguments, address, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    printed, errors = done.communicate(timeout=PATIENCE_S)
    return done.returncode, printed, errors


def test_a_pair_on_which_routing_does_not_pay_is_told_so_and_its_plan_runs(local_ray, tmp_path):
    config, out = tmp_path / "run.yaml", tmp_path / "plan"
    pair = simulated_pair(steps=3)
    config.write_text(yaml.safe_dump({"benchmark": {"name": "hops", "limit": 24}, "pair": pair}))
    code, printed, errors = ended(["tune", config, "--budget", "60%", "--out", out], local_ray)
    assert code == 0, errors
    plan = read_plan(out)
    assert "Routing does not pay" in printed and not plan.routed and plan.confirmed is None
    assert plan.asked.split == "validation" and plan.asked.questions == 24
    assert RunFolder.open(out / "prefixes").describe()["kind"] == "prefixes"

    code, _, errors = ended(["run", config, "--plan", out, "--out", tmp_path / "run"], local_ray)
    assert code == 0, errors
    assert json.loads((tmp_path / "run" / "run.json").read_text())["config"]["policy"]["name"] == plan.policy["name"]

    other = {**pair, "large": {**pair["large"], "path": "simulated:another"}}
    config.write_text(yaml.safe_dump({"benchmark": {"name": "hops", "limit": 24}, "pair": other}))
    code, _, errors = ended(["run", config, "--plan", out, "--out", tmp_path / "refused"], local_ray)
    assert code == 2 and "simulated:another" in errors and "steer tune" in errors
    assert not (tmp_path / "refused").exists()


def test_a_sweep_has_a_row_for_each_plan(tmp_path):
    from pipelines.tune.apply import sweep_with_plans
    from steer.config.load import SettingsError
    from steer.config.run import BenchmarkConfig, PairConfig
    from steer.config.sweep import SweepConfig

    pair = PairConfig.model_validate(simulated_pair())
    config = SweepConfig(benchmarks=(BenchmarkConfig(name="hops"),), pair=pair)
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6}
    expected = {name: estimate for name in ("accuracy", "cost", "above_bar", "behind_large")} | {"bar": 0.5}
    held = {
        "format": 1,
        "knob": {"name": "budget", "value": 0.5},
        "policy": {"name": "random_query", "p": 0.3},
        "models": {size: {"path": f"simulated:{size}"} for size in ("small", "large")},
        "asked": {"benchmark": "hops", "split": "validation", "questions": 24},
        "expected": expected,
        "routed": False,
        "sentence": "made up",
        "origin": {"folder": "made up", "kind": "prefixes"},
    }
    for name, knob in (("half", 0.5), ("third", 0.3)):
        (tmp_path / name).mkdir()
        text = yaml.safe_dump({**held, "knob": {"name": "budget", "value": knob}})
        (tmp_path / name / "plan.yaml").write_text(text)
    swept = sweep_with_plans(config, [str(tmp_path / "half"), str(tmp_path / "third")])
    assert [v.label for v in swept.variants[-2:]] == ["plan budget 0.5", "plan budget 0.3"]
    assert swept.variants[-1].settings()[0][1].p == 0.3
    with pytest.raises(SettingsError, match="its benchmark is hops, not chain_math"):
        sweep_with_plans(
            config.model_copy(update={"benchmarks": (BenchmarkConfig(name="chain_math"),)}), [str(tmp_path / "half")]
        )
    (tmp_path / "half" / "plan.yaml").write_text(yaml.safe_dump({**held, "routing": {"write_on": True}}))
    with pytest.raises(SettingsError, match="routing.write_on=true"):
        sweep_with_plans(config, [str(tmp_path / "half")])
