"""The replica's parts that need no model: the process's end, the hook's refusal, the prefixes' bound."""

import subprocess
import sys
from array import array

import pytest
from patience import PATIENCE_S

from actors.engine import vllm_hooks
from actors.engine.arguments import engine_arguments
from actors.engine.checkpoint import count_parameters
from actors.engine.prefixes import Prefixes
from steer.config.run import ModelConfig, PoolConfig
from steer.messages import Prompt
from steer.traces import MEASURES

pytestmark = pytest.mark.engine


class Letters:
    """A tokenizer of single characters."""

    eos_ids = frozenset({0})

    def encode_prompt(self, prompt):
        return self.encode(prompt.user)

    def encode(self, text):
        return [ord(c) for c in text]

    def texts(self, ids):
        return [chr(i) for i in ids]


def run_python(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S)


def test_a_failing_engine_ends_its_process():
    """Else the router would wait for a replica that answers nobody."""
    done = run_python(
        "import asyncio\n"
        "from actors.engine.replica import EngineReplica\n"
        "from steer.config.run import ModelConfig, PoolConfig\n"
        "from steer.messages import Sampling, StepBatch\n"
        "class Broken:\n"
        "    unfinished = False\n"
        "    def admit(self, in_flight): raise KeyError('engine broke')\n"
        "class Replica(EngineReplica):\n"
        "    def _load(self): return Broken(), None\n"
        "async def main():\n"
        "    replica = Replica('r-0', ModelConfig(path='x'), PoolConfig(), ('max_logit',))\n"
        "    batch = StepBatch(Sampling(), ['k'], [0], [0], [1], [0], [()])\n"
        "    await replica.submit(0, batch)\n"
        "    async for _ in replica.answers(): pass\n"
        "asyncio.run(main())\n"
    )
    assert done.returncode == 1 and "engine broke" in done.stderr


def test_importing_the_replica_imports_no_engine():
    done = run_python(
        "import sys, actors.engine.replica; print([m for m in ('vllm', 'torch', 'ray') if m in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_the_hook_refuses_a_sampler_it_does_not_know_and_says_what_to_do():
    class Runner:
        sampler = object()

    class Worker(vllm_hooks.SamplerHooks):
        model_runner = Runner()

    class Engine:
        def collective_rpc(self, method):
            return [getattr(Worker(), method)()]

    with pytest.raises(RuntimeError, match=r"max_logit"):
        vllm_hooks.install_confidence_hook(Engine())


def test_measures_decide_whether_the_hook_is_needed():
    assert vllm_hooks.needs_hook(MEASURES) and vllm_hooks.needs_hook(["entropy"])
    assert not vllm_hooks.needs_hook(["max_logit"])
    with pytest.raises(ValueError, match="max_prob"):
        vllm_hooks.needs_hook(["luck"])


def test_the_least_recently_used_prefixes_go_first():
    prefixes = Prefixes(Letters(), capacity_tokens=12)
    for key in "abc":
        assert prefixes.take(key, 0, (Prompt("1234"),)).ids == array("i", [49, 50, 51, 52])
    assert prefixes.take("a", 1, ()) is not None
    prefixes.take("d", 0, (Prompt("1234"),))
    assert prefixes.take("b", 1, ()) is None, "b was the oldest"
    assert prefixes.take("a", 1, ()) is not None


def test_a_prefix_that_was_cut_is_not_written_by_the_row_that_had_it_before():
    prefixes = Prefixes(Letters())
    stale = prefixes.take("a", 0, (Prompt("12"),))
    prefixes.take("a", 1, ("34",))
    prefixes.write("a", stale, [99], None)
    assert prefixes.take("a", 2, ()).ids == array("i", [49, 50, 51, 52])
    prefixes.drop(["a"])
    prefixes.write("a", stale, [99], None)
    assert prefixes.take("a", 1, ()) is None


def test_span_states_are_followed_through_pieces_nobody_scored():
    prefixes = Prefixes(Letters())
    prefix = prefixes.take("a", 0, (Prompt(r"the prompt's \( does not count"), r"so \(a", r"b\) then"))
    assert prefixes.span(prefix, 2) != prefixes.span(prefix, 1) == prefixes.span(prefix, 3)
    shorter = prefixes.take("a", 2, ())
    assert prefixes.span(shorter, 2) == prefixes.span(prefix, 2)


def test_pieces_out_of_order_are_refused():
    prefixes = Prefixes(Letters())
    for new in ((), ("text",), (Prompt("a"), Prompt("b"))):
        with pytest.raises(ValueError):
            prefixes.take("a", 0, new)


def test_engine_entry_overrides_every_default(small_folder):
    model = ModelConfig(path=str(small_folder), engine={"block_size": 64, "hf_overrides": {"x": 1}})
    arguments = engine_arguments(model, PoolConfig(), MEASURES)
    assert arguments["block_size"] == 64 and arguments["hf_overrides"] == {"head_dtype": "float32", "x": 1}
    assert arguments["max_num_batched_tokens"] >= 8192 and arguments["dtype"] == "float32"
    on_gpus = engine_arguments(model, PoolConfig(gpus=2), ("max_logit",))
    assert on_gpus["tensor_parallel_size"] == 2 and on_gpus["dtype"] == "auto"
    assert "worker_extension_cls" not in on_gpus and "enforce_eager" not in on_gpus


def test_a_part_of_a_card_is_divided_before_vllm_starts(small_folder, monkeypatch):
    monkeypatch.setattr("actors.engine.arguments.card_bytes", lambda: 80 * 2**30)
    model = ModelConfig(path=str(small_folder))
    got = engine_arguments(model, PoolConfig(gpus=0.25), MEASURES)
    assert got["gpu_memory_utilization"] < 0.25 and got["max_num_batched_tokens"] == 8192
    assert 15 * 2**30 < got["kv_cache_memory_bytes"] < 20 * 2**30
    own = model.model_copy(update={"engine": {"kv_cache_memory_bytes": 2**30}})
    assert engine_arguments(own, PoolConfig(gpus=0.25), MEASURES)["kv_cache_memory_bytes"] == 2**30
    whole = engine_arguments(model, PoolConfig(gpus=1), MEASURES)
    assert whole["max_num_batched_tokens"] == 8192 and "kv_cache_memory_bytes" not in whole
    monkeypatch.setattr("actors.engine.arguments.card_bytes", lambda: None)
    with pytest.raises(ValueError, match="sees no GPU"):
        engine_arguments(model, PoolConfig(gpus=0.25), MEASURES)


def test_parameters_are_counted_from_the_checkpoint(small_folder, tmp_path):
    from transformers import Qwen2ForCausalLM

    model = Qwen2ForCausalLM.from_pretrained(small_folder)
    assert count_parameters(str(small_folder)) == sum(p.numel() for p in model.parameters())
    with pytest.raises(ValueError, match="parameters"):
        count_parameters(str(tmp_path))
