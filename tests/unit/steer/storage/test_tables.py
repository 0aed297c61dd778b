"""Finished traces as Arrow tables: what analytics will read."""

import numpy as np
from scripted import Script, drive, new_group

from steer.config.policy import SteerPolicy
from steer.storage.schemas import ROUTED_SCHEMA
from steer.storage.tables import routed_table


def camps(trace, step, model):
    return (10.0 if trace % 2 else 2.0) + 0.01 * trace


def test_the_table_says_what_the_traces_say():
    group = new_group(SteerPolicy(preset="stepwise"), n=20)
    traces = list(drive(group, Script(score=camps)).values())
    mixtures = [{"group_id": "g", **row} for row in group.policy.mixtures()]
    table = routed_table(traces, mixtures, [1e6, 1e7, 0, 0, 0])
    assert table.schema == ROUTED_SCHEMA
    rows = {row["question_id"]: row for row in table.to_pylist()}
    refined = rows["q0"]
    assert (refined["steps"], refined["steps_large"], refined["tokens_discarded"]) == (4, 4, 10)
    assert [(s["model"], s["accepted"]) for s in refined["step_rows"]][:2] == [("small", False), ("large", True)]
    assert refined["step_rows"][1]["max_prob_small"] is not None and refined["step_rows"][0]["max_prob_large"] is None
    assert np.isclose(refined["flops_paper"], 2 * (10 * 1e6 + 40 * 1e7) / 1e12)
    assert refined["flops_full"] > refined["flops_paper"]
    fits = [m for row in rows.values() for m in row["mixture_rows"]]
    assert [(m["step"], m["draft"]) for m in fits][:2] == [(0, True), (0, False)]
    assert all(m["n"] == 20 for m in fits)


def test_no_traces_make_an_empty_table():
    assert routed_table([], [], [1.0] * 5).num_rows == 0
