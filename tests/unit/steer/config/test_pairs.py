"""The known pairs, and pair files of one's own with everything that can be wrong in them."""

import pytest

from steer.config.check import usable_pair
from steer.config.pairs import PAIRS, load_pair
from steer.config.policy import LargePolicy, QueryRouterPolicy, RandomStepPolicy, SteerPolicy
from steer.config.run import ModelConfig, PairConfig, RoutingOptions, RunConfig, ThoughtTags
from steer.costs.gpu_memory import known_dimensions

NOMINAL = {
    "qwen2.5-math": (1.5e9, 7e9),
    "qwen2.5": (1.5e9, 7e9),
    "qwen2.5-coder": (0.5e9, 1.5e9),
    "qwen3": (1.7e9, 8e9),
    "qwen3-4b-32b": (4e9, 32e9),
    "r1-distill": (1.5e9, 7e9),
    "r1-distill-7b-32b": (7e9, 32e9),
    "gemma-3": (4e9, 12e9),
}
HUB_PAIRS = tuple(NOMINAL)
R1 = "deepseek-ai/DeepSeek-R1-Distill-Qwen-"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return str(path)


@pytest.mark.parametrize(
    ("name", "small", "large", "system_role", "context"),
    [
        ("qwen2.5-math", "Qwen/Qwen2.5-Math-1.5B-Instruct", "Qwen/Qwen2.5-Math-7B-Instruct", True, 4096),
        ("qwen2.5", "Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-7B-Instruct", True, 16384),
        ("qwen2.5-coder", "Qwen/Qwen2.5-Coder-0.5B-Instruct", "Qwen/Qwen2.5-Coder-1.5B-Instruct", True, 16384),
        ("qwen3", "Qwen/Qwen3-1.7B", "Qwen/Qwen3-8B", True, 32768),
        ("qwen3-4b-32b", "Qwen/Qwen3-4B", "Qwen/Qwen3-32B", True, 32768),
        ("r1-distill", f"{R1}1.5B", f"{R1}7B", False, 32768),
        ("r1-distill-7b-32b", f"{R1}7B", f"{R1}32B", False, 32768),
        ("gemma-3", "google/gemma-3-4b-it", "google/gemma-3-12b-it", False, 16384),
    ],
)
def test_each_pair_has_its_hub_ids_template_duty_and_context(name, small, large, system_role, context):
    pair = load_pair(name)
    assert (pair.small.path, pair.large.path) == (small, large)
    for model in (pair.small, pair.large):
        assert (model.system_role, model.max_model_len) == (system_role, context)


def test_nominal_parameters_are_those_of_the_names():
    nominal = {name: (PAIRS[name].small.parameters, PAIRS[name].large.parameters) for name in HUB_PAIRS}
    assert nominal == NOMINAL
    assert PAIRS["embedded"].small.parameters is None, "counted when it loads"


def test_the_pairs_that_think_say_so_and_no_other_does():
    for name, pair in PAIRS.items():
        thinks = name.startswith(("qwen3", "r1-distill"))
        for model in (pair.small, pair.large):
            assert (model.thinks == ThoughtTags()) is thinks
            assert (model.template == {"enable_thinking": True}) is name.startswith("qwen3")


@pytest.mark.parametrize("name", HUB_PAIRS)
def test_the_context_of_a_pair_is_within_the_models(name):
    for model in (PAIRS[name].small, PAIRS[name].large):
        assert model.max_model_len <= known_dimensions(model.path).context_tokens


def test_a_pair_is_found_by_name_or_taken_as_it_is():
    embedded = load_pair("embedded")
    models = (embedded.small, embedded.large, embedded.prm, embedded.judge)
    assert [model.path for model in models] == [f"embedded:{name}" for name in ("small", "large", "prm", "judge")]
    assert load_pair(PAIRS["qwen2.5"]) is PAIRS["qwen2.5"]


def test_a_pair_file_holds_every_key_of_the_two_models(tmp_path):
    content = """
small: {path: org/small, parameters: 1.0e9, system_role: false, dtype: bfloat16, max_model_len: 8192,
        usd_per_million_tokens: {input: 0.1, output: 0.4}}
large: {path: /models/large, engine: {quantization: awq, hf_overrides: {rope_theta: 500000.0}}}
"""
    pair = load_pair(write(tmp_path / "pair.yaml", content))
    assert pair.small.model_dump() | {"engine": None} == {
        "path": "org/small",
        "parameters": 1e9,
        "system_role": False,
        "dtype": "bfloat16",
        "max_model_len": 8192,
        "template": None,
        "thinks": None,
        "engine": None,
        "usd_per_million_tokens": {"input": 0.1, "output": 0.4},
    }
    assert pair.large.engine == {"quantization": "awq", "hf_overrides": {"rope_theta": 5e5}}
    assert load_pair(PairConfig.model_validate(pair.model_dump())) == pair


def test_a_folder_beside_the_pair_file_is_found_from_anywhere(tmp_path, monkeypatch):
    """Where no such folder lies there, the path stays: a hub id, or one that is relative to where the run starts."""
    (tmp_path / "pairs" / "models" / "a").mkdir(parents=True)
    file = write(tmp_path / "pairs" / "pair.yaml", "small: {path: models/a}\nlarge: {path: org/b}\n")
    monkeypatch.chdir(tmp_path / "pairs" / "models")
    pair = load_pair(file)
    assert pair.small.path == str(tmp_path / "pairs" / "models" / "a") and pair.large.path == "org/b"
    up = write(tmp_path / "pairs" / "deep" / "pair.yaml", "small: {path: ../models/a}\nlarge: {path: embedded:large}\n")
    assert load_pair(up).small.path == pair.small.path
    assert load_pair(up).large.path == "embedded:large"


def test_a_pair_file_keeps_what_signals_need(tmp_path):
    (tmp_path / "my-prm").mkdir()
    content = "small: {path: a}\nlarge: {path: b}\nprm: {path: my-prm}\njudge: {path: org/c}\n"
    pair = load_pair(write(tmp_path / "pair.yaml", content + "judge_prompt: Right?\nprobe: p\n"))
    assert pair.prm.path == str(tmp_path / "my-prm") and pair.judge.path == "org/c"
    assert (pair.judge_prompt, pair.probe) == ("Right?", "p")


@pytest.mark.parametrize(
    "content",
    [None, "", "small: {path: a}\n", "a: [", "- 1\n", "small: {path: a, sise: 1}\nlarge: {path: b}"],
)
def test_a_wrong_pair_is_refused_with_what_there_is(tmp_path, content):
    path = str(tmp_path / "pair.yaml") if content is None else write(tmp_path / "pair.yaml", content)
    with pytest.raises(ValueError, match="qwen2.5-math, qwen2.5, gemma-3" if content is None else "pair.yaml"):
        load_pair(path)


# --- models that think ----------------------------------------------------------------------------------------------

THINKER = {"path": "a", "thinks": {}}


def pair_of(small, large):
    return PairConfig(small=small, large=large, probe="p")


def test_thinks_and_template_are_read_from_yaml_and_wrong_ones_are_refused(tmp_path):
    content = (
        "small: {path: a, template: {enable_thinking: true}, thinks: {close: '[/T]'}}\nlarge: {path: b, thinks: {}}\n"
    )
    pair = load_pair(write(tmp_path / "pair.yaml", content))
    assert pair.small.template == {"enable_thinking": True}
    assert pair.small.thinks == ThoughtTags(open="<think>", close="[/T]")
    assert pair.large.thinks == ThoughtTags() and pair.large.template is None
    for wrong, why in (
        ({"template": {"messages": []}}, "messages is what STEER itself gives"),
        ({"thinks": {"close": "</th ink>"}}, "close"),
        ({"thinks": {"close": ""}}, "close"),
    ):
        with pytest.raises(ValueError, match=why):
            ModelConfig.model_validate({"path": "a", **wrong})


@pytest.mark.parametrize(
    ("pair", "why"),
    [
        (pair_of(THINKER, {"path": "b"}), "only the small model thinks"),
        (pair_of({"path": "b"}, THINKER), "only the large model thinks"),
        (pair_of(THINKER, {"path": "b", "thinks": {"close": "[/T]"}}), r"end with </think> and \[/T\]"),
    ],
)
def test_a_trace_is_not_handed_over_between_models_that_think_differently(pair, why):
    config = RunConfig(pair=pair)
    for policy in (SteerPolicy(), RandomStepPolicy()):
        with pytest.raises(ValueError, match=f"policy {policy.name} hands a trace over between its steps.*{why}"):
            usable_pair(config, [policy])
    usable_pair(config, [LargePolicy(), QueryRouterPolicy()])
    usable_pair(RunConfig(pair=pair_of(THINKER, THINKER)), [SteerPolicy()])


def test_a_budget_of_thought_needs_a_model_that_thinks_and_leaves_room_for_the_answer():
    bounded = RoutingOptions(thought_tokens=100)
    with pytest.raises(ValueError, match=r"routing.thought_tokens .* this pair has none"):
        usable_pair(RunConfig(routing=bounded), [SteerPolicy()])
    usable_pair(RunConfig(pair="qwen3", routing=bounded), [SteerPolicy()])
    with pytest.raises(ValueError, match="thought_tokens = 4096 leaves no token for the answer"):
        RoutingOptions(thought_tokens=4096)
