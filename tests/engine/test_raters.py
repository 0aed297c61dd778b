"""The embedded reward model and judge as vLLM runs them, against the model they were trained as, in plain PyTorch."""

import asyncio
import random
from dataclasses import replace

import numpy as np
import pytest
from conftest import start
from safetensors.torch import load_file
from tiny_models import rows
from tiny_signals import signals

from actors.engine.pooling import PoolingReplica
from steer.config.pairs import load_pair
from steer.config.run import PoolConfig
from steer.embedded import weights_path
from steer.embedded.mistakes import wrong_step
from steer.embedded.signals import SIGNALS, label
from steer.embedded.tasks import PAIR_BENCHMARKS, questions
from steer.embedded.train_signals import ratings
from steer.messages import Op, Prompt

pytestmark = pytest.mark.engine
TOLERANCE = 1e-3
PAIR = load_pair("embedded")


@pytest.fixture(scope="module")
def responses():
    """Of each benchmark and level, true steps up to some place, and the same with a wrong step last."""
    rng, made = random.Random(0), []
    for benchmark in PAIR_BENCHMARKS:
        for task in questions(benchmark, "validation", 24):
            last = rng.randrange(len(task.steps))
            for step in (task.steps[last], wrong_step(rng, task, last)):
                made.append(label(task, (*task.steps[:last], step), first=last))
    return made


def asked(op, responses):
    prefixes = [(Prompt(response.question), *response.steps) for response in responses]
    return rows(op, [f"{op.name}-{i}" for i in range(len(prefixes))], 0, prefixes)


def expected(name, responses):
    model = SIGNALS[name]()
    weights = load_file(weights_path(name) / "model.safetensors")
    model.load_state_dict(weights, strict=False)  # the auxiliary head is not kept
    return np.array([values[0] for values in ratings(model, responses)])


def test_rewards_in_vllm_are_those_of_torch_and_tell_right_from_wrong(responses):
    replica = PoolingReplica("prm-0", PAIR.prm, PoolConfig(max_num_seqs=64), ())
    info = asyncio.run(replica.describe())
    rewards = signals(replica, asked(Op.REWARD, responses))
    np.testing.assert_allclose(rewards, expected("prm", responses), atol=TOLERANCE, rtol=0)
    rights = np.array([response.rights[-1] for response in responses])
    assert np.mean((rewards > 0.5) == rights) > 0.9
    assert info.max_model_len == 512


def test_verdicts_in_vllm_are_those_of_torch_and_tell_right_from_wrong(responses):
    replica = start("judge-0", PAIR.judge.path)
    batch = asked(Op.JUDGE, responses)
    batch = replace(batch, sampling=replace(batch.sampling, judge_prompt=PAIR.judge_prompt))
    verdicts = signals(replica, batch) / 9
    np.testing.assert_allclose(verdicts, expected("judge", responses), atol=TOLERANCE, rtol=0)
    rights = np.array([response.rights[-1] for response in responses])
    assert np.mean((verdicts > 0.5) == rights) > 0.8
