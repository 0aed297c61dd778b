"""Read configuration files: YAML, with `--set key=value` overrides laid over it, into the typed configuration.

Invariant: everything that is wrong with a file or an override is reported at once, a line each: `source: key = value:
what is wrong; remedy`. Nothing is ignored and nothing is guessed. What follows `=` in an override is text for a key
that takes text, and YAML for any other.
"""

import datetime
import difflib
import re
import types
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from steer.config.check import contradictions
from steer.config.pairs import load_pair
from steer.config.run import RunConfig
from steer.config.secrets import masked, with_secrets
from steer.config.strict import COUNTS, SEEDS
from steer.config.sweep import SweepConfig
from steer.storage.filesystem import OutputFailed

C = TypeVar("C", bound=BaseModel)
_UNION_NOISE = ("str", "int", "float")
"""Names that pydantic puts into an error's location for the plain members of a union such as `str | PairConfig`."""
SHOWN_CHARS = 120
"""How much of a value a message repeats."""
Location = tuple[int | str, ...]
"""Where pydantic found an error: keys, positions in lists, and names of union members."""


class SettingsError(Exception):
    """A configuration that cannot be used. The message is for a person and says the remedy."""


def load_config(path: str | Path | None, sets: Sequence[str] = ()) -> RunConfig:
    """The configuration of `steer run`: the file with the overrides `sets` laid over it. `path` None: all defaults."""
    return load(RunConfig, path, sets)


def load(model: type[C], path: str | Path | None, sets: Sequence[str] = (), held: dict[str, Any] | None = None) -> C:
    """The configuration in the file `path`, with the overrides `sets` laid over it. `path` None: all defaults.

    `held`: what was read from `path` already; the overrides change it in place. Raises SettingsError with a line for
    everything that is wrong.
    """
    source = "defaults" if path is None else str(path)
    data = held if held is not None else {} if path is None else _read(Path(path))
    for item in sets:
        _override(data, item, model)
    if "policy" in model.model_fields:
        data = _name_policy(data)
    try:
        data = with_secrets(data, source)
    except ValueError as refusal:
        raise SettingsError(str(refusal)) from None
    set_keys = {item.split("=", 1)[0].strip() for item in sets}
    try:
        config = model.model_validate(data)
    except ValidationError as failure:
        raise SettingsError("\n".join(_explain(failure, model, source, set_keys))) from None
    if isinstance(config, RunConfig | SweepConfig):
        policies = [config.policy] if isinstance(config, RunConfig) else [v.policy for v in config.variants]
        problems = [f"{source}: {problem}" for problem in contradictions(policies, config.pair, config.pools)]
        if problems:
            raise SettingsError("\n".join(problems))
    return config


@contextmanager
def refusals_as_settings_errors() -> Iterator[None]:
    """Turn what the block refuses into a SettingsError.

    The block loads a pair, a benchmark or a run folder, and what these refuse is the configuration's fault. Keep it
    small, so that a ValueError of the run itself keeps its stack trace.
    """
    try:
        yield
    except OutputFailed as refusal:
        raise SettingsError(f"{refusal}, or choose another --out") from refusal
    except (ValueError, FileExistsError, FileNotFoundError) as refusal:
        raise SettingsError(str(refusal)) from refusal


def to_yaml(config: BaseModel) -> str:
    """The resolved configuration as YAML that `load` reads back to the same configuration, if it has no secrets."""
    return yaml.safe_dump(masked(config.model_dump(mode="json")), sort_keys=False, allow_unicode=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.y*ml")], 1, 0.5)
        hint = f"did you mean {path.parent / near[0]}?" if near else "the shipped ones are in pipelines/configs/"
        raise SettingsError(f"{path}: no such file; {hint}") from None
    except (OSError, UnicodeDecodeError) as failure:
        raise SettingsError(f"{path}: cannot be read: {failure}") from None
    except (yaml.YAMLError, ValueError) as failure:  # ValueError: a date that no calendar has, a number of 5,000 digits
        remedy = "text with a colon, { } or [ ] needs quotes"
        raise SettingsError(f"{path}: not valid YAML: {' '.join(str(failure).split())}; {remedy}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: holds a {type(data).__name__}, not `key: value` lines")
    return data


def _override(data: dict[str, Any], item: str, model: type[BaseModel]) -> None:
    """Lay one `dotted.key=value` over `data`, in place."""
    key, equals, text = item.partition("=")
    item = shown(item)
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise SettingsError(f"--set {item}: not of the form key=value, for example --set policy.gamma=0.3")
    value = _value(text, _types(model, parts), item)
    here: Any = data
    for depth, part in enumerate(parts[:-1]):
        below = here.setdefault(part, {}) if isinstance(here, dict) else _item(here, part, item)
        if below is None or (part == "policy" and isinstance(below, str)):
            below = {} if below is None else {"name": below}
            here[part if isinstance(here, dict) else int(part)] = below
        elif part == "pair" and isinstance(below, str):
            below = here[part] = _spelled_out(below, item)
        if not isinstance(below, dict | list):
            taken = ".".join(parts[: depth + 1])
            raise SettingsError(f"--set {item}: {taken} is {below!r} here, it has no keys; set {taken} as a whole")
        here = below
    if isinstance(here, list):
        _item(here, parts[-1], item)
        here[int(parts[-1])] = value
    else:
        here[parts[-1]] = value


def _spelled_out(pair: str, item: str) -> dict[str, Any]:
    """The models of a pair that is given by its name or file, so that an override can change a key of one."""
    try:
        return load_pair(pair).model_dump(mode="json")
    except ValueError as failure:
        raise SettingsError(f"--set {item}: {failure}") from None


_TAKEN_AS: dict[type, tuple[type, ...]] = {int: (float,), float: (int,), list: (tuple,), dict: (BaseModel,)}
"""The types of keys, besides its own, that a value from YAML is meant for."""
_DIGITS = re.compile(r"[+-]?[0-9]+")
_ANY = re.compile("")
_PLAINLY = {type(None): re.compile(r"(?i:null|~|)\Z"), list: re.compile(r"\["), dict: re.compile(r"\{")}
"""How a value that is not text must be written where text would do. `&x`, `#1` and `- a` are text there."""


def _value(text: str, types_: set[Any], item: str) -> Any:
    """The value of an override, for a key that takes these types.

    A key that takes text gets the text itself, unless that is quoted, or is something else that the key takes too:
    `null`, a list, a mapping, a number.
    """
    takes_text = bool(types_ & {str, Path})
    try:
        read = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # ValueError: a date that no calendar has, a number of 5,000 digits
        if takes_text:
            return text.strip()
        raise SettingsError(f"--set {item}: the value is not valid YAML; quote it") from None
    if not takes_text:
        return _plain_integer(text.strip(), read, types_, item)
    text = text.strip()
    if isinstance(read, str):
        return read if text[:1] in ("'", '"') else text
    accepted: set[Any] = {Any, type(read), *_TAKEN_AS.get(type(read), ())}
    return read if types_ & accepted and _PLAINLY.get(type(read), _ANY).match(text) else text


def _plain_integer(text: str, read: Any, types_: set[Any], item: str) -> Any:
    """`read`, unless the key takes an integer and YAML's own spellings made it one: `010` is 8, `12:30:45` is 45045."""
    if int not in types_ or types_ & {float, Any} or isinstance(read, bool) or not isinstance(read, int | float):
        return read
    if _DIGITS.fullmatch(text):
        return int(text)
    if isinstance(read, float) and not read.is_integer():
        return read  # The model says what is wrong with 1.5 and infinity.
    raise SettingsError(f"--set {item}: a whole number is needed; write it in plain digits")


def _types(model: type[BaseModel], parts: Sequence[str]) -> set[Any]:
    """The types that a key takes: `str`, `NoneType`, `tuple`, `BaseModel` for any model, and so on. Empty for a key
    that no model has. Keys below a plain mapping take `Any`."""
    found: list[Any] = [model]
    for part in parts:
        if any(typing.get_origin(one) is dict or one is Any for one in found):
            return {Any}
        inside = [arg for one in found if part.isdecimal() for arg in typing.get_args(one) if arg is not ...]
        models = [m for one in found for m in _models_in(one)]
        fields = [m.model_fields[part] for m in models if part in m.model_fields]
        found = [kind for annotation in (*inside, *(f.annotation for f in fields)) for kind in _members(annotation)]
    kinds = {typing.get_origin(one) or one for one in found}
    return {BaseModel if isinstance(kind, type) and issubclass(kind, BaseModel) else kind for kind in kinds}


def _members(annotation: Any) -> Iterator[Any]:
    """The members of a union, or the annotation itself."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _members(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for member in typing.get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _item(items: list[Any], part: str, item: str) -> Any:
    if not part.isdecimal() or int(part) >= len(items):
        raise SettingsError(f"--set {item}: {part} is not one of the {len(items)} items 0 to {len(items) - 1}")
    return items[int(part)]


def _name_policy(data: dict[str, Any]) -> dict[str, Any]:
    """Name the policy: `policy: large` is short for `policy: {name: large}`, and the default name is steer."""
    policy = data.get("policy")
    if isinstance(policy, str):
        return {**data, "policy": {"name": policy}}
    if isinstance(policy, dict) and "name" not in policy:
        return {**data, "policy": {"name": "steer", **policy}}
    return data


# --- saying what is wrong -------------------------------------------------------------------------------------------


def _explain(failure: ValidationError, model: type[BaseModel], source: str, set_keys: set[str]) -> Iterator[str]:
    errors = failure.errors(include_url=False)
    spelled_out = {e["loc"][: e["loc"].index("PairConfig")] for e in errors if "PairConfig" in e["loc"]}
    for error in errors:
        loc = error["loc"]
        if loc and loc[-1] == "str" and loc[:-1] in spelled_out and isinstance(error["input"], dict):
            continue  # The pair is a mapping with errors of its own. That it is no name need not be said.
        path, models = _locate(model, loc)
        if error["type"].startswith("union_tag"):
            path = [*path, "name"]
        key = ".".join(map(str, path)) or "(top level)"
        overridden = any(key == k or key.startswith(k + ".") or k.startswith(key + ".") for k in set_keys)
        where = "--set" if overridden else source
        yield f"{where}: {_sentence(error, key, path, models)}"


def _sentence(error: ErrorDetails, key: str, path: list[int | str], models: list[type[BaseModel]]) -> str:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        valid = sorted({name for m in models for name in m.model_fields})
        near = difflib.get_close_matches(str(path[-1]), valid, 1, 0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"{key} = {_shown(value)}: unknown key; {hint}Valid keys here: {', '.join(valid)}"
    if kind == "missing":
        return f"{key}: missing; add it"
    if kind == "union_tag_invalid":
        given = str(context["tag"])
        valid = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
        return f"{key} = {_shown(given)}: not a known policy; {_nearest(given, valid)}"
    if kind == "union_tag_not_found":
        return f"{key}: missing; name the policy"
    if kind == "literal_error":
        valid = [word.strip(" '") for word in context["expected"].replace(" or ", ",").split(",")]
        return f"{key} = {_shown(value)}: not allowed; {_nearest(str(value), valid)}"
    if kind == "string_too_short" or (kind == "string_type" and value is None):
        return f"{key}: it is empty; give it a value (in quotes, if the text is null or ~)"
    held = context["held"] if kind == "not_text" else value
    if kind in ("string_type", "not_text") and type(held) in _YAML_KINDS:
        written = _as_written(held).replace("'", "''")
        alone = isinstance(held, dict | list) and held is value
        quoted = f": {path[-1]}: '{shown(written)}'" if alone else " as you wrote it"
        what = "this" if held is value else shown(_as_written(held))
        return (
            f"{key} = {_shown(value)}: YAML reads {what} as {_YAML_KINDS[type(held)]}; put the text in quotes{quoted}"
        )
    given = "" if isinstance(value, dict) else f" = {_shown(value)}"
    return f"{key}{given}: {_in_powers(error).removeprefix('Value error, ')}"


def shown(text: str) -> str:
    """The beginning of a text that a message repeats."""
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}..."


def _shown(value: object) -> str:
    try:
        return shown(repr(value))
    except ValueError:  # Python writes out no integer of more than 4,300 digits.
        return "a number of thousands of digits"


_YAML_KINDS = {
    dict: "a mapping", list: "a list", bool: "a truth value", int: "a number", float: "a number", type(None): "null",
    datetime.date: "a date", datetime.datetime: "a time",
}  # fmt: skip
"""What YAML makes of text without quotes: `{question}`, `[a]`, `yes`, `007`, `1.50`, `~`, `2024-01-01`."""


def _as_written(value: Any) -> str:
    """About what a person wrote where YAML read something else than text."""
    if isinstance(value, dict):
        inside = (_as_written(k) if v is None else f"{_as_written(k)}: {_as_written(v)}" for k, v in value.items())
        return "{" + ", ".join(inside) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_as_written, value)) + "]"
    return value if isinstance(value, str) else yaml.safe_dump(value).removesuffix("...\n").strip()


def _in_powers(error: ErrorDetails) -> str:
    """The message of an error. Bounds of integers in 64 and 32 bits are written as powers."""
    return error["msg"].replace(str(SEEDS), "2^63").replace(str(COUNTS), "2^31")


def _nearest(given: str, valid: list[str]) -> str:
    near = difflib.get_close_matches(given, valid, 1, 0.5)
    return (f"did you mean {near[0]}? " if near else "") + f"Allowed: {', '.join(valid)}"


def _locate(model: type[BaseModel], loc: Location) -> tuple[list[int | str], list[type[BaseModel]]]:
    """(the path that a person would write, the models whose keys are valid at its last part).

    The names of union members that pydantic's location holds are left out.
    """
    path: list[int | str] = []
    models, holders = [model], [model]
    for part in loc:
        fields = [m.model_fields[part] for m in models if part in m.model_fields]
        member = [m for m in models if part in (m.__name__, _tag(m))]
        if fields:
            path.append(part)
            holders, models = models, [m for f in fields for m in _models_in(f.annotation)]
        elif isinstance(part, int):
            path.append(part)
        elif member:
            holders = models = member
        elif part not in _UNION_NOISE:
            path.append(part)
            holders = models
    return path, holders


def _tag(model: type[BaseModel]) -> Any:
    name = model.model_fields.get("name")
    return name.default if name is not None and typing.get_origin(name.annotation) is typing.Literal else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [m for part in typing.get_args(annotation) for m in _models_in(part)]
