"""`steer serve` up to where a cluster would start."""

import argparse
import socket

import pytest

from pipelines import cli
from pipelines.serve.command import is_loopback, port, refuse_taken
from steer.config.load import SettingsError


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("STEER_API_KEY", raising=False)


@pytest.fixture
def taken():
    """A port of 127.0.0.1 that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "localhost", "::1"])
def test_only_this_machine_reaches_it(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "192.168.1.2", "example.org", "localhost.example", ""])
def test_others_reach_it(host):
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_an_address_that_others_reach_needs_a_key(host, capsys):
    assert cli.main(["serve", "--host", host]) == cli.USAGE
    said = capsys.readouterr().err
    assert f"--host {host}" in said and "STEER_API_KEY" in said


def test_an_empty_key_is_none(monkeypatch, capsys):
    monkeypatch.setenv("STEER_API_KEY", "")
    assert cli.main(["serve", "--host", "0.0.0.0"]) == cli.USAGE
    assert "STEER_API_KEY" in capsys.readouterr().err


def test_a_key_opens_the_address_but_not_a_taken_port(monkeypatch, taken, capsys):
    monkeypatch.setenv("STEER_API_KEY", "secret")
    assert cli.main(["serve", "--host", "0.0.0.0", "--port", str(taken)]) == cli.USAGE
    said = capsys.readouterr().err
    assert f"--port {taken}" in said and "give another --port" in said and "secret" not in said


def test_a_taken_port_is_refused_and_a_free_one_is_left_free(taken):
    with pytest.raises(SettingsError, match="give another --port or --host"):
        refuse_taken("127.0.0.1", taken)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        free = listening.getsockname()[1]
    refuse_taken("127.0.0.1", free)
    socket.create_server(("127.0.0.1", free)).close()


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(SettingsError, match="--host 192.0.2.1"):
        refuse_taken("192.0.2.1", 8000)


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["policy=percentile"], "decide: budget"),
        (["endpoint.max_life=3"], "did you mean max_live?"),
        (["benchmark.name=mine"], "benchmark.tokens"),
    ],
)
def test_a_configuration_that_cannot_be_served_is_usage(sets, said, capsys):
    assert cli.main(["serve", *(word for item in sets for word in ("--set", item))]) == cli.USAGE
    assert said in capsys.readouterr().err


def test_its_arguments():
    args = cli.parser().parse_args(["serve"])
    assert (args.config, args.plan, args.host, args.port, args.verbose) == (None, None, "127.0.0.1", 8000, False)
    args = cli.parser().parse_args(["serve", "mine.yaml", "--plan", "plans/half", "--host", "::1", "--port", "9000"])
    assert (args.config, args.plan, args.host, args.port) == ("mine.yaml", "plans/half", "::1", 9000)


@pytest.mark.parametrize("text", ["0", "65536", "-1", "eighty", "80.0", ""])
def test_what_is_no_port_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is no port: give a number from 1 to 65535"):
        port(text)
    with pytest.raises(SystemExit) as end:
        cli.main(["serve", f"--port={text}"])
    assert end.value.code == cli.USAGE
