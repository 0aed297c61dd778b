"""From the body of `POST /v1/chat/completions` to what is asked. The body is hostile input.

Invariant: a body is either read as a whole or refused with the key at fault and the remedy. No value is converted to
another type, and what is not supported is refused by name, never ignored.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from steer.config.strict import SEEDS
from steer.messages import Prompt

MAX_STOPS, MAX_STOP_CHARS = 4, 256
MAX_ID_CHARS = 512
SHOWN_CHARS = 60
"""Most characters of a request that a message repeats."""
_ABSENT: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "logit_bias": ({},),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "web_search_options": (),
    "verbosity": (),
    "best_of": (1,),
    "echo": (False,),
}
"""Parameters that are not supported, and the values of each, besides null, that ask for nothing."""
_IGNORED = ("user", "metadata", "safety_identifier", "prompt_cache_key")
"""Parameters that say who asks, and change no answer."""
_READ = (
    *("model", "messages", "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "stream"),
    *("stream_options", "vllm_xargs"),
)
_XARGS = ("steer_threshold", "steer_policy", "steer_id", "steer_sample")


class Refused(Exception):
    """A request that is not answered: OpenAI's error object, and its HTTP status."""

    def __init__(
        self,
        message: str,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ):
        super().__init__(message)
        self.status, self.param, self.code, self.retry_after_s = status, param, code, retry_after_s


@dataclass(frozen=True)
class Limits:
    max_body_bytes: int = 2**20
    max_messages: int = 256
    max_text_chars: int = 400_000
    """Of all messages together."""
    max_tokens: int = 4096
    """Most tokens that an answer may have."""


@dataclass(frozen=True)
class Asked:
    """What a request asks. None: the endpoint's own value holds."""

    model: str
    prompt: Prompt
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    stop: tuple[str, ...]
    seed: int | None
    stream: bool
    include_usage: bool
    threshold: float | None
    policy: str | None
    question_id: str
    """With `sample` and `seed` it makes the sampling seeds, as a benchmark question's id does in a run."""
    sample: int


def parse(body: bytes, limits: Limits) -> Asked:
    """What the body asks. Raises Refused."""
    request = _object(_json(body, limits), "the body")
    for key in request:
        if key not in _READ and key not in _IGNORED:
            _refuse_unsupported(key, request[key])
    given = {key: value for key, value in request.items() if value is not None}
    streams = _of(given, "stream", bool, "true or false") or False
    options = _object(given.get("stream_options", {}), "stream_options")
    _known_keys(options, ("include_usage",), "stream_options")
    if given.get("stream_options") is not None and not streams:
        _refuse("stream_options", "it needs `stream: true`: set that, or leave stream_options out")
    xargs = _object(given.get("vllm_xargs", {}), "vllm_xargs")
    _known_keys(xargs, _XARGS, "vllm_xargs")
    policy = _of(xargs, "steer_policy", str, "the name of a policy", "vllm_xargs.")
    model = _of(given, "model", str, "the name of a model")
    if model is None:
        _refuse("model", "it is missing: give a name that /v1/models lists")
    return Asked(
        model=model,
        prompt=_prompt(given.get("messages"), limits),
        temperature=_number(given, "temperature", 0.0, 2.0),
        top_p=_number(given, "top_p", 0.0, 1.0, above=True),
        max_tokens=_max_tokens(given, limits),
        stop=_stops(given.get("stop")),
        seed=_whole(given, "seed", 0, SEEDS - 1),
        stream=streams,
        include_usage=_of(options, "include_usage", bool, "true or false", "stream_options.") or False,
        threshold=_number(xargs, "steer_threshold", -math.inf, math.inf, "vllm_xargs."),
        policy=policy,
        question_id=_id(xargs),
        sample=_whole(xargs, "steer_sample", 0, 2**31 - 1, "vllm_xargs.") or 0,
    )


def refuse_long(size: int, limits: Limits) -> None:
    """Raise Refused for a body of so many bytes, or for the part of it that has come, if that is too long."""
    if size > limits.max_body_bytes:
        raise Refused(f"the body is longer than {limits.max_body_bytes} bytes: shorten it", 413)


def _json(body: bytes, limits: Limits) -> Any:
    refuse_long(len(body), limits)

    def no_number(name: str) -> NoReturn:
        raise ValueError(f"{name} is no JSON number")

    try:
        found = json.loads(body.decode("utf-8"), parse_constant=no_number)
        json.dumps(found, ensure_ascii=False).encode("utf-8")  # lone surrogates have no UTF-8
    except RecursionError:
        raise Refused("the body is nested too deeply") from None
    except ValueError as failure:  # also what is not UTF-8, and integers of thousands of digits
        raise Refused(f"the body is not valid JSON in UTF-8: {str(failure)[:SHOWN_CHARS]}") from None
    return found


def _refuse(key: str, why: str) -> NoReturn:
    raise Refused(f"`{key}`: {why}", param=key)


def _refuse_unsupported(key: str, value: Any) -> None:
    shown = key[:SHOWN_CHARS]
    if key not in _ABSENT:
        raise Refused(f"`{shown}` is no parameter of this endpoint: leave it out", param=shown)
    if value is None or any(type(value) is type(off) and value == off for off in _ABSENT[key]):
        return
    if isinstance(value, float) and value == 0.0 and 0 in _ABSENT[key]:
        return
    what = f"`{shown}` is not supported here: leave it out"
    raise Refused(what if not _ABSENT[key] else f"{what}, or set it to {json.dumps(_ABSENT[key][0])}", param=shown)


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Refused(f"{name} must be a JSON object", param=None if name == "the body" else name)
    return value


def _known_keys(held: Mapping[str, Any], known: Sequence[str], name: str) -> None:
    for key in held:
        if key not in known:
            _refuse(f"{name}.{key[:SHOWN_CHARS]}", f"there is no such key: {name} takes {', '.join(known)}")


def _of(held: Mapping[str, Any], key: str, kind: type, what: str, before: str = "") -> Any:
    """The value of this type; None if there is none."""
    value = held.get(key)
    if value is not None and type(value) is not kind:
        _refuse(before + key, f"it must be {what}")
    return value


def _number(
    held: Mapping[str, Any], key: str, least: float, most: float, before: str = "", above: bool = False
) -> float | None:
    value = held.get(key)
    if value is None:
        return None
    if type(value) not in (int, float) or not abs(value) < 1e300:
        _refuse(before + key, "it must be a number")
    if not least <= value <= most or (above and value == least):
        _refuse(
            before + key,
            f"it must be {'above' if above else 'from'} {least:g} {'and at most' if above else 'to'} {most:g}",
        )
    return float(value)


def _whole(held: Mapping[str, Any], key: str, least: int, most: int, before: str = "") -> int | None:
    value = held.get(key)
    if value is None:
        return None
    if type(value) is not int or not least <= value <= most:
        _refuse(before + key, f"it must be a whole number from {least} to {most}")
    return int(value)


def _max_tokens(given: Mapping[str, Any], limits: Limits) -> int | None:
    keys = [key for key in ("max_tokens", "max_completion_tokens") if key in given]
    values = {_whole(given, key, 1, 2**31 - 1) for key in keys}
    if len(values) > 1:
        _refuse("max_tokens", "it differs from max_completion_tokens, which means the same: give one of them")
    if not values:
        return None
    (value,) = values
    if value is not None and value > limits.max_tokens:
        _refuse(keys[0], f"an answer has at most {limits.max_tokens} tokens here: ask for no more")
    return value


def _stops(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        _refuse("stop", "it must be a string or a list of strings")
    if len(stops) > MAX_STOPS or any(not 0 < len(stop) <= MAX_STOP_CHARS for stop in stops):
        _refuse("stop", f"give at most {MAX_STOPS} strings of 1 to {MAX_STOP_CHARS} characters")
    return tuple(stops)


def _id(xargs: Mapping[str, Any]) -> str:
    found = _of(xargs, "steer_id", str, "the id of a question", "vllm_xargs.") or ""
    if len(found) > MAX_ID_CHARS:
        _refuse("vllm_xargs.steer_id", f"it has at most {MAX_ID_CHARS} characters")
    return str(found)


def _prompt(messages: Any, limits: Limits) -> Prompt:
    """System texts are joined by a blank line, and so are turns of one speaker in a row: chat templates want turns that
    alternate."""
    if not isinstance(messages, list) or not messages:
        _refuse("messages", "it must be a list of at least one message")
    if len(messages) > limits.max_messages:
        _refuse("messages", f"there are more than {limits.max_messages}: leave the oldest out")
    system: list[str] = []
    turns: list[tuple[str, str]] = []
    chars = 0
    for at, message in enumerate(messages):
        where = f"messages[{at}]"
        role, text = _message(message, where)
        chars += len(text)
        if chars > limits.max_text_chars:
            _refuse("messages", f"their texts have more than {limits.max_text_chars} characters together: shorten them")
        if role == "system":
            if turns:
                _refuse(f"{where}.role", "a system message must come before all others")
            system.append(text)
        elif turns and turns[-1][0] == role:
            turns[-1] = (role, f"{turns[-1][1]}\n\n{text}")
        else:
            turns.append((role, text))
    if not turns or turns[0][0] != "user":
        _refuse("messages", "the first message behind the system text must be a user's")
    if turns[-1][0] != "user" or not turns[-1][1].strip():
        _refuse("messages", "the last message must be a user's, with text: answers are not continued here")
    return Prompt(turns[-1][1], "\n\n".join(text for text in system if text), tuple(turns[:-1]))


def _message(message: Any, where: str) -> tuple[str, str]:
    """Its role (`system`, `user` or `assistant`) and text."""
    held = _object(message, where)
    role = held.get("role")
    if role not in ("system", "developer", "user", "assistant"):
        _refuse(f"{where}.role", "it must be system, developer, user or assistant: tools are not supported here")
    for key, value in held.items():
        # The thought of an answer of ours may be sent back with it. Templates leave it out.
        said = key in ("name", "reasoning_content") and isinstance(value, str)
        if key in ("role", "content") or value is None or said or value == []:
            continue
        _refuse(f"{where}.{key[:SHOWN_CHARS]}", "it is not supported here: leave it out")
    text = _text(held.get("content"), f"{where}.content")
    return ("system" if role == "developer" else str(role)), text


def _text(content: Any, where: str) -> str:
    """A text, or the text parts of a list one a line."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        _refuse(where, "it must be a text, or a list of text parts")
    parts = []
    for at, part in enumerate(content):
        held = _object(part, f"{where}[{at}]")
        if held.get("type") != "text" or not isinstance(held.get("text"), str) or len(held) != 2:
            _refuse(f"{where}[{at}]", 'only parts {"type": "text", "text": ...} are supported here')
        parts.append(held["text"])
    return "\n".join(parts)
