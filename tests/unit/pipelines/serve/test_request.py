"""From a body to what is asked."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.serve.request import Asked, Limits, Refused, parse
from steer.messages import Prompt

HI = [{"role": "user", "content": "hi"}]


def body(messages=HI, **more):
    return json.dumps({"model": "m", "messages": messages, **more}).encode()


def refused(raw, limits=None):
    with pytest.raises(Refused) as caught:
        parse(raw, limits or Limits())
    return caught.value


def test_what_is_not_given_is_left_to_the_endpoint():
    asked = parse(body(), Limits())
    assert asked == Asked("m", Prompt("hi"), None, None, None, (), None, False, False, None, None, "", 0)


def test_everything_that_is_supported():
    asked = parse(
        body(
            temperature=0,
            top_p=0.5,
            max_completion_tokens=7,
            stop=["a", "b"],
            seed=2**63 - 1,
            stream=True,
            stream_options={"include_usage": True},
            user="me",
            metadata={"a": "b"},
            vllm_xargs={"steer_threshold": 0.25, "steer_policy": "small", "steer_id": "q1", "steer_sample": 3},
        ),
        Limits(),
    )
    assert asked == Asked("m", Prompt("hi"), 0.0, 0.5, 7, ("a", "b"), 2**63 - 1, True, True, 0.25, "small", "q1", 3)


@pytest.mark.parametrize(
    "off",
    [
        {"n": 1},
        {"n": None},
        {"logprobs": False},
        {"top_logprobs": None},
        {"presence_penalty": 0},
        {"frequency_penalty": 0.0},
        {"response_format": {"type": "text"}},
        {"tools": []},
        {"tools": None},
        {"store": False},
        {"service_tier": "auto"},
        {"modalities": ["text"]},
        {"stream": None},
        {"stream_options": None},
        {"stop": None},
        {"max_tokens": 5, "max_completion_tokens": 5},
    ],
)
def test_what_asks_for_nothing_is_taken(off):
    assert parse(body(**off), Limits()).prompt == Prompt("hi")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n", 2),
        ("n", True),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("presence_penalty", 0.5),
        ("response_format", {"type": "json_object"}),
        ("tools", [{"type": "function"}]),
        ("tool_choice", "required"),
        ("logit_bias", {"1": 5}),
        ("audio", {"voice": "x"}),
        ("temprature", 0.5),
        ("extra_body", {}),
        ("temperature", 2.1),
        ("temperature", -0.1),
        ("temperature", "1"),
        ("temperature", True),
        ("top_p", 0),
        ("top_p", 1.1),
        ("max_tokens", 0),
        ("max_tokens", 1.0),
        ("max_tokens", 5000),
        ("max_completion_tokens", 5000),
        ("seed", -1),
        ("seed", 2**63),
        ("seed", 1.5),
        ("stop", ""),
        ("stop", ["a"] * 5),
        ("stop", [1]),
        ("stop", "x" * 257),
        ("stream", "true"),
        ("stream", 1),
        ("model", 3),
        ("messages", []),
        ("messages", "hi"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(key, value):
    found = refused(body(**{key: value}) if key != "messages" else body(messages=value))
    assert found.status == 400 and found.param == key and key in str(found)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"what": 1}}, "stream_options.what"),
        ({"stream": True, "stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"vllm_xargs": {"steer_thresold": 1}}, "vllm_xargs.steer_thresold"),
        ({"vllm_xargs": {"steer_threshold": "high"}}, "vllm_xargs.steer_threshold"),
        ({"vllm_xargs": {"steer_sample": -1}}, "vllm_xargs.steer_sample"),
        ({"vllm_xargs": {"steer_id": "x" * 513}}, "vllm_xargs.steer_id"),
        ({"vllm_xargs": [1]}, "vllm_xargs"),
    ],
)
def test_keys_within_keys_are_named(more, param):
    assert refused(body(**more)).param == param


class TestMessages:
    def prompt(self, *turns):
        return parse(body([{"role": role, "content": text} for role, text in turns]), Limits()).prompt

    def test_system_earlier_turns_and_the_last_one(self):
        turns = [("system", "be brief"), ("developer", "be kind"), ("user", "a"), ("assistant", "b"), ("user", "c")]
        assert self.prompt(*turns) == Prompt("c", "be brief\n\nbe kind", (("user", "a"), ("assistant", "b")))

    def test_turns_of_one_speaker_in_a_row_are_one(self):
        assert self.prompt(("user", "a"), ("user", "b")) == Prompt("a\n\nb")

    def test_parts_of_text(self):
        parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        assert parse(body([{"role": "user", "content": parts, "name": "me"}]), Limits()).prompt == Prompt("a\nb")

    @pytest.mark.parametrize(
        ("messages", "param"),
        [
            ([{"role": "tool", "content": "x"}], "messages[0].role"),
            ([{"role": "user"}], "messages[0].content"),
            ([{"role": "user", "content": None}], "messages[0].content"),
            ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "messages[0].content[0]"),
            ([{"role": "user", "content": "x", "tool_calls": [1]}], "messages[0].tool_calls"),
            ([{"role": "user", "content": "x"}, {"role": "system", "content": "y"}], "messages[1].role"),
            ([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "messages"),
            ([{"role": "assistant", "content": "y"}, {"role": "user", "content": "x"}], "messages"),
            ([{"role": "system", "content": "y"}], "messages"),
            ([{"role": "user", "content": " \n"}], "messages"),
            (["hi"], "messages[0]"),
        ],
    )
    def test_what_no_template_can_show_is_refused(self, messages, param):
        assert refused(body(messages)).param == param

    def test_their_number_and_length_are_bounded(self):
        assert refused(body(HI * 3), Limits(max_messages=2)).param == "messages"
        assert refused(body(HI * 3), Limits(max_text_chars=5)).param == "messages"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b'{"model": NaN}',
        b'{"model": "m", "messages": Infinity}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"model": "\\ud800", "messages": [{"role": "user", "content": "x"}]}',
        b'{"seed": ' + b"9" * 10_000 + b"}",
    ],
)
def test_hostile_json_is_a_400(raw):
    assert refused(raw).status == 400


def test_a_long_body_is_a_413():
    assert refused(b" " * 11, Limits(max_body_bytes=10)).status == 413


def test_a_message_repeats_little_of_the_request():
    assert len(str(refused(body(**{"k" * 10_000: 1})))) < 300


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("temperature", "top_p", "max_tokens", "stop", "seed", "stream", "stream_options", "vllm_xargs", "n", "tools")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.dictionaries(st.sampled_from([*KEYS, "messages", "model"]), json_values))
def test_any_body_is_read_or_refused(made):
    raw = made if isinstance(made, bytes) else json.dumps({"model": "m", "messages": HI, **made}).encode()
    try:
        assert isinstance(parse(raw, Limits()), Asked)
    except Refused as failure:
        assert failure.status == 400
