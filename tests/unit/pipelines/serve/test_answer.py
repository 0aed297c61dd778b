"""Bodies, usage and headers."""

import json

from openai.types.chat import ChatCompletion, ChatCompletionChunk

from pipelines.serve import answer
from steer.traces import Question, Status, Step, Trace


def step(model, tokens, accepted=True, prompt=0, cached=0, number=0):
    measures = (float("nan"),) * 4
    return Step(
        number, 0, model, accepted, "step", "", tokens, prompt, cached, None, None, *measures[:3], 0.0, 0.0, "", "", 0.0
    )


TRACE = Trace(
    question=Question("", 0, "", "", "", ""),
    status=Status.ANSWERED,
    text="a\n\nb",
    steps=[step(0, 5, prompt=20, cached=16), step(0, 4, accepted=False), step(1, 6), step(1, 0), step(0, 3)],
    tokens_small=15,
    tokens_large=6,
    tokens_discarded=7,
    prompt_tokens=20,
    prefill_small=10,
    prefill_large=26,
    cached_tokens=99,
    tokens_signal=(0, 0, 4, 0, 0),
)


def test_usage_counts_every_token_of_both_models():
    used = answer.usage(TRACE, 100.0, 1000.0)
    assert used["prompt_tokens"] == 20 and used["completion_tokens"] == 21 and used["total_tokens"] == 41
    assert used["prompt_tokens_details"] == {"cached_tokens": 16}
    steer = used["steer"]
    assert steer["small"] == {"generated": 15, "prefill": 10} and steer["large"] == {"generated": 6, "prefill": 26}
    assert (steer["discarded"], steer["steps"], steer["steps_large"], steer["switches"]) == (7, 3, 1, 2)
    assert steer["flops_paper"] == 2 * (100 * 15 + 1000 * 6)
    assert steer["flops"] == 2 * (100 * 25 + 1000 * 32)
    assert steer["signal"] == 4


def test_headers_say_the_same():
    used = answer.usage(TRACE, 100.0, 1000.0)
    assert answer.headers(used) == {
        "x-steer-tokens-small": "15",
        "x-steer-tokens-large": "6",
        "x-steer-tokens-discarded": "7",
        "x-steer-steps": "3",
        "x-steer-switches": "2",
        "x-steer-flops": "69000",
    }


def test_a_client_reads_what_is_answered():
    used = answer.usage(TRACE, 1.0, 1.0)
    body = answer.completion("id", 5, "m", "text", "thought", "stop", used)
    read = ChatCompletion.model_validate(body, strict=True)
    assert read.choices[0].message.content == "text" and read.usage.completion_tokens == 21
    assert read.choices[0].message.reasoning_content == "thought"
    chunk = ChatCompletionChunk.model_validate(answer.chunk("id", 5, "m", {"content": "é\n"}), strict=True)
    assert chunk.choices[0].delta.content == "é\n"
    last = ChatCompletionChunk.model_validate(answer.usage_chunk("id", 5, "m", used), strict=True)
    assert last.choices == [] and last.usage.prompt_tokens == 20


def test_an_event_is_one_line():
    event = answer.sse({"text": "a\nb\r\u2028é"})
    assert event.startswith(b"data: ") and event.endswith(b"\n\n") and event.count(b"\n") == 2
    assert json.loads(event[6:]) == {"text": "a\nb\r\u2028é"}


def test_errors_have_openais_types():
    kinds = {
        status: answer.error("why", status)["error"]["type"] for status in (400, 401, 404, 413, 429, 500, 503, 504)
    }
    assert kinds == {
        400: "invalid_request_error",
        401: "authentication_error",
        404: "not_found_error",
        413: "invalid_request_error",
        429: "rate_limit_error",
        500: "server_error",
        503: "server_error",
        504: "server_error",
    }
