"""The replica's parts that need no model: the process's end, the hook's refusal, the bodies' bound."""

import subprocess
import sys
from array import array

import pytest

from actors import confidence_hook
from actors.bodies import Bodies
from actors.engine_arguments import count_parameters, engine_arguments
from steer.config import ModelConfig, PoolConfig
from steer.traces import MEASURES
from steer.work import Prompt

pytestmark = pytest.mark.engine


class Letters:
    """A vocabulary of single characters."""

    eos_ids = frozenset({0})

    def encode_prompt(self, prompt):
        return self.encode(prompt.user)

    def encode(self, text):
        return [ord(c) for c in text]

    def texts(self, ids):
        return [chr(i) for i in ids]


def run_python(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


def test_a_failing_engine_ends_its_process():
    """Else Ray would keep a replica that answers nobody."""
    done = run_python(
        "import asyncio\n"
        "from actors.engine import EngineReplica\n"
        "from steer.config import ModelConfig, PoolConfig\n"
        "from steer.work import Sampling, StepBatch\n"
        "class Broken:\n"
        "    unfinished = False\n"
        "    def admit(self, ticket): raise KeyError('engine broke')\n"
        "class Replica(EngineReplica):\n"
        "    def _load(self): return Broken(), None\n"
        "async def main():\n"
        "    replica = Replica('r-0', ModelConfig(path='x'), PoolConfig(), ('max_logit',))\n"
        "    batch = StepBatch(Sampling(), ['k'], [0], [0], [1], [0], [()])\n"
        "    async for _ in replica.run(batch): pass\n"
        "asyncio.run(main())\n"
    )
    assert done.returncode == 1 and "engine broke" in done.stderr


def test_importing_the_replica_imports_no_engine():
    done = run_python("import sys, actors.engine; print([m for m in ('vllm', 'torch', 'ray') if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_the_hook_refuses_a_sampler_it_does_not_know_and_says_what_to_do():
    class Runner:
        sampler = object()

    class Worker(confidence_hook.ConfidenceHook):
        model_runner = Runner()

    class Engine:
        def collective_rpc(self, method):
            return [getattr(Worker(), method)()]

    with pytest.raises(RuntimeError, match=r"max_logit"):
        confidence_hook.install(Engine())


def test_measures_decide_whether_the_hook_is_needed():
    assert confidence_hook.needs_hook(MEASURES) and confidence_hook.needs_hook(["entropy"])
    assert not confidence_hook.needs_hook(["max_logit"])
    with pytest.raises(ValueError, match="max_prob"):
        confidence_hook.needs_hook(["luck"])


def test_the_least_recently_used_bodies_go_first():
    bodies = Bodies(Letters(), capacity_tokens=12)
    for key in "abc":
        assert bodies.take(key, 0, (Prompt("1234"),)).ids == array("i", [49, 50, 51, 52])
    assert bodies.take("a", 1, ()) is not None
    bodies.take("d", 0, (Prompt("1234"),))
    assert bodies.take("b", 1, ()) is None, "b was the oldest"
    assert bodies.take("a", 1, ()) is not None


def test_a_body_that_was_cut_is_not_written_by_the_row_that_had_it_before():
    bodies = Bodies(Letters())
    stale = bodies.take("a", 0, (Prompt("12"),))
    bodies.take("a", 1, ("34",))
    bodies.write("a", stale, [99], None)
    assert bodies.take("a", 2, ()).ids == array("i", [49, 50, 51, 52])
    bodies.drop(["a"])
    bodies.write("a", stale, [99], None)
    assert bodies.take("a", 1, ()) is None


def test_span_states_are_followed_through_pieces_nobody_scored():
    bodies = Bodies(Letters())
    body = bodies.take("a", 0, (Prompt(r"the prompt's \( does not count"), r"so \(a", r"b\) then"))
    assert bodies.span(body, 2) != bodies.span(body, 1) == bodies.span(body, 3)
    shorter = bodies.take("a", 2, ())
    assert bodies.span(shorter, 2) == bodies.span(body, 2)


def test_pieces_out_of_order_are_refused():
    bodies = Bodies(Letters())
    for new in ((), ("text",), (Prompt("a"), Prompt("b"))):
        with pytest.raises(ValueError):
            bodies.take("a", 0, new)


def test_engine_entry_overrides_every_default(small_folder):
    model = ModelConfig(path=str(small_folder), engine={"block_size": 64, "hf_overrides": {"x": 1}})
    arguments = engine_arguments(model, PoolConfig(), MEASURES)
    assert arguments["block_size"] == 64 and arguments["hf_overrides"] == {"head_dtype": "float32", "x": 1}
    assert arguments["max_num_batched_tokens"] >= 8192 and arguments["dtype"] == "float32"
    on_gpus = engine_arguments(model, PoolConfig(gpus=2), ("max_logit",))
    assert on_gpus["tensor_parallel_size"] == 2 and on_gpus["dtype"] == "auto"
    assert "worker_extension_cls" not in on_gpus and "enforce_eager" not in on_gpus


def test_parameters_are_counted_from_the_checkpoint(small_folder, tmp_path):
    from transformers import Qwen2ForCausalLM

    model = Qwen2ForCausalLM.from_pretrained(small_folder)
    assert count_parameters(str(small_folder)) == sum(p.numel() for p in model.parameters())
    with pytest.raises(ValueError, match="parameters"):
        count_parameters(str(tmp_path))
