"""cluster/entrypoint.sh: what is run again, and what ends at once."""

import os
import subprocess
import sys

import pytest
from paths import ROOT
from patience import PATIENCE_S

SCRIPT = ROOT / "cluster" / "entrypoint.sh"
# Ends with the next code of its list, and notes that it ran.
COMMAND = """echo run >> runs; set -- {codes}; shift $(($(wc -l < runs) - 1)); exit $1"""


def entrypoint(folder, *command, **environment):
    return subprocess.run(
        ["bash", SCRIPT, *command],
        cwd=folder,
        env=os.environ | {"STEER_RETRY_WAIT_S": "0"} | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


@pytest.mark.parametrize(
    ("codes", "runs", "code"),
    [
        ("0", 1, 0),
        ("2 0", 1, 2),  # wrong configuration: the same again
        ("130 0", 1, 130),  # somebody stopped it
        ("137 0", 1, 137),
        ("1 1 0", 3, 0),  # went on twice
        ("1 2 0", 2, 2),
        ("1 1 1 1 1 1", 4, 1),  # three times again, no more
    ],
)
def test_only_a_failure_is_tried_again_and_not_for_ever(tmp_path, codes, runs, code):
    done = entrypoint(tmp_path, "bash", "-c", COMMAND.format(codes=codes), STEER_RETRIES="3")
    assert done.returncode == code
    assert (tmp_path / "runs").read_text().splitlines() == ["run"] * runs


def test_without_retries_a_failure_ends_it(tmp_path):
    done = entrypoint(tmp_path, "bash", "-c", COMMAND.format(codes="1 0"), STEER_RETRIES="0")
    assert (done.returncode, (tmp_path / "runs").read_text()) == (1, "run\n")


@pytest.mark.parametrize("environment", [{"STEER_RETRIES": "many"}, {"STEER_RETRY_WAIT_S": "-1"}])
def test_a_number_that_is_none_is_refused_as_a_wrong_configuration(tmp_path, environment):
    done = entrypoint(tmp_path, "touch", "ran", **environment)
    assert done.returncode == 2 and next(iter(environment.values())) in done.stderr
    assert not (tmp_path / "ran").exists()


def test_no_command_is_wrong_usage(tmp_path):
    assert entrypoint(tmp_path).returncode == 2


STOPPED_AS_STEER_IS = """
import signal, sys
def tidy(*_):
    print("tidied", flush=True)
    sys.exit(130)
signal.signal(signal.SIGTERM, tidy)
print("started", flush=True)
signal.pause()
sys.exit(1)
"""


def test_a_stopped_command_tidies_up_and_is_not_run_again():
    command = ["bash", SCRIPT, sys.executable, "-c", STOPPED_AS_STEER_IS]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "started\n"
    process.terminate()
    assert process.communicate(timeout=PATIENCE_S)[0] == "tidied\n"
    assert process.returncode == 130


def test_a_stop_while_it_waits_to_run_again_ends_it(tmp_path):
    command = ["bash", SCRIPT, "bash", "-c", "echo run >> runs; exit 1"]
    environment = os.environ | {"STEER_RETRY_WAIT_S": str(PATIENCE_S)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    assert "again" in process.stderr.readline()
    process.terminate()
    assert process.wait(PATIENCE_S) == 130
    assert (tmp_path / "runs").read_text() == "run\n"
