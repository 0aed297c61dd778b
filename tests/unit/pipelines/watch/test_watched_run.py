"""What `steer top` says of a run, by the files of its folder."""

import json
from dataclasses import replace

import pytest

from actors.router.stats import RouterStats
from pipelines.cli import main
from pipelines.watch.frame import frame
from pipelines.watch.live_file import ROUTED, ROUTING, STOPPED, LiveFile, counted, read_live
from steer.config.pairs import load_pair
from steer.config.run import PoolConfig, PoolsConfig, TokenPrices
from steer.storage.run_folder import RunFolder
from steer.traces import Role

COUNTS = RouterStats(
    total=1000,
    live=200,
    done=430,
    errors=2,
    tokens_small=2_000_000,
    tokens_large=1_000_000,
    steps_small=300,
    steps_large=100,
    computed={Role.SMALL: 4_000_000},
    parameters={Role.SMALL: 1e9, Role.LARGE: 1e10},
    states={Role.SMALL: {"loading": 1, "live": 2}, Role.LARGE: {"live": 0}},
    replica_s={Role.SMALL: 3600.0, Role.LARGE: 1800.0},
    replaced=3,
    waiting={Role.LARGE: "1 of 1 replicas waits for a node"},
    loop_s=4.0,
)


@pytest.fixture
def run(tmp_path):
    small = load_pair("embedded").small.model_copy(update={"usd_per_million_tokens": TokenPrices(input=1, output=3)})
    pair = load_pair("embedded").model_copy(update={"small": small})
    pool = PoolConfig(gpus=2, usd_per_gpu_hour=2.5)
    config = {"pools": PoolsConfig(small=pool, large=pool), "pair": pair}
    dumped = {key: value.model_dump(mode="json") for key, value in config.items()}
    return RunFolder.create(tmp_path / "first", "run", dumped, [0])


def shown(run, later_s=0.0, driver=True):
    live = read_live(run)
    now_s = None if live is None else live["written_s"] + later_s
    return frame("first", run.describe(), live, driver, now_s)


def note(run, state=ROUTING):
    values = counted(COUNTS, 0, 60.0) | {"state": state, "every_s": 2.0, "written_s": 1e9}
    run.write_file("live.json", json.dumps(values).encode())


def test_a_live_run_shows_traces_models_money_and_what_it_waits_for(run):
    note(run)
    text, over = shown(run, later_s=2.0)
    assert not over
    assert "routing for 1:00 · counts 2 s old" in text and "43 %   ETA 1:20" in text
    assert "done 430 of 1,000 · live 200 · queued 370 · error rows 2" in text
    small = next(line.split() for line in text.splitlines() if line.startswith("small"))
    # 2e9 FLOPs a token; a GPU-hour each hour for two GPUs; 4 million prompt tokens at $ 1, 2 million others at $ 3.
    assert " ".join(small) == "small 1 loading, 2 live 2,000,000 300 75 4,000,000 4e+03 2.00 10.00"
    assert "GPU-hours so far cost $7.50" in text
    assert "3 replicas died" in text and "large: 1 of 1 replicas waits for a node" in text


def test_counts_of_a_driver_that_writes_no_more_are_called_old(run):
    note(run)
    text, over = shown(run, later_s=90.0)
    assert "these counts are 1:30 old: the driver may be dead" in text and "--resume first" in text and not over


def test_the_last_word_of_a_stopped_driver_is_that_it_stopped(run):
    note(run, STOPPED)
    text, over = shown(run, later_s=5.0)
    assert "stopped 0:05 ago; go on with: steer run --resume first" in text and over
    note(run, ROUTED)
    text, over = shown(run, later_s=500.0)
    assert "all traces are committed" in text and not over


def test_without_counts_the_models_start_or_nothing_runs(run):
    assert "the models start" in shown(run).text and not shown(run).over
    assert "stopped before a model was loaded" in shown(run, driver=False).text and shown(run, driver=False).over


def test_a_finished_run_has_no_live_file(run):
    note(run)
    run.finish()
    text, over = shown(run)
    assert "finished at" in text and over
    assert run.read_file("live.json") is None


def test_a_run_that_is_prepared_for_resuming_forgets_the_counts_of_the_last_driver(run):
    note(run)
    run.clean()
    assert read_live(run) is None


def test_rates_are_those_since_the_last_write_and_traces_those_of_this_pipeline():
    more = replace(COUNTS, tokens_small=COUNTS.tokens_small + 500, loop_s=5.0)
    written = counted(more, 30, 12.0, (10.0, COUNTS))
    assert (written["tokens_per_s"], written["loop_ratio"]) == (250.0, 0.5)
    assert (written["traces"]["done"], written["traces"]["total"]) == (400, 970)
    assert counted(COUNTS, 0, 2.0)["tokens_per_s"] == 0, "the counts before the first write say no rate"


def test_the_file_says_how_the_block_ended_and_a_dead_router_stops_nothing(run):
    with LiveFile(run, lambda: COUNTS):
        pass
    assert read_live(run) is not None and read_live(run)["state"] == ROUTED
    with pytest.raises(KeyboardInterrupt), LiveFile(run, lambda: COUNTS):
        raise KeyboardInterrupt
    assert read_live(run)["state"] == STOPPED
    run.clean()
    with LiveFile(run, lambda: 1 / 0):
        pass
    assert read_live(run) is None


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert main(["top", str(tmp_path)]) == 2
    assert "holds no run.json: give the --out folder of a run" in capsys.readouterr().err
