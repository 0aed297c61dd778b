"""Tiny random models of the architectures that think, under chat templates laid out as theirs are."""

import asyncio

import numpy as np
import pytest
from tiny_architectures import SCALE, expected_scores, qwen3, r1_distill, reference
from tiny_models import ask, rows
from transformers import AutoTokenizer

from actors.engine.replica import EngineReplica
from actors.engine.tokenizer import Tokenizer
from steer.config.pairs import PAIRS
from steer.config.policy import RandomStepPolicy, SteerPolicy
from steer.config.run import PoolConfig, RoutingOptions
from steer.messages import Op, Prompt, Sampling, StepBatch
from steer.policies import make_policy
from steer.routing.group import Group
from steer.storage.tables import routed_table
from steer.traces import MEASURES, Model, Question

pytestmark = pytest.mark.engine
TOLERANCE = 1e-3
TAG = "</think>"
BUDGET = 12
"""Tokens of a thought: some of these models end it before."""
PROMPT = Prompt("what is the sum of one and two?")
BUILDERS = {
    ("qwen3", "small"): lambda folder: qwen3(folder, heads=2, tie=True),
    ("qwen3", "large"): lambda folder: qwen3(folder, heads=4, tie=False, seed=1, lean=2.7),
    ("r1-distill", "large"): lambda folder: r1_distill(folder, heads=4, seed=2, lean=2.7),
}
ENDS = {"qwen3": "<|im_end|>\n<|im_start|>assistant\n<think>\n", "r1-distill": "<｜Assistant｜><think>\n"}


class Loaded:
    """A replica of a tiny model, under the pair's own configuration but for path and context."""

    def __init__(self, folder, pair, size):
        entry = getattr(PAIRS[pair], size)
        self.folder, self.pair = folder, pair
        self.config = entry.model_copy(update={"path": str(folder), "max_model_len": entry.max_model_len // SCALE})
        self.replica = EngineReplica(f"{pair}-{size}", self.config, PoolConfig(max_num_seqs=64), MEASURES)
        self.info = asyncio.run(self.replica.describe())
        self.hf = AutoTokenizer.from_pretrained(folder)
        self.tokenizer = Tokenizer(self.hf, (), self.config.system_role, self.config.template, self.config.thinks)

    def prompt_ids(self):
        """By transformers alone: the template, and the opening tag where it has none."""
        messages = [{"role": "user", "content": PROMPT.user}]
        text = self.hf.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return self.hf.encode(text.removesuffix("<think>\n") + "<think>\n", add_special_tokens=False)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("thinking")
    return {key: Loaded(build(folder / "-".join(key)), *key) for key, build in BUILDERS.items()}


@pytest.fixture(params=list(BUILDERS), ids="-".join)
def model(request, loaded):
    return loaded[request.param]


def test_the_prompt_ends_inside_the_thought(model):
    ids = model.prompt_ids()
    assert model.hf.decode(ids).endswith(PROMPT.user + ENDS[model.pair])
    answer = ask(model.replica, rows(Op.PEEK, ["prompt"], 0, (PROMPT,)))
    z_max, lse, entropy, margin = reference(model.folder, ids)[-1]
    expected = [*(z_max, -entropy, np.exp(z_max - lse), margin) * 4, 1]
    np.testing.assert_allclose(answer.scores_RS[0], expected, atol=TOLERANCE)
    assert answer.prompt_tokens_R == [len(ids)]


def test_a_step_behind_a_thought_that_was_closed_for_the_model_is_scored_as_transformers_does(model):
    before, closing = model.prompt_ids(), f"\n{TAG}\n\n"
    first, second = (tuple(model.hf.encode(text, add_special_tokens=False)) for text in ("so one ", "three"))
    tag_ids = model.hf.encode(closing, add_special_tokens=False)
    assert model.hf.convert_tokens_to_ids(TAG) in tag_ids
    answer = ask(model.replica, rows(Op.SCORE, ["closed"], 0, (PROMPT, first, closing, second)))
    expected = expected_scores(model.folder, [*before, *first, *tag_ids], second, [True] * len(second))
    np.testing.assert_allclose(answer.scores_RS[0], expected, atol=TOLERANCE)


def routed(small, large, policy, n=24, **routing):
    """A group's traces by two replicas, without a router: rows (with nested steps) of its table."""
    questions = [Question(f"q{i}", 0, "made_up", PROMPT.user, "7", "math") for i in range(n)]
    replicas, prints = (small.replica, large.replica), (small.info.tokenizer, large.info.tokenizer)
    options = RoutingOptions(**routing)
    group = Group(1, questions, make_policy(policy), options, 0, tokenizers=prints, closing_tags=(TAG, TAG))
    finished = []
    while group.live:
        asked = group.decide()
        for role in (Model.SMALL, Model.LARGE):
            mine = [row for row in asked if row.role == role]
            if not mine:
                continue
            prefixes = [group.prefix_L[row.trace] for row in mine]
            pieces = [
                (prefix[0].ids, *(p.ids if p.tokenizer == prints[role] else p.text for p in prefix[1:]))
                for prefix in prefixes
            ]
            batch = StepBatch(
                Sampling(pass_tokens=options.pass_tokens),
                [f"{group.key_L[row.trace]}-{role}" for row in mine],
                [row.op for row in mine],
                [row.seed for row in mine],
                [row.max_tokens for row in mine],
                [0] * len(mine),
                pieces,
            )
            group.apply(mine, ask(replicas[role], batch))
        finished += [trace for _, trace in group.take_finished()]
    return routed_table(finished, [], [1.0] * 5).to_pylist()


@pytest.mark.parametrize("large", [("qwen3", "large"), ("r1-distill", "large")], ids="-".join)
@pytest.mark.parametrize("policy", [RandomStepPolicy(p=0.5), SteerPolicy(preset="stepwise")], ids=lambda p: p.name)
def test_traces_go_between_models_that_think_and_their_thoughts_keep_to_the_budget(loaded, large, policy):
    """Of one tokenizer (Qwen3's two) and of two (the templates differ, too)."""
    small, other = loaded["qwen3", "small"], loaded[large]
    traces = routed(small, other, policy, thought_tokens=BUDGET, max_new_tokens=60)
    assert len(traces) == 24 and not any(trace["error"] for trace in traces)
    assert {True, False} == {trace["thought_cut"] for trace in traces}, "some close by themselves"
    assert {step["model"] for trace in traces for step in trace["step_rows"]} == {"small", "large"}
    for trace in traces:
        kept = [step for step in trace["step_rows"] if step["accepted"]]
        assert trace["text"] == "".join(step["text"] for step in kept)
        if trace["thought_cut"]:
            assert sum(step["tokens"] for step in kept if step["thought"]) == BUDGET == trace["tokens_thought"]
            last = [step for step in kept if step["thought"]][-1]
            assert last["text"].endswith(f"\n{TAG}\n\n") and TAG not in trace["text"].split(TAG)[0]
