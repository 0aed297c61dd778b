"""`steer search` on a made-up prefix table."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from prefix_tables import made_table, write_run

from pipelines.cli import main
from pipelines.tune.search import BUDGETS, run_search
from steer.config.load import SettingsError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(write_run(tmp_path_factory.mktemp("search") / "run", made_table(120, seed=4), fail=[("q000002", 0)]))


@pytest.fixture(scope="module")
def text(folder, tmp_path_factory):
    return run_search(folder, 3, 0, json_path=f"{folder}/copy.json")


def test_the_frontier_is_printed_and_written(folder, text):
    found = json.loads(open(f"{folder}/search.json").read())
    assert found == json.loads(open(f"{folder}/copy.json").read())
    assert found["questions"] == 119 and found["left_out"] == {"a completion failed or is missing": 1}
    assert {row["budget"] for row in found["frontier"]} <= set(BUDGETS) and len(found["frontier"]) >= 6
    for row in found["frontier"]:
        low, high = row["accuracy_interval"]
        assert low <= row["accuracy"] <= high and row["cost"] <= row["budget"] * 1.2
        assert row["policy"]["decide"] == "threshold" and row["setting"] in text
    assert any(row["is_above_bar"] and "margin" in row["setting"] for row in found["frontier"])


def test_every_setting_is_in_the_table(folder, text):
    settings = pq.read_table(f"{folder}/search.parquet").to_pandas()
    assert len(settings) == json.loads(open(f"{folder}/search.json").read())["settings"]
    assert settings["flops_full"].is_monotonic_increasing
    np.testing.assert_allclose(settings["accuracy"] - settings["bar"], settings["above_bar"])
    assert json.loads(settings["policy"][0])["name"] == "steer"


def test_a_second_search_prints_the_same(folder, text):
    assert run_search(folder, 3, 0) == text


def test_a_folder_without_a_table_and_too_many_folds_are_refused(folder, tmp_path, capsys):
    with pytest.raises(SettingsError, match="no run.json"):
        run_search(str(tmp_path))
    with pytest.raises(SettingsError, match="500 folds of 119 questions"):
        run_search(folder, 500)
    assert main(["search", str(tmp_path)]) == 2
    assert "no run.json" in capsys.readouterr().err
