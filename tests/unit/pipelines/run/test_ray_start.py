"""A Ray that does not start, or cannot be connected to, is one message with Ray's reason and a remedy."""

import re
import socket

import pytest
import ray

from pipelines import cli
from pipelines.run import session
from pipelines.run.session import StartFailed, cluster

TIMED_OUT = Exception(
    "The current node timed out during startup. This could happen because some of the raylet failed to startup or the "
    "GCS has become overloaded."
)
NO_CLUSTER = ConnectionError("Could not find any running Ray instance. Please specify the one to connect to.")
MISMATCH = RuntimeError(
    "Version mismatch: The cluster was started with:\n    Ray: 2.40.0\n    Python: 3.10.1\nThis process on 10.0.0.7 "
    "was started with:\n    Ray: 2.60.0\n    Python: 3.11.9\n"
)


@pytest.fixture
def failing(monkeypatch):
    """Let `ray.init` raise, and note how Ray is shut down after it."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    shut = []
    monkeypatch.setattr(ray, "shutdown", lambda: shut.append(True))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def fail_with(failure):
        def init(**_):
            raise failure

        monkeypatch.setattr(ray, "init", init)
        return shut

    return fail_with


LOCAL = [
    (TIMED_OUT, "The current node timed out during startup", "try again"),
    (RuntimeError("Failed to start the GCS: the process died"), "the process died", "try again"),
    (TimeoutError("Timed out after 30 seconds while waiting for node to startup."), "Timed out after 30", "try again"),
    (ray.exceptions.RaySystemError("the raylet is gone"), "the raylet is gone", "try again"),
    (ray.exceptions.RpcError("14: unavailable"), "14: unavailable", "try again"),
    (Exception(), "Exception", "try again"),
    (OSError("AF_UNIX path length cannot exceed 107 bytes: /a/b"), "cannot exceed 107 bytes", "RAY_TMPDIR="),
    (PermissionError(13, "Permission denied", "/tmp/ray/session_1"), "/tmp/ray/session_1", "RAY_TMPDIR="),
]


@pytest.mark.parametrize(("failure", "reason", "remedy"), LOCAL, ids=[reason[:30] for _, reason, _ in LOCAL])
def test_a_cluster_of_ones_own_that_does_not_start(failure, reason, remedy, failing):
    shut = failing(failure)
    with pytest.raises(StartFailed) as refusal, cluster():
        pass
    message = str(refusal.value)
    assert message.startswith("Ray could not start on this machine: ") and "\n" not in message
    assert reason in message and remedy in message and shut == [True]
    assert refusal.value.__cause__ is failure


REMOTE = [
    (NO_CLUSTER, "Could not find any running Ray instance", "see that the cluster runs"),
    (MISMATCH, "Ray: 2.40.0 Python: 3.10.1", "install the cluster's versions"),
    (RuntimeError("Failed to connect to GCS."), "Failed to connect to GCS", "see that the cluster runs"),
    (ValueError("Malformed address here. Expected '<host>:<port>'."), "Malformed address", "its head's address"),
]


@pytest.mark.parametrize("address", ["auto", "ray://head:10001"])
@pytest.mark.parametrize(("failure", "reason", "remedy"), REMOTE, ids=[reason[:30] for _, reason, _ in REMOTE])
def test_an_existing_cluster_that_cannot_be_used(failure, reason, remedy, address, failing, monkeypatch):
    failing(failure)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(StartFailed) as refusal, cluster():
        pass
    message = str(refusal.value)
    assert message.startswith(f"Ray could not connect to RAY_ADDRESS={address}: ") and "\n" not in message
    assert reason in message and remedy in message and "unset RAY_ADDRESS" in message


def test_a_head_that_takes_no_connection_is_said_before_ray_waits_for_it(failing, monkeypatch):
    monkeypatch.setattr(session, "CONNECT_S", 0.0)
    failing(AssertionError("Ray was asked"))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # taken, but nobody listens
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(StartFailed, match=re.escape(f"RAY_ADDRESS={address}: ")) as refusal, cluster():
            pass
    assert isinstance(refusal.value.__cause__, OSError) and "Ray was asked" not in str(refusal.value)


@pytest.mark.parametrize("address", ["head:99999999999999999999", "no.such.host.invalid:6379"])
def test_an_address_that_is_none(address, failing, monkeypatch):
    monkeypatch.setattr(session, "CONNECT_S", 10_000.0)  # Neither is tried again.
    failing(AssertionError("Ray was asked"))
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(StartFailed, match=re.escape(address)), cluster():
        pass


def test_a_head_that_is_waited_for_is_named_once(failing, monkeypatch, capsys):
    failing(AssertionError("Ray was asked"))
    monkeypatch.setattr(session, "CONNECT_S", 0.2)
    monkeypatch.setattr(session, "RETRY_S", 0.01)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(StartFailed), cluster():
            pass
    (line,) = capsys.readouterr().err.splitlines()
    assert f"RAY_ADDRESS={address}" in line and "trying for" in line


def test_a_head_that_listens_is_left_to_ray(failing, monkeypatch):
    failing(MISMATCH)
    with socket.create_server(("127.0.0.1", 0)) as head:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{head.getsockname()[1]}")
        with pytest.raises(StartFailed, match="Version mismatch"), cluster():
            pass


def test_ctrl_c_while_ray_starts_stays_ctrl_c(failing):
    failing(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), cluster():
        pass


def test_a_ray_that_runs_already_is_not_shut_down(failing, monkeypatch):
    shut = failing(RuntimeError("Maybe you called ray.init twice by accident?"))
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    with pytest.raises(StartFailed), cluster():
        pass
    assert not shut


def commands(folder):
    answers = folder / "answers.jsonl"
    answers.write_text('{"id": "1", "text": "The answer is 7.", "gold": "7"}\n')
    out = ["--out", str(folder / "out")]
    limited = ["--set", "benchmark.limit=2"]
    return {
        "run": ["run", *limited, *out],
        "sweep": ["sweep", *out],
        "experiment": ["experiment", "paper", *out],
        "train-router": ["train-router", *out],
        "grade": ["grade", str(answers), "--grader", "exact"],
        "bench": ["bench", "router"],
        "bench with an engine": ["bench", "overhead"],
    }


@pytest.mark.parametrize(
    "command", ["run", "sweep", "experiment", "train-router", "grade", "bench", "bench with an engine"]
)
def test_every_command_says_it_in_one_message_and_may_be_called_again(command, failing, capsys, tmp_path):
    failing(TIMED_OUT)
    arguments = commands(tmp_path)[command]
    for _ in range(2):
        assert cli.main(arguments) == cli.FAILED
        said = capsys.readouterr().err.splitlines()
        assert [line.partition(": ")[0] for line in said] == ["steer"], "one line, no stack trace"
        assert "Ray could not start" in said[0] and "try again" in said[0]
    assert not (tmp_path / "out").exists()
