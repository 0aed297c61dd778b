"""Exit codes and messages of the command line, up to where a cluster would start."""

import pytest

from pipelines import cli


def test_a_bad_configuration_is_usage(capsys):
    assert cli.main(["run", "--set", "policy.gama=1", "--out", "unused"]) == cli.USAGE
    assert "did you mean gamma?" in capsys.readouterr().err


def test_an_unknown_pair_is_usage_and_starts_nothing(capsys, tmp_path):
    assert cli.main(["run", "--set", "pair=qwen9", "--out", str(tmp_path / "run")]) == cli.USAGE
    assert "known pairs are" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_model_that_no_card_holds_is_usage_and_starts_nothing(capsys, tmp_path):
    sets = ["pair=gemma-3", "pools.large.gpus=1", "pools.large.card_gb=24"]
    arguments = [part for item in sets for part in ("--set", item)]
    assert cli.main(["run", *arguments, "--out", str(tmp_path / "run")]) == cli.USAGE
    assert "set gpus to 2" in capsys.readouterr().err


def test_an_unknown_benchmark_is_usage(capsys, tmp_path):
    assert cli.main(["run", "--set", "benchmark.name=gsm9", "--out", str(tmp_path / "run")]) == cli.USAGE
    assert "chain_math" in capsys.readouterr().err


def test_a_used_folder_is_refused(capsys, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    assert cli.main(["run", "--out", str(tmp_path)]) == cli.USAGE
    assert "choose another --out" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run"], ["bench", "nothing"]])
def test_bad_usage_exits_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == cli.USAGE


def test_ctrl_c_exits_with_130(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("steer.config.load.load", interrupt)
    assert cli.main(["show-config"]) == cli.INTERRUPTED


def test_show_config_prints_what_it_would_run(capsys):
    assert cli.main(["show-config", "--set", "policy=large", "--set", "seed=7"]) == cli.OK
    printed = capsys.readouterr().out
    assert "name: large" in printed and "seed: 7" in printed


def test_show_config_prints_an_endpoints(capsys):
    assert cli.main(["show-config", "--serve", "--set", "endpoint.max_live=7"]) == cli.OK
    assert "max_live: 7" in capsys.readouterr().out
    assert cli.main(["show-config", "--set", "endpoint.max_live=7"]) == cli.USAGE
