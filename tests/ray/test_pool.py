"""What a pool sends to whom: prefixes as deltas, ids or text, credits and affinity. No cluster is needed."""

from types import SimpleNamespace

import pytest
from scripted import Script, new_group

from actors.router.pool import Pool, WaitingRows
from steer.config.policy import SteerPolicy
from steer.config.run import ModelConfig, PoolConfig
from steer.messages import Op, Prompt, Sampling
from steer.traces import Model

pytestmark = pytest.mark.ray


def new_pool(model=Model.SMALL, tokenizer="one", replicas=1, **config):
    pool = Pool(model, ModelConfig(path="m"), PoolConfig(**config), ("max_prob",), object, print, print)
    pool.info = SimpleNamespace(tokenizer=tokenizer)
    for number in range(replicas):
        pool.replica_set.live[number] = SimpleNamespace(
            number=number, name=f"r{number}", in_flight=0, step_s=None, drop=[]
        )
    return pool


def advanced(tokenizers=("one", "one")):
    """A group of two traces: the even one stays small, the odd one's draft was just discarded."""
    group = new_group(SteerPolicy(preset="stepwise"), n=20)
    group._tokenizers = tokenizers
    script = Script(score=lambda trace, step, model: (10.0 if trace % 2 == 0 else 2.0) + 0.01 * trace)
    return group, script


def batch(pool, group, rows, replica=0):
    load = WaitingRows(group, rows, Sampling(), None)
    return pool._batch(pool.replica_set.live[replica], load)


def test_the_first_call_sends_the_prompt_and_the_next_nothing():
    pool, (group, script) = new_pool(), advanced()
    rows = group.decide()
    first = batch(pool, group, rows)
    assert first.held_B == [0] * 20 and first.new_B[3] == (Prompt("question 3"),)
    answered = script.answer(group, rows)
    pool._note_prefixes(group, rows, answered)
    group.apply(rows, answered)
    rewrites = group.decide()
    assert {row.trace % 2 for row in rewrites} == {1}
    large = new_pool(Model.LARGE)
    assert batch(large, group, rewrites).new_B[0] == (Prompt("question 1"),)  # the discarded draft is not sent
    group.apply(rewrites, script.answer(group, rewrites))
    scoring = [row for row in group.decide() if row.op == Op.SCORE]
    sent = batch(pool, group, scoring)
    assert sent.held_B == [1] * 10, "the small replica holds the prompt; its own draft no longer counts"
    assert sent.new_B[0] == ((1, 2, 3),)


@pytest.mark.parametrize(("tokenizers", "expected"), [(("one", "one"), (1, 2, 3)), (("one", "two"), "s0m1\n\n")])
def test_one_tokenizer_exchanges_ids_two_exchange_text(tokenizers, expected):
    group, script = advanced(tokenizers)
    rows = group.decide()
    group.apply(rows, script.answer(group, rows))
    rewrites = group.decide()
    group.apply(rewrites, script.answer(group, rewrites))
    scoring = [row for row in group.decide() if row.op == Op.SCORE]
    assert batch(new_pool(tokenizer=tokenizers[0]), group, scoring).new_B[0][-1] == expected


def test_another_replica_gets_the_whole_body():
    pool, (group, script) = new_pool(replicas=2), advanced()
    rows = group.decide()
    batch(pool, group, rows, replica=0)
    group.apply(rows, script.answer(group, rows))
    moved = batch(pool, group, rows[:1], replica=1)
    assert moved.held_B == [0] and moved.new_B[0] == (Prompt("question 0"), (1, 2, 3))


def test_rows_go_home_unless_it_is_far_fuller_than_the_others():
    pool, (group, _) = new_pool(replicas=2, max_rows=100), advanced()
    rows = group.decide()
    for row in rows:
        pool._prefixes.send(group.key_L[row.trace], 1, group.prefix_L[row.trace])
    free = {0: 100, 1: 100}
    shares, rest = pool._assign(WaitingRows(group, rows[:10], Sampling(), None), dict(free))
    assert not rest and len(shares[1]) == 10
    pool.replica_set.live[1].in_flight = 90
    shares, rest = pool._assign(WaitingRows(group, rows, Sampling(), None), {0: 100, 1: 10})
    assert not rest and len(shares[0]) == 20, "its home has 90 rows more than the other replica"


def test_credits_leave_the_rest_waiting():
    pool, (group, _) = new_pool(replicas=2), advanced()
    shares, rest = pool._assign(WaitingRows(group, group.decide(), Sampling(), None), {0: 3, 1: 4})
    assert sum(map(len, shares.values())) == 7 and len(rest) == 13
