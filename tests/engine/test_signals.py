"""Rewards of drafts and the small model's prospects of a question, against transformers in float32."""

import asyncio

import numpy as np
import pytest
from tiny_models import FIRST, ask, build, messages, prompt_ids, rows
from tiny_signals import (
    BOS,
    SEPARATOR,
    STEPS,
    build_qwen_prm,
    build_skywork_prm,
    encode,
    prm_tokenizer,
    qwen_reward,
    signals,
    skywork_reward,
    states,
)

from actors.engine.checkpoint import model_fingerprint
from actors.engine.pooling import PoolingReplica, prompt_states
from steer.config.run import ModelConfig, PoolConfig
from steer.messages import Op, Prompt, Sampling, StepBatch
from steer.policies.probe import Probe, ProbeCard

pytestmark = pytest.mark.engine
TOLERANCE = 1e-3
PROMPT = Prompt("what is the sum of all the numbers from one to ten, please?", system="be brief")
PRM = prm_tokenizer()


# --- process reward models ------------------------------------------------------------------------------------------


def start(name, folder, **model):
    replica = PoolingReplica(name, ModelConfig(path=str(folder), **model), PoolConfig(max_num_seqs=64), ())
    asyncio.run(replica.describe())
    return replica


class Prm:
    def __init__(self, build_it, prompt, separator, expected, folder, **model):
        self.folder, self.prompt, self.separator, self.expected = build_it(folder), prompt, separator, expected
        self.replica = start(folder.name, folder, **model)

    def ids(self, *steps):
        """Each piece by itself, the blank line that ended it left out, its separator after it."""
        return [*encode(PRM, self.prompt), *(i for s in steps for i in encode(PRM, s.strip("\n"), self.separator))]


@pytest.fixture(scope="module")
def prms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prms")
    chat = f"<system>{PROMPT.system}<user>{PROMPT.user}<a>"
    plain = f"{BOS}{PROMPT.system}\n\n{PROMPT.user}\n"
    return {
        "qwen": Prm(build_qwen_prm, chat, SEPARATOR, qwen_reward, folder / "qwen"),
        "skywork": Prm(build_skywork_prm, plain, "\n\n", skywork_reward, folder / "skywork", parameters=1.5e9),
    }


@pytest.fixture(params=["qwen", "skywork"])
def prm(request, prms):
    return prms[request.param]


def test_rewards_are_those_of_transformers(prm):
    prefixes = [(PROMPT, *STEPS[:n]) for n in (1, 2, 3)]
    (answer,) = messages(prm.replica, rows(Op.REWARD, ["a", "b", "c"], 0, prefixes))
    order = np.argsort(answer.row_R)
    expected = [prm.expected(prm.folder, prm.ids(*STEPS[:n])) for n in (1, 2, 3)]
    assert np.ptp(expected) > 5 * TOLERANCE
    np.testing.assert_allclose(np.array(answer.signal_R)[order], expected, atol=TOLERANCE, rtol=0)
    assert [answer.prompt_tokens_R[i] for i in order] == [len(prm.ids(*STEPS[:n])) for n in (1, 2, 3)]
    assert answer.tokens_R == [0] * 3 and answer.finish_R == ["step"] * 3 and answer.ids_R == [()] * 3
    assert np.isnan(answer.scores_RS).all()


def test_a_rejected_draft_gives_way_to_the_rewrite_and_kept_steps_come_from_the_cache(prm):
    ask(prm.replica, rows(Op.REWARD, ["routed"], 0, (PROMPT, STEPS[0], STEPS[1])))
    (answer,) = messages(prm.replica, rows(Op.REWARD, ["routed"], 2, (STEPS[2], "ab\n\n")))
    ids = prm.ids(STEPS[0], STEPS[2], "ab\n\n")
    np.testing.assert_allclose(answer.signal_R, [prm.expected(prm.folder, ids)], atol=TOLERANCE, rtol=0)
    kept = len(prm.ids(STEPS[0]))
    assert answer.prompt_tokens_R == [len(ids)] and answer.cached_tokens_R[0] >= kept // 32 * 32 >= 64


def test_ids_of_the_reward_models_own_tokenizer_are_laid_out_as_text_is(prm):
    as_ids = tuple(tuple(encode(PRM, step)) for step in STEPS[:2])
    by_text, by_ids = signals(prm.replica, rows(Op.REWARD, ["t", "i"], 0, [(PROMPT, *STEPS[:2]), (PROMPT, *as_ids)]))
    assert by_text == pytest.approx(by_ids, abs=1e-5)


def test_a_reward_model_says_what_it_cannot_answer(prm):
    over = 256 - len(prm.ids("")) + 1
    new = [(PROMPT, "a" * (over - 1)), (PROMPT, "a" * over), (PROMPT,), (), (PROMPT, "a" * 400)]
    (answer,) = messages(prm.replica, rows(Op.REWARD, [f"odd-{i}" for i in range(5)], 0, new))
    answers = dict(zip(answer.row_R, zip(answer.finish_R, np.isfinite(answer.signal_R), strict=True), strict=True))
    error, silent = ("error", False), ("step", False)
    assert answers == {0: ("step", True), 1: silent, 2: error, 3: error, 4: silent}
    assert ask(prm.replica, rows(Op.REWARD, ["lost"], 1, ("a",))).finish_R == ["missing"]
    other = ask(prm.replica, rows(Op.STEP, ["step"], 0, (PROMPT,)))
    assert other.finish_R == ["error"] and "answers REWARD alone" in other.error_R[0]


def test_rewards_come_in_parts_every_row_once(prms):
    prefixes = [(PROMPT, "ab" * (i % 60) + "\n\n") for i in range(150)]
    batch = rows(Op.REWARD, [f"part-{i}" for i in range(150)], 0, prefixes, flush_s=0.005)
    parts = messages(prms["qwen"].replica, batch)
    assert len(parts) > 1 and sorted(row for part in parts for row in part.row_R) == list(range(150))


def test_reward_models_describe_themselves(prms, small):
    infos = {name: asyncio.run(prm.replica.describe()) for name, prm in prms.items()}
    assert infos["skywork"].parameters == 1.5e9 and infos["qwen"].parameters > 1000
    assert infos["qwen"].max_model_len == 256 and infos["qwen"].measures == ()
    assert infos["qwen"].tokenizer == infos["skywork"].tokenizer != asyncio.run(small.describe()).tokenizer


def test_a_writing_replica_answers_no_reward(small):
    answer = ask(small, rows(Op.REWARD, ["wrong role"], 0, (PROMPT, "a")))
    assert answer.finish_R == ["error"] and "does not answer REWARD" in answer.error_R[0]


def test_a_model_that_gives_no_rewards_is_refused(small_folder):
    replica = PoolingReplica("prm-0", ModelConfig(path=str(small_folder)), PoolConfig(), ())
    with pytest.raises(RuntimeError, match="is a Qwen2ForCausalLM: process reward models are Qwen2ForProcess"):
        asyncio.run(replica.describe())


def test_a_reward_model_without_its_separator_is_refused(tmp_path):
    folder = build_qwen_prm(tmp_path / "prm")
    FIRST.save(str(folder / "tokenizer.json"))
    replica = PoolingReplica("prm-0", ModelConfig(path=str(folder)), PoolConfig(), ())
    with pytest.raises(RuntimeError, match="no single token for the step separator '<extra_0>'"):
        asyncio.run(replica.describe())


# --- the small model's own prospects --------------------------------------------------------------------------------

QUESTIONS = [Prompt("1+1?"), PROMPT, Prompt("what comes after nine?")]


@pytest.fixture(scope="module")
def probed(tmp_path_factory, small_folder):
    folder = tmp_path_factory.mktemp("probe")
    draw = np.random.default_rng(0)
    w1, b1, w2 = 0.2 * draw.normal(size=(32, 8)), draw.normal(size=8), 8.0 * draw.normal(size=8)
    states_NH = np.stack([states(small_folder, prompt_ids(FIRST, prompt))[-1].numpy() for prompt in QUESTIONS])
    even = -np.mean(np.tanh(states_NH @ w1 + b1) @ w2)
    card = ProbeCard(32, (8,), model_fingerprint(str(small_folder)), (0,))
    probe = Probe(card, {"w1": w1, "b1": b1, "w2": w2, "b2": even})
    probe.save(folder)
    return probe, folder, start("query-0", small_folder, engine={"probe": str(folder)})


def test_a_question_is_solved_as_the_probe_says_of_transformers_state(probed, small_folder):
    probe, _, replica = probed
    asked = [0, 1, 2, 1]
    (answer,) = messages(replica, rows(Op.SOLVE, [f"q-{i}" for i in range(4)], 0, [(QUESTIONS[i],) for i in asked]))
    order = np.argsort(answer.row_R)
    ids = [prompt_ids(FIRST, prompt) for prompt in QUESTIONS]
    states_NH = np.stack([states(small_folder, i)[-1].numpy() for i in ids])
    expected = probe.solves(states_NH)[asked]
    assert np.ptp(expected) > 5 * TOLERANCE
    np.testing.assert_allclose(np.array(answer.signal_R)[order], expected, atol=TOLERANCE, rtol=0)
    assert [answer.prompt_tokens_R[r] for r in order] == [len(ids[i]) for i in asked]
    assert answer.tokens_R == [0] * 4 and answer.finish_R == ["step"] * 4
    again = messages(replica, rows(Op.SOLVE, ["again"], 0, (PROMPT,)))[0]
    assert again.cached_tokens_R[0] >= 32, "a question is read once for all its samples"


def test_a_question_longer_than_the_context_has_no_signal(probed):
    _, _, replica = probed
    (answer,) = messages(replica, rows(Op.SOLVE, ["long", "fits"], 0, [(Prompt("x" * 400),), (PROMPT,)]))
    order = np.argsort(answer.row_R)
    assert answer.finish_R == ["step", "step"]
    assert np.isfinite(np.array(answer.signal_R)[order]).tolist() == [False, True]


def test_states_to_train_on_are_those_that_are_read(small_folder):
    prompts = [*QUESTIONS, Prompt("x" * 400)]
    states_NH = prompt_states(ModelConfig(path=str(small_folder)), PoolConfig(), prompts)
    assert states_NH.dtype == np.float32 and states_NH.shape == (4, 32) and np.isnan(states_NH[3]).all()
    for prompt, state in zip(QUESTIONS, states_NH, strict=False):
        np.testing.assert_allclose(state, states(small_folder, prompt_ids(FIRST, prompt))[-1], atol=TOLERANCE)


def test_a_probe_of_another_model_is_refused(probed, tmp_path, large_folder):
    _, folder, _ = probed
    narrow = build(tmp_path / "narrow", seed=7)  # as wide as the probe's own model
    for model, reason in ((large_folder, "states of 32 numbers"), (narrow, "fingerprint")):
        replica = PoolingReplica(
            "query-1", ModelConfig(path=str(model), engine={"probe": str(folder)}), PoolConfig(), ()
        )
        with pytest.raises(RuntimeError, match=reason):
            asyncio.run(replica.describe())


def test_an_empty_batch_of_a_pooling_replica_only_drops(probed):
    (answer,) = messages(probed[2], StepBatch(Sampling(), [], [], [], [], [], [], drop=("q-0",)))
    assert answer.row_R == [] and answer.signal_R == []
