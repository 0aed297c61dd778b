"""`steer top` beside a run: from another process, while its traces are live and when it is over."""

import subprocess
from contextlib import suppress

import pytest
import yaml
from patience import PATIENCE_S
from test_command_line import simulated_pair, start

from pipelines.cli import main
from pipelines.watch.live_file import read_live
from steer.storage.run_folder import RunFolder

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


def test_top_shows_a_live_run_and_then_the_finished_one(local_ray, tmp_path, capsys):
    mark, config, out = tmp_path / "mark", tmp_path / "run.yaml", tmp_path / "run"
    benchmark = {"name": "hops", "limit": 12}
    pair = simulated_pair(step_s=0.05, steps=3, exact=True, end_mark=str(mark))
    config.write_text(
        yaml.safe_dump({"pair": pair, "benchmark": benchmark, "policy": {"name": "steer", "preset": "stepwise"}})
    )
    run = RunFolder(out)
    with start(["run", config, "--out", out], local_ray, stderr=subprocess.DEVNULL) as running:
        try:
            while not (counts := read_live(run)) or counts["traces"]["live"] < 12:
                with suppress(subprocess.TimeoutExpired):
                    pytest.fail(f"the run ended by itself, with {running.wait(0.2)}")
            assert main(["top", str(out), "--once"]) == 0
            live = capsys.readouterr().out
            mark.touch()
            assert running.wait(PATIENCE_S) == 0
        finally:
            running.kill()
    assert "routing for" in live and "live 12 · queued 0" in live and "1 live" in live
    assert read_live(run) is None
    capsys.readouterr()
    assert main(["top", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "finished at" in printed and "hops" in printed
