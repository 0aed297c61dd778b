"""What `steer bench overhead` measures and what it keeps, without an engine."""

import json
from collections import Counter

import pytest

from pipelines.bench import bench
from pipelines.bench.overhead import PLAIN, SETTINGS, Options, Result, Results, plain_name, questions_of, share
from steer.config.check import contradictions
from steer.config.pairs import PAIRS
from steer.config.policy import RandomStepPolicy
from steer.config.run import PoolsConfig, RoutingOptions
from steer.traces import PAIR, Role


def test_every_setting_can_be_routed_and_has_its_own_name():
    assert max(Counter(setting.name for setting in SETTINGS).values()) == 1
    for setting in SETTINGS:
        routing = RoutingOptions(**setting.routing)
        assert bool(routing.write_on) == ("write-on" in setting.name)
        assert not list(contradictions([setting.policy], PAIRS["embedded"], PoolsConfig()))
        if routing.write_on:  # Decisions without a barrier: a fit on the live traces of one step is none yet.
            assert getattr(setting.policy, "fit_from", "bank") in ("bank", "all_steps", "frozen")


def test_small_large_and_mixed_are_each_measured_strict_and_write_on():
    for p in (0.0, 0.3, 1.0):
        routed = [RoutingOptions(**s.routing) for s in SETTINGS if s.policy == RandomStepPolicy(p=p)]
        assert [bool(routing.write_on) for routing in routed] == [False, True]
    assert {s.policy.name for s in SETTINGS if not s.routing} == {"small", "large"}, "one pass each"


def test_results_are_kept_as_they_come_with_ratios_to_the_plain_pass_of_the_same_turn(capsys):
    kept = []
    results = Results(8, kept.append)
    default, replica = plain_name(Role.SMALL, "default", False), plain_name(Role.SMALL, "replica", True)
    for turn, seconds in enumerate((1.0, 2.0, 4.0)):
        results.add(default, Role.SMALL, turn, Result(1000, seconds))
        if turn < 2:
            results.add(replica, Role.SMALL, turn, Result(1000, 2 * seconds))
    results.add("small, one pass", Role.SMALL, 0, Result(1500, 3.0, discarded=500))
    results.add("small, one pass", Role.SMALL, 1, Result(1000, 3.0))
    assert len(kept) == 7 and "vs_default 3.00" in capsys.readouterr().out
    routed = kept[-1][-1]
    assert routed["vs_default_turns"] == [3.0, 1.5] and routed["vs_default"] == 2.25
    assert routed["vs_replica_turns"] == [1.5, 0.75]
    assert routed["us_per_token"] == 3000.0, "of tokens that are in an answer"
    assert routed["discarded"] == pytest.approx(1 / 6, abs=1e-3)


def test_a_setting_that_fails_leaves_what_was_measured():
    results = Results(8, lambda rows: None)
    results.add("large, one pass", Role.LARGE, 0, Result(10, 1.0))
    results.fail("steer default, strict", RuntimeError("out of memory"))
    measured, failed = results.rows()
    assert measured["what"] == "large, one pass" and "vs_default" not in measured
    assert failed == {"what": "steer default, strict", "failed": "RuntimeError: out of memory"}


def test_plain_names_are_told_apart():
    assert len({plain_name(role, way, seeded) for role in PAIR for way, seeded in PLAIN}) == 8


def test_two_engines_share_the_cards():
    assert [share(gpus) for gpus in (0, 1, 2, 3, 4)] == [0, 0.5, 1, 1, 2]


def test_questions_of_a_file_are_found_by_their_field(tmp_path):
    file = tmp_path / "q.jsonl"
    rows = [{"problem": f"What is {i} + {i}?", "hint": "add"} for i in range(5)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    two = questions_of(Options(data=str(file), questions=2))
    assert [q.prompt for q in two] == ["What is 0 + 0?", "What is 1 + 1?"] and two[0].id != two[1].id
    assert [q.prompt for q in questions_of(Options(data=str(file), field="hint"))] == ["add"] * 5
    with pytest.raises(ValueError, match="no text in field 'answer'"):
        questions_of(Options(data=str(file), field="answer"))
    file.write_text('{"text": "What is 1 + 1?"}\n')
    with pytest.raises(ValueError, match=r"q\.jsonl row 1 has no field question or .*\(there are text\).*--field"):
        questions_of(Options(data=str(file)))


def test_a_benchmarks_file_is_asked_by_its_prompt():
    (asked,) = questions_of(Options(data="tests/fixtures/math500", benchmark="math500", questions=1))
    assert "\\boxed" in asked.system


def test_without_data_the_embedded_pairs_validation_questions_are_asked():
    assert len(questions_of(Options(questions=7))) == 7


def test_a_cut_off_bench_leaves_its_figures_in_the_file(tmp_path, monkeypatch):
    file = tmp_path / "o.json"

    def cut_off(options, keep):
        assert options == Options(pair="my.yaml", questions=3)
        keep([{"what": "small, one pass", "seconds": 1.0}])
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.bench.overhead.bench_overhead", cut_off)
    with pytest.raises(KeyboardInterrupt):
        bench.run("overhead", file, questions=3, overhead={"pair": "my.yaml"})
    (row,) = json.loads(file.read_text())
    assert row["what"] == "small, one pass" and row["machine"]


def test_settings_are_chosen_by_a_part_of_their_name():
    assert [setting.name for setting in Options(settings=["small, one", "p .3, write"]).chosen()] == [
        "small, one pass",
        "random_step p .3, write-on",
    ]
    assert len(Options().chosen()) == len(SETTINGS)
    with pytest.raises(ValueError, match="there are small, one pass; small, step by step"):
        Options(settings=["medium"]).chosen()
