"""A policy that a user brings: how it is found, what is refused, and what it may answer."""

import asyncio
import math
import sys

import numpy as np
import pytest
from scripted import Script, drive, new_group

from actors.router.router import Router
from pipelines import cli
from pipelines.report.frames import rows_of
from pipelines.sweep.sweep import run_sweep
from steer.config.check import needed_roles, usable_pair
from steer.config.load import SettingsError, load_config
from steer.config.policy import CustomPolicy
from steer.config.run import ModelConfig, PairConfig, PoolsConfig, RunConfig
from steer.config.sweep import SweepConfig, Variant
from steer.config.thresholds import label_of, setting_of
from steer.policies import make_policy
from steer.traces import Model, Role

MODULE = """
import numpy as np
from steer.config.policy import Scored
from steer.policies import Act, Blind, ByConfidence, Signal
from steer.traces import Role
from steer.messages import Op

class Sceptic(ByConfidence):
    barrier = False

    def __init__(self, least=0.5, measure="max_prob"):
        super().__init__(Scored(measure=measure))
        self.least = least

    def decision(self, view, step, rows_N, draft):
        return view.scores[step].conf_L[rows_N] >= self.least, np.full(len(rows_N), np.nan)

class Every(Blind):
    whole = False

    def __init__(self, act):
        self.act = act

    def decide(self, view, ready_N):
        return np.full(len(ready_N), self.act), np.full(len(ready_N), np.nan)

class Rewarded(Every):
    signal = Signal(Role.PRM, Op.REWARD)

class Lopsided(Every):
    def decide(self, view, ready_N):
        return super().decide(view, ready_N)[0]

class Bare:
    whole = False
    def decide(self, view, ready_N): ...

class Drafty(Every):
    drafts = "sometimes"

class Unsignalled(Every):
    signal = "prm"

class Unmeasured(Every):
    measure = "max_prob"

a_number = 7
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working directory of a user; each test's module has a name of its own, since Python keeps modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("mine", "broken", "needy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("one = 1 +\n")
    (tmp_path / "needy.py").write_text("import a_package_nobody_has\n")
    return tmp_path


def custom(name, threshold=None, **options):
    return CustomPolicy(object=f"mine:{name}", options=options, threshold=threshold)


def test_a_policy_of_the_working_directory_routes_a_group():
    def score(trace, step, model):
        return 0.9 if trace % 2 else 0.1

    traces = drive(new_group(custom("Sceptic", least=0.5), n=4), Script(score=score))
    written = {name: {step.model for step in trace.steps if step.accepted} for name, trace in traces.items()}
    assert written["q1"] == {Model.SMALL} and written["q0"] == {Model.LARGE}
    assert all(math.isnan(step.posterior) for trace in traces.values() for step in trace.steps)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (CustomPolicy(object="mine.Sceptic"), "policy.object = 'mine.Sceptic': not of the form module:Class"),
        (CustomPolicy(object="mine:"), "not of the form module:Class"),
        (CustomPolicy(object="nobodys:Policy"), "no module nobodys in .* or on PYTHONPATH: start in the folder"),
        (CustomPolicy(object="broken:Policy"), "broken does not import: SyntaxError"),
        (CustomPolicy(object="needy:Policy"), "No module named 'a_package_nobody_has' .*install what it needs"),
        (CustomPolicy(object="mine:Septic"), "mine has no Septic; did you mean Sceptic?"),
        (CustomPolicy(object="mine:a_number"), "is a int: name a class or function"),
        (custom("Sceptic", lest=1), r"policy.options: Sceptic\(lest=1\) failed: TypeError.*unexpected.*'lest'"),
        (custom("Sceptic", measure="certainty"), "Sceptic.*certainty.*failed: ValidationError"),
        (
            custom("Bare"),
            "lacks ahead, finishes, measure, also, scored_by_small, drafts, signal, barrier, mixtures: derive it from",
        ),
        (custom("Drafty", act=1), "drafts is 'sometimes': make it never, first or every"),
        (custom("Unsignalled", act=1), "signal is 'prm': make it None or a steer.policies.Signal"),
        (custom("Unmeasured", act=1), "measure is 'max_prob': make it None or an index into max_logit, entropy"),
    ],
    ids=lambda value: value.object.partition(":")[2] if isinstance(value, CustomPolicy) else "",
)
def test_a_bad_object_is_refused_with_the_key_and_the_remedy(policy, said):
    with pytest.raises(ValueError, match=f"(?s){said}"):
        make_policy(policy)


def test_runs_and_sweeps_refuse_it_before_anything_starts(tmp_path, capsys):
    command = ["run", "--out", "run", "--set", "policy=custom", "--set", "policy.object=mine:Septic"]
    assert cli.main(command) == cli.USAGE
    assert "steer: policy.object = 'mine:Septic': mine has no Septic" in capsys.readouterr().err
    variants = [{"label": "mine", "policy": custom("Sceptic", "lest").model_dump(), "grid": [1]}]
    with pytest.raises(SettingsError, match=r"Sceptic\(lest=1.0\) failed"):
        run_sweep(SweepConfig(variants=variants), tmp_path / "sweep")
    assert not (tmp_path / "run").exists() and not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (custom("Lopsided", act=1), r"decide must return \(acts, posteriors\), an array of 3 each"),
        (custom("Every", act=9), "decide answered .*9.*, which is no steer.policies.Act"),
        (custom("Every", act=3), "REWRITE where view.draft_L is false"),
        (custom("Every", act=5), "SIGNAL, but the policy's signal is None"),
    ],
)
def test_answers_that_no_group_can_carry_out_are_refused(policy, said):
    with pytest.raises(ValueError, match=f"mine:.*{said}"):
        new_group(policy, n=3).decide()


def test_its_signal_decides_which_models_start():
    pair = PairConfig(small=ModelConfig(path="s"), large=ModelConfig(path="l"))
    assert needed_roles([custom("Sceptic")], pair) == (Role.SMALL, Role.LARGE)
    with pytest.raises(ValueError, match="policy mine:Rewarded needs a process reward model"):
        usable_pair(RunConfig(pair=pair), [custom("Rewarded", act=1)])
    rewarded = pair.model_copy(update={"prm": ModelConfig(path="r")})
    assert needed_roles([custom("Rewarded", act=1)], rewarded) == (Role.SMALL, Role.LARGE, Role.PRM)


def test_the_router_refuses_what_it_cannot_import_before_a_model_is_loaded():
    pair = PairConfig(small=ModelConfig(path="s"), large=ModelConfig(path="l"))
    with pytest.raises(ValueError, match="no module nobodys"):
        asyncio.run(Router(pair, PoolsConfig()).start([CustomPolicy(object="nobodys:Policy")]))


def test_a_measure_that_no_replica_computes_is_refused():
    usable_pair(RunConfig(), [custom("Sceptic")])
    with pytest.raises(ValueError, match="mine:Sceptic reads max_prob, .* leaves out; add max_prob there"):
        usable_pair(RunConfig(pools=PoolsConfig(measures=("max_logit",))), [custom("Sceptic")])


def test_a_grid_varies_the_named_option():
    variant = Variant(label="mine", policy=custom("Sceptic", "least", measure="entropy"), grid=(0.25, 0.5))
    assert [(text, policy.options) for text, policy in variant.settings()] == [
        ("least=0.25", {"measure": "entropy", "least": 0.25}),
        ("least=0.5", {"measure": "entropy", "least": 0.5}),
    ]
    one = Variant(label="mine", policy=custom("Sceptic", "least", least=0.3))
    assert [text for text, _ in one.settings()] == ["least=0.3"]
    assert [text for text, _ in Variant(label="mine", policy=custom("Sceptic")).settings()] == [""]
    with pytest.raises(ValueError, match="name it, one of its options, as threshold:"):
        Variant(label="mine", policy=custom("Sceptic"), grid=(0.5,))
    with pytest.raises(ValueError, match="options.least is 'high': a threshold is a number"):
        custom("Sceptic", "least", least="high")


def test_rows_are_named_by_the_class_and_its_threshold():
    policy = load_config(
        None, ["policy=custom", "policy.object=mine:Sceptic", "policy.options.least=0.7", "policy.threshold=least"]
    ).policy
    assert policy == custom("Sceptic", "least", least=0.7)
    assert (label_of(policy), setting_of(policy.model_dump())) == ("Sceptic", "least=0.7")
    cells = [{"name": "chain/test/Sceptic/seed0", "policy": policy.model_dump(mode="json")}]
    described = {"benchmarks": [{"benchmark": "chain", "split": "test"}], "cells": cells}
    assert rows_of(described)["chain/test/Sceptic/seed0"] == ("chain", "test", "Sceptic", "least=0.7")
    with pytest.raises(SettingsError, match="policy.object: missing; add it"):
        load_config(None, ["policy=custom"])


def test_acts_may_come_as_any_integers():
    acts_N, posterior_N = make_policy(custom("Every", act=1)).decide(
        new_group(custom("Every", act=1), n=2), np.arange(2)
    )
    assert acts_N.dtype == np.int8 and posterior_N.dtype == np.float64
