"""One engine a model for the whole session, several in this process: starting one takes seconds, importing vLLM ten."""

import asyncio
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as Ray sets it for one CPU: results do not depend on the batch

import pytest
from tiny_models import EOS, EOT, SECOND, build

from actors.engine import arguments as engine_arguments
from actors.engine.replica import EngineReplica
from steer.config.run import ModelConfig, PoolConfig
from steer.traces import MEASURES

engine_arguments.set_environment(gpus=0)  # the tests import torch before a replica does
engine_arguments.CPU_CACHE_BYTES = 2**26  # sixteen engines stay in this process

LIKELY = {"\n\n": 5.5, "\n": 5.0, ".\n\n": 4.5, EOS: 3.0, EOT: 3.0}


def start(name, folder, measures=MEASURES, **model):
    replica = EngineReplica(name, ModelConfig(path=str(folder), **model), PoolConfig(max_num_seqs=64), measures)
    asyncio.run(replica.describe())  # one at a time: vLLM keeps its config in a global while it loads
    return replica


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory):
    return build(tmp_path_factory.mktemp("models") / "small", likely=LIKELY)


@pytest.fixture(scope="session")
def large_folder(tmp_path_factory):
    return build(tmp_path_factory.mktemp("models") / "large", hidden=64, seed=1, likely={"\n\n": 3.5, EOS: 3.0})


@pytest.fixture(scope="session")
def other_folder(tmp_path_factory):
    likely = {text: logit for text, logit in LIKELY.items() if text != ".\n\n"}
    return build(tmp_path_factory.mktemp("models") / "other", SECOND, seed=2, likely=likely)


@pytest.fixture(scope="session")
def small(small_folder):
    return start("small-0", small_folder)


@pytest.fixture(scope="session")
def large(large_folder):
    return start("large-0", large_folder)


@pytest.fixture(scope="session")
def other(other_folder):
    """The model with another tokenizer, without a system role."""
    return start("other-0", other_folder, system_role=False)


@pytest.fixture(scope="session")
def small_max_logit(small_folder):
    return start("small-1", small_folder, measures=("max_logit",))


@pytest.fixture(scope="session")
def silent(tmp_path_factory):
    """A model that writes nothing but the delimiter."""
    return start("silent-0", build(tmp_path_factory.mktemp("models") / "silent", likely={"\n\n": 60.0}))
