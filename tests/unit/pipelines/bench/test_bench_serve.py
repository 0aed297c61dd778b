"""What `steer bench serve` counts and how it asks, without a model."""

import asyncio
import json
import signal
import subprocess
import sys
import time

import httpx
import psutil
import pyarrow as pa
import pytest

from pipelines import cli
from pipelines.bench import bench
from pipelines.bench.http_servers import Server, flags
from pipelines.bench.serve import LARGE, PLAIN, ROUTED, Answer, Batch, Load, Options, Results, ask
from steer.config.load import SettingsError


def load(seconds, *latencies, errors=0):
    answers = [Answer(latency, latency / 2, 50, 20) for latency in latencies]
    return Load(answers + [Answer(9.0, None, 0, error="500 it failed")] * errors, seconds, 0.1)


def test_options_are_numbers_of_clients_and_requests():
    options = Options(clients="1,64")
    assert options.counts() == [1, 64]
    assert [options.requests(n) for n in options.counts()] == [40, 384]
    assert Options(questions=12).requests(64) == 12
    for wrong in ("", "4,", "0", "-1", "four", "1.5"):
        with pytest.raises(SettingsError, match="--clients"):
            Options(clients=wrong).counts()


def test_the_command_line_takes_what_the_options_are_and_says_what_is_wrong(capsys):
    args = cli.parser().parse_args(["bench", "serve", "--clients", "1,4", "--turns", "1", "--questions", "12"])
    given = {key: value for key in cli.SERVE_KEYS if (value := getattr(args, key)) is not None}
    assert Options(questions=args.questions, **given) == Options(clients="1,4", turns=1, questions=12)
    assert "serve" in bench.NAMES
    assert cli.main(["bench", "serve", "--clients", "many"]) == cli.USAGE
    assert "no number of clients" in capsys.readouterr().err


def test_figures_are_of_the_answers_and_failures_are_counted():
    measured = load(2.0, 1.0, 2.0, 3.0, 4.0, errors=1)
    figures = measured.figures()
    assert figures["requests_s"] == 2.0, "four answers in two seconds"
    assert figures["p50_s"] == 2.5 and figures["p95_s"] == pytest.approx(3.85)
    assert figures["first_text_s"] == 1.25 and figures["tokens"] == 50 and figures["tokens_large"] == 20
    assert measured.errors == ["500 it failed"]
    assert load(2.0, errors=3).figures() == {}


def test_rows_hold_medians_over_turns_and_ratios_within_a_turn():
    kept = []
    results = Results(kept.append)
    results.add_batch(Batch(questions=100, routing_s=10.0, wall_s=12.5, tokens=50.0, tokens_large=10.0))
    for seconds in (1.0, 2.0):
        results.add(ROUTED, 4, load(seconds, 1.0, 1.0, 1.0, 1.0))
        results.add(LARGE, 4, load(seconds, 1.0, 1.0, errors=1))
        results.add(PLAIN, 4, load(2 * seconds, 1.0, 1.0, 1.0, 1.0))
    rows = {row["what"]: row for row in kept[-1]}
    assert len(kept) == 7 and len(rows) == 5
    assert rows[ROUTED]["requests_s_turns"] == [4.0, 2.0] and rows[ROUTED]["requests_s"] == 3.0
    assert rows[ROUTED]["vs_plain_turns"] == [2.0, 2.0] and "vs_plain" not in rows[PLAIN]
    assert rows[LARGE]["errors"] == 2 == results.errors
    assert rows["batch run, routed"]["questions_s"] == 10.0 and rows["batch run, routed"]["questions_wall_s"] == 8.0
    against = rows[f"{ROUTED}, against the batch run"]
    assert against["of_batch"] == 0.3 and against["service_s"] == pytest.approx(4 / 3, rel=0.01)
    assert against["p50_by_service"] == 0.75


def test_a_target_without_any_answer_has_a_row_all_the_same():
    results = Results(lambda rows: None)
    results.add(ROUTED, 1, load(1.0, errors=2))
    results.add(PLAIN, 1, load(1.0, 0.5))
    first = results.rows()[0]
    assert first["errors"] == 2 and first["requests_s_turns"] == [0.0] and "vs_plain" not in first


def test_a_batch_run_counts_while_a_trace_is_live():
    run = {
        "time": {"wall": {"wall": 6.0}, "small": {"no_trace": 4.0}, "large": {"no_trace": 4.5}},
    }
    traces = pa.table({"tokens_small": [30, 50], "tokens_large": [0, 20]})
    assert Batch.of(run, traces) == Batch(2, 2.0, 6.0, tokens=50.0, tokens_large=10.0)


def chunk(**delta):
    return {"choices": [{"delta": delta}]}


USAGE = {"choices": [], "usage": {"completion_tokens": 7, "steer": {"large": {"generated": 3}}}}


@pytest.mark.parametrize(
    ("status", "events", "error"),
    [
        (200, [chunk(role="assistant", content=""), chunk(content="a"), USAGE, "[DONE]"], ""),
        (200, [chunk(content="a"), USAGE], "without"),
        (200, [chunk(content="a"), "[DONE]"], "without"),
        (200, [chunk(content="a"), {"error": {"message": "broken"}}], "broken"),
        (200, ["no json"], "JSONDecodeError"),
        (429, ["full"], "429"),
    ],
)
def test_only_a_stream_that_ends_as_it_should_is_an_answer(status, events, error):
    lines = "".join(f"data: {e if isinstance(e, str) else json.dumps(e)}\n\n" for e in events)

    async def asked():
        transport = httpx.MockTransport(lambda request: httpx.Response(status, text=lines))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
            return await ask(http, {"model": "m"})

    answer = asyncio.run(asked())
    if error:
        assert error in answer.error
    else:
        assert answer.error == "" and (answer.tokens, answer.tokens_large) == (7, 3) and answer.first_text_s is not None


def test_a_stream_without_text_has_no_time_to_its_first():
    async def asked():
        lines = (
            f"data: {json.dumps(chunk(role='assistant', content=''))}\n\ndata: {json.dumps(USAGE)}\n\ndata: [DONE]\n\n"
        )
        transport = httpx.MockTransport(lambda request: httpx.Response(200, text=lines))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
            return await ask(http, {})

    assert asyncio.run(asked()).first_text_s is None


def test_engine_arguments_become_flags():
    arguments = {
        "model": "folder",
        "enforce_eager": True,
        "async_scheduling": False,
        "max_model_len": None,
        "block_size": 32,
        "hf_overrides": {"head_dtype": "float32"},
    }
    assert flags(arguments) == [
        *("--model", "folder", "--enforce-eager", "--no-async-scheduling", "--block-size", "32"),
        *("--hf-overrides", '{"head_dtype": "float32"}'),
    ]
    assert flags({"hf_overrides": print}) == []


def wait_for(holds, within_s=60):
    until_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until_s


def test_a_paused_server_goes_on_afterwards_and_ends_with_its_children():
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    process = subprocess.Popen([sys.executable, "-c", child])
    server = Server(process, 1)
    try:
        wait_for(lambda: len(server.processes()) == 2)
        tree = server.processes()
        with server.paused():
            wait_for(lambda: {each.status() for each in tree} == {psutil.STATUS_STOPPED})
        wait_for(lambda: psutil.STATUS_STOPPED not in {each.status() for each in tree})
    finally:
        server.end()
    assert process.returncode == -signal.SIGTERM
    assert not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in tree)
