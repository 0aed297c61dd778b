"""What follows `=` in an override: text where a key takes text, YAML elsewhere. And text that YAML reads as no text."""

import pytest

from pipelines.sweep.paper import PaperConfig
from steer.config.load import SettingsError, load, load_config
from steer.config.run import PairConfig
from steer.config.sweep import SweepConfig

TEXTS = [
    "{question}",
    "{question} {context}",
    "[a]",
    "a: b",
    "Q: {question}\n\nA:",
    "ten # nine",
    "*starred",
    "&x",
    "!now",
    "%d items",
    "@home",
    "`x`",
    "- one",
    "#1",
    "~/data/x.jsonl",
    "? why",
    "| bar",
    "yes",
    "no",
    "on",
    "true",
    "1e5",
    "1.5e+5",
    "007",
    "0x1F",
    "1_000",
    "12:30:00",
    "2024-01-01",
    "2024-99-99",
    ".nan",
    "=",
    "a=b=c",
    "it's",
    '"unfinished',
    "'a' and 'b'",
    "9" * 5000,
    "{unbalanced",
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:20])
def test_a_key_that_takes_text_gets_the_text(text):
    assert load_config(None, [f"benchmark.prompt={text}"]).benchmark.prompt == text
    assert load_config(None, [f"benchmark.question={text}"]).benchmark.question == text
    assert load_config(None, [f"benchmark.name = {text}"]).benchmark.name == text, "spaces around = are none of it"


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("'{question}'", "{question}"),
        ('"{question}\\n\\nAnswer:"', "{question}\n\nAnswer:"),
        ('"  two spaces"', "  two spaces"),
        ("'null'", "null"),
        ("'it''s'", "it's"),
        ("'a' # why", "a"),
    ],
)
def test_quotes_are_those_of_yaml(written, text):
    assert load_config(None, [f"benchmark.question={written}"]).benchmark.question == text


@pytest.mark.parametrize("written", ["null", "~", ""])
def test_null_is_nothing_where_a_key_may_have_no_value_and_text_elsewhere(written):
    assert load_config(None, [f"benchmark.id={written}"]).benchmark.id is None
    if written:
        assert load_config(None, [f"benchmark.name={written}"]).benchmark.name == written


@pytest.mark.parametrize(
    "item", ["benchmark.name=", "benchmark.prompt=", 'benchmark.question=""', "benchmark.answer=''"]
)
def test_a_text_that_is_needed_is_not_empty(item):
    with pytest.raises(SettingsError, match=rf"^--set: {item.partition('=')[0]}: it is empty; give it a value"):
        load_config(None, [item])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2024", "YAML reads this as a number; put the text in quotes as you wrote it"),
        ("true", "YAML reads this as a truth value; put the text in quotes as you wrote it"),
        ("{a}", "YAML reads this as a mapping; put the text in quotes: source: '{a}'"),
        ("[a.jsonl, 7]", "YAML reads 7 as a number; put the text in quotes as you wrote it"),
        ("[a.jsonl, {b}]", "YAML reads {b} as a mapping; put the text in quotes as you wrote it"),
        ("[]", "it must be a path, a URL"),
    ],
)
def test_a_source_in_a_file_that_yaml_reads_as_something_else(text, says, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(f"benchmark:\n  source: {text}\n")
    with pytest.raises(SettingsError) as refusal:
        load_config(path)
    assert str(refusal.value).startswith(f"{path}: benchmark.source = ") and says in str(refusal.value)


@pytest.mark.parametrize("key", ["seed", "benchmark.limit", "routing.max_steps", "pools.small.min_replicas"])
@pytest.mark.parametrize("written", ["0x10", "0b11", "1_000", "12:30:45", "1.0", "2.0e+1"])
def test_an_integer_is_written_in_plain_digits(key, written):
    with pytest.raises(SettingsError, match="a whole number is needed; write it in plain digits"):
        load_config(None, [f"{key}={written}"])


def test_plain_digits_are_decimal():
    assert load_config(None, ["seed=010"]).seed == 10
    assert load_config(None, ["seed= +5 ", "benchmark.limit=7"]).seed == 5
    assert load_config(None, ["benchmark.limit=null"]).benchmark.limit is None


@pytest.mark.parametrize(
    "item", ["seed=" + "8" * 400, "benchmark.source=" + "[" + "7, " * 400 + "]", "seed=0x" + "f" * 6000]
)
def test_a_message_repeats_the_beginning_of_a_long_value(item):
    with pytest.raises(SettingsError) as refusal:
        load_config(None, [item])
    assert len(str(refusal.value)) < 400


def test_keys_that_take_more_than_text():
    pair = load_config(None, ["pair={small: {path: a}, large: {path: b}}"]).pair
    assert isinstance(pair, PairConfig) and pair.large.path == "b"
    assert load_config(None, ["pair=2024"]).pair == "2024"
    pair = load_config(None, ["pair.small.path=12", "pair.large.path={x}", "pair.small.engine.seed=3"]).pair
    assert (pair.small.path, pair.large.path, pair.small.engine) == ("12", "{x}", {"seed": 3})
    custom = ["policy=custom", "policy.object=m:C", "policy.options.least=0.9", "policy.options.names=[a, yes]"]
    policy = load_config(None, [*custom, "policy.threshold=least"]).policy
    assert policy.options == {"least": 0.9, "names": ["a", True]} and policy.threshold == "least"
    assert load_config(None, ["policy=rsd", "policy.threshold=0.25"]).policy.threshold == 0.25
    frozen = ["policy.fit_from=frozen", "policy.frozen_path=runs/[1]"]
    assert str(load_config(None, frozen).policy.frozen_path) == "runs/[1]"
    assert load_config(None, ["policy.refine=true"]).policy.refine == "first"


def test_text_inside_lists(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text("benchmarks: [{name: chain_math}]\n")
    assert load(SweepConfig, path, ["benchmarks.0.prompt={question}"]).benchmarks[0].prompt == "{question}"
    path.write_text("benchmarks: [chain_math, hops]\n")
    assert load(PaperConfig, path, ["benchmarks.1=007"]).benchmarks == ("chain_math", "007")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{question}", "YAML reads this as a mapping; put the text in quotes: prompt: '{question}'"),
        ("{question, context}", "prompt: '{question, context}'"),
        ("{a: it's}", "prompt: '{a: it''s}'"),
        ("[question]", "YAML reads this as a list; put the text in quotes: prompt: '[question]'"),
        ("[{a}, [1]]", "prompt: '[{a}, [1]]'"),
        ("yes", "YAML reads this as a truth value; put the text in quotes as you wrote it"),
        ("007", "YAML reads this as a number; put the text in quotes"),
        ("1.50", "YAML reads this as a number; put the text in quotes"),
        ("2024-01-01", "YAML reads this as a date; put the text in quotes"),
        ("2024-01-01 10:00:00", "YAML reads this as a time; put the text in quotes"),
        ("~", "prompt: it is empty; give it a value (in quotes, if the text is null or ~)"),
        ("", "prompt: it is empty; give it a value"),
        ("''", "prompt: it is empty; give it a value"),
        ("Question: {question}", "not valid YAML"),
        ("{question} Answer:", "text with a colon, { } or [ ] needs quotes"),
        ("2024-99-99", "not valid YAML"),
    ],
)
def test_a_file_whose_text_yaml_reads_as_something_else(text, says, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(f"benchmark:\n  prompt: {text}\n")
    with pytest.raises(SettingsError) as refusal:
        load_config(path)
    assert str(refusal.value).startswith(str(path)) and says in str(refusal.value)


def test_the_quoted_form_of_the_message_is_what_was_meant(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("benchmark: {prompt: {question}}\n")
    with pytest.raises(SettingsError) as refusal:
        load_config(path)
    path.write_text("benchmark:\n  " + str(refusal.value).rpartition("in quotes: ")[2])
    assert load_config(path).benchmark.prompt == "{question}"


@pytest.mark.parametrize("item", ["benchmark={prompt: {question}}", "pair={small: {path: a}, large: {path: [b]}}"])
def test_text_inside_a_mapping_that_is_set_as_a_whole(item):
    with pytest.raises(SettingsError, match=r"^--set: .*(mapping|list); put the text in quotes"):
        load_config(None, [item])


@pytest.mark.parametrize("item", ["benchmark.limit=2024-99-99", "seed=" + "9" * 5000, "policy.options.x=[1"])
def test_what_is_no_yaml_is_refused_where_text_will_not_do(item):
    with pytest.raises(SettingsError, match="not valid YAML"):
        load_config(None, [item])
