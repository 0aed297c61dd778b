"""Secrets of a configuration: what they are, and how they stay out of files, logs and messages.

An engine gets the real value. Whatever is written or printed goes through `masked` (values with keys) or `hidden`
(text). Invariant: a configuration that was masked is refused by `load`, so no mask is ever used as a secret.
"""

import os
import re
from collections.abc import Iterator
from typing import Any

MASK = "(secret: left out)"
"""What stands for a secret."""
LEAST_CHARS = 6
"""Shorter values are masked where they stand, but not looked for in other texts, where they could be ordinary words."""
FROM_ENVIRONMENT = {"hf_token": "HF_TOKEN"}
"""Keys that an environment variable can give instead, which the hub's own client reads too."""

_KEYS = re.compile(
    r"(^|_)(password|passwd|passphrase|secret|credentials?|authorization|bearer|"
    r"(hf|hub|api|auth|access|session|security|refresh|sas|github|gh|user|client|secret)_?token|"
    r"(api|access|secret|account|private|signing|encryption)_?key(_?id)?)$|^(token|pwd|auth|sas|apikey)$"
)
"""Keys whose text is a secret; `_key` in lower case with underscores."""
_URL_USER = re.compile(r"(?<=://)[^/\s@'\"?#]+(?=@)")
_URL_QUERY = re.compile(r"(?<=[?&;])([A-Za-z0-9_.\-]+)=([^&\s'\"#;]+)")
_TOKENS = re.compile(r"\b(hf_[A-Za-z0-9]{16,}|AKIA[A-Z0-9]{12,}|gh[pousr]_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_\-]{20,})\b")
"""Forms of well-known tokens, which are secrets under any key."""
_SIGNED = re.compile(r"(^|[_\-.])(sig|signature|token|password|secret|credential|key|sas)$")
"""Names of a URL's parameters that are secrets."""

_known: set[str] = set()
"""Secrets that this process has read."""


def masked(value: Any) -> Any:
    """A value of JSON with `MASK` in the place of every secret, at any depth. Leaves the value itself as it is."""
    return _masked(value, False)


def _masked(value: Any, secret: bool) -> Any:
    if isinstance(value, dict):
        return {name: _masked(held, secret or _is_secret(name)) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(held, secret) for held in value]
    if isinstance(value, str) and value:
        return MASK if secret else _without_tokens(value)
    return value


def hidden(text: object) -> str:
    """A text without credentials in URLs, well-known tokens, and the secrets that this process has read."""
    shown = str(text)
    for secret in sorted(_known, key=len, reverse=True):
        shown = shown.replace(secret, MASK)
    return _without_tokens(shown)


def remember(value: Any) -> None:
    """Have `hidden` take the secrets of a configuration, given as values of JSON, out of every text."""
    texts = [text for _, text, secret in _texts(value) if secret]
    _known.update(text for text in texts if len(text) >= LEAST_CHARS and text != MASK)


def left_out(value: Any) -> list[str]:
    """Dotted keys whose text has a mask in it."""
    return [key for key, text, _ in _texts(value) if MASK in text]


def _texts(value: Any, key: str = "", secret: bool = False) -> Iterator[tuple[str, str, bool]]:
    """(dotted key, text, whether it is a secret) of every text in a value of JSON."""
    if isinstance(value, str):
        yield key, value, secret
    named = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for name, held in named:
        yield from _texts(held, f"{key}.{name}" if key else str(name), secret or _is_secret(name))


def _is_secret(name: object) -> bool:
    return _KEYS.search(_key(name)) is not None


def with_secrets(config: Any, source: str) -> Any:
    """A configuration, as values of JSON, with its secrets. No message of this process shows them from now on.

    Those that were left out where the configuration was written come from the environment. Raises ValueError, with the
    remedy, if one does not.
    """
    found = _from_environment(config)
    if missing := left_out(found):
        key, others = missing[0], f" (and {len(missing) - 1} more)" if missing[1:] else ""
        variable = FROM_ENVIRONMENT.get(_key(key.rpartition(".")[2]))
        raise ValueError(
            f"{source}: {key}{others} is a secret, which is not kept there: give CONFIG, which has it, or "
            f"--set {key}=VALUE" + (f", or set {variable} in the environment" if variable else "")
        )
    remember(found)
    return found


def _from_environment(value: Any) -> Any:
    """The value with what the environment has in the place of masks."""
    if isinstance(value, dict):
        variables = {name: FROM_ENVIRONMENT.get(_key(name), "") for name in value}
        return {
            name: os.environ.get(variables[name], held) if held == MASK else _from_environment(held)
            for name, held in value.items()
        }
    return [_from_environment(held) for held in value] if isinstance(value, list) else value


def _without_tokens(text: str) -> str:
    if "://" in text:
        text = _URL_QUERY.sub(lambda m: f"{m[1]}={MASK}" if _SIGNED.search(m[1].lower()) else m[0], text)
        text = _URL_USER.sub(MASK, text)
    return _TOKENS.sub(MASK, text)


def _key(name: object) -> str:
    """A key in lower case with underscores: `apiKey`, `API-KEY` -> `api_key`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(name)).replace("-", "_").lower()
