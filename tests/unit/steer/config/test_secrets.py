"""Secrets stay out of what is written and printed; the engine still gets them."""

import json

import pytest
import yaml

from pipelines.cli import main
from pipelines.run.lifecycle import prepare_resuming, resolved
from steer.config.code_keys import code_keys
from steer.config.load import SettingsError, load, load_config
from steer.config.pairs import PAIRS, load_pair
from steer.config.run import RunConfig
from steer.config.secrets import MASK, hidden, masked
from steer.config.sweep import SweepConfig
from steer.storage.run_folder import RunFolder

TOKEN = "made-up-token-123"


def pair(**engine):
    return {"small": {"path": "simulated:small", "engine": engine}, "large": {"path": "simulated:large"}}


def config(**engine):
    return RunConfig.model_validate({"pair": pair(**engine)})


def written(tmp_path, **entries):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(entries))
    return str(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    "key",
    ["hf_token", "token", "api_key", "apiKey", "password", "AWS_SECRET_ACCESS_KEY", "aws_access_key_id", "secret"],
)
def test_secrets_are_masked_at_any_depth_and_nothing_else_is(key):
    given = {"engine": {"loader": [{key: TOKEN, "block": "16"}], "tokens": "all", "eos_token": "</s>"}}
    assert masked(given) == {"engine": {"loader": [{key: MASK, "block": "16"}], "tokens": "all", "eos_token": "</s>"}}
    assert given["engine"]["loader"][0][key] == TOKEN


def test_no_key_of_steers_own_configuration_counts_as_a_secret():
    for values in (RunConfig().model_dump(mode="json"), SweepConfig().model_dump(mode="json")):
        assert masked(values) == json.loads(json.dumps(values))
    for known in PAIRS.values():
        assert masked(known.model_dump(mode="json")) == known.model_dump(mode="json")


@pytest.mark.parametrize(
    "url, shown",
    [
        ("https://ann:pass-word@host/a.jsonl", f"https://{MASK}@host/a.jsonl"),
        ("s3://AK:SK@bucket/run", f"s3://{MASK}@bucket/run"),
        ("https://host/a?token=abc&part=2", f"https://host/a?token={MASK}&part=2"),
        ("https://host/a?X-Amz-Signature=abc&X-Amz-Date=7", f"https://host/a?X-Amz-Signature={MASK}&X-Amz-Date=7"),
        ("https://host/a?page=token", "https://host/a?page=token"),
        ("ask ann@host or https://host/@here", "ask ann@host or https://host/@here"),
    ],
)
def test_credentials_in_urls_are_hidden(url, shown):
    assert hidden(f"{url}: cannot be read") == f"{shown}: cannot be read"
    assert masked({"source": [url]}) == {"source": [shown]}


def test_what_a_configuration_held_is_in_no_message_afterwards(tmp_path, capsys):
    path = written(tmp_path, pair=pair(hf_token=TOKEN), nonsense=TOKEN)
    assert main(["run", path, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr()
    assert "nonsense" in said.err and TOKEN not in said.err + said.out


def test_the_engine_gets_the_value_and_show_config_does_not(tmp_path, capsys):
    path = written(tmp_path, pair=pair(hf_token=TOKEN))
    assert load_config(path).pair.small.engine == {"hf_token": TOKEN}
    assert main(["show-config", path]) == 0
    shown = capsys.readouterr().out
    assert TOKEN not in shown and yaml.safe_load(shown)["pair"]["small"]["engine"] == {"hf_token": MASK}


def test_run_json_holds_no_secret_whatever_is_noted_in_it(tmp_path):
    run = RunFolder.create(tmp_path / "run", "run", config(hf_token=TOKEN).model_dump(mode="json"), [0])
    run.update(benchmarks=[{"source": f"https://ann:{TOKEN}@host/a.jsonl"}])
    assert TOKEN not in (tmp_path / "run" / "run.json").read_text()


@pytest.mark.parametrize("again", [{"hf_token": TOKEN}, {"hf_token": "another-token"}, {}])
def test_a_resume_compares_everything_but_the_secret(again, tmp_path):
    first = config(hf_token=TOKEN)
    run = RunFolder.create(tmp_path / "run", "run", resolved(first, load_pair(first.pair)), [0])
    second = config(**again)
    prepare_resuming(run, resolved(second, load_pair(second.pair)), tmp_path / "run")
    other = config(**again, dtype="float32")
    with pytest.raises(SettingsError, match="pair.small.engine.dtype"):
        prepare_resuming(run, resolved(other, load_pair(other.pair)), tmp_path / "run")


def held(tmp_path, **engine):
    run = RunFolder.create(tmp_path / "run", "run", config(**engine).model_dump(mode="json"), [0])
    return f"{run.root}/run.json", run.describe()["config"]


def test_a_resume_from_the_folder_alone_says_that_the_secret_is_missing(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    path, values = held(tmp_path, hf_token=TOKEN)
    with pytest.raises(SettingsError, match="pair.small.engine.hf_token is a secret.*give CONFIG.*set HF_TOKEN"):
        load(RunConfig, path, (), values)


def test_the_environment_gives_the_token_that_was_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "from-the-environment")
    assert load(
        RunConfig, *(lambda path, values: (path, (), values))(*held(tmp_path, hf_token=TOKEN))
    ).pair.small.engine == {"hf_token": "from-the-environment"}


@pytest.mark.parametrize(
    "engine",
    [
        {"trust_remote_code": True},
        {"worker_extension_cls": "evil.Worker"},
        {"logits_processors": ["evil:Processor"]},
        {"load_format": "evil_plugin"},
        {"distributed_executor_backend": "evil.Executor"},
        {"compilation_config": {"backend": "evil.backend"}},
        {"an_argument_of_tomorrow": "evil.Thing"},
    ],
)
def test_code_that_a_folder_names_is_not_loaded(engine, tmp_path, capsys):
    values = config(**engine).model_dump(mode="json")
    RunFolder.create(tmp_path / "run", "run", values, [0])
    assert main(["run", "--resume", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert f"pair.small.engine.{next(iter(engine))} loads code" in said and "steer run CONFIG --resume" in said


def test_a_users_policy_is_not_taken_from_a_folder():
    values = RunConfig().model_dump(mode="json") | {"policy": {"name": "custom", "object": "evil:Policy"}}
    assert code_keys(values) == ["policy.object"]


def test_what_the_shipped_pairs_set_loads_no_code():
    for known in PAIRS.values():
        assert code_keys({"pair": known.model_dump(mode="json")}) == []
    usual = config(tensor_parallel_size=2, gpu_memory_utilization=0.8, enforce_eager=True, dtype="bfloat16")
    assert code_keys(usual.model_dump(mode="json")) == []
