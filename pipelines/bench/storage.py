"""`steer bench storage`: what a run asks of an object store, and how much of its time the journal takes there.

The store is moto's S3 server, in a process of its own; it needs the package `moto[s3]` with Flask. The run is
`steer run`, a process of its own on a Ray of its own, whose folder is a bucket of that server. Every request is counted
as the server sees it. On the local disk the same run shows what it takes without a store.
"""

import json
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from steer.config.load import SettingsError

QUESTIONS = 100
PAIR = "embedded"
BUCKET = "steer-bench"
KINDS = ("PUT", "PART", "COPY", "GET", "HEAD", "LIST", "DELETE")
"""Kinds of requests. PART: the three or more requests of an upload in parts."""
WAYS: dict[str, tuple[str, ...]] = {
    "default": (),
    "stepwise": ("policy.preset=stepwise",),
    "write_on": (
        "policy.preset=stepwise",
        "policy.fit_from=bank",
        "routing.barrier=rolling",
        "routing.write_on=true",
    ),
}
"""What is routed, by name: settings of `steer run`."""
ERROR_CHARS = 2000
"""How much of a failed run's stderr is shown."""

ABOUT = """requests: of the whole run, from its begin to its summary; a_question: the same by the questions
PART: requests of uploads in parts; journal: requests whose key is in journal/
journal_share: seconds of writing the journal by those of the routing"""


@dataclass
class Requests:
    """The requests that a server has had, by kind and by whether they are of the journal."""

    by_kind: Counter[str] = field(default_factory=Counter)
    journal: int = 0
    keys: Counter[str] = field(default_factory=Counter)
    """By kind and the key's folder, for whoever wants to bring them down."""

    def count(self, environ: Mapping[str, Any]) -> None:
        """`environ`: the WSGI environment of a request."""
        kind = kind_of(environ["REQUEST_METHOD"], environ.get("QUERY_STRING", ""), environ)
        # A listing names its folder in the query.
        key = environ.get("PATH_INFO", "") + environ.get("QUERY_STRING", "") * (kind == "LIST")
        self.by_kind[kind] += 1
        self.journal += "journal" in key
        self.keys[f"{kind} {_place(environ.get('PATH_INFO', ''))}"] += 1


def kind_of(method: str, query: str, environ: Mapping[str, Any]) -> str:
    """The kind of a request in `KINDS`."""
    names = {part.split("=", 1)[0] for part in query.split("&")}
    if "uploads" in names or "uploadId" in names:
        return "PART"
    if method == "PUT":
        return "COPY" if "HTTP_X_AMZ_COPY_SOURCE" in environ else "PUT"
    if method == "GET":
        return "LIST" if "list-type" in names else "GET"
    if method in ("DELETE", "POST"):
        return "DELETE"
    return method


def _place(path: str) -> str:
    """The folder of a key below the run's: a table, the journal, or the name of a file beside them."""
    _, _, below = path.strip("/").partition("/run")
    return below.strip("/").split("/")[0] or "."


class Counted:
    """A WSGI application that counts the requests of another one."""

    def __init__(self, app: Callable[..., Iterable[bytes]]):
        self._app = app
        self._guard = threading.Lock()
        self.seen = Requests()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self._guard:
            self.seen.count(environ)
        return self._app(environ, start_response)


class Store:
    """An S3 server that counts its requests, in another process. `url`: where it answers."""

    def __init__(self, url: str, line: Connection):
        self.url = url
        self._line = line

    def taken(self) -> Requests:
        """The requests since the last call, or since the bucket was made."""
        self._line.send(None)
        seen: Requests = self._line.recv()
        return seen


@contextmanager
def s3_server() -> Iterator[Store]:
    """moto's S3 server while the block runs, with an empty bucket `BUCKET`.

    It has a process of its own. vLLM looks through the globals of all modules when it loads a model, and those of Flask
    raise at a look: no engine could be started in a process that has imported it.

    Raises SettingsError if moto is not installed.
    """
    spawn = multiprocessing.get_context("spawn")
    line, end = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(end,), name="s3 server", daemon=True)
    process.start()
    end.close()
    try:
        begun = line.recv()
        if isinstance(begun, ImportError):
            raise SettingsError(f"steer bench storage needs moto: pip install 'moto[s3]' flask flask-cors ({begun})")
        yield Store(begun, line)
    finally:
        line.close()
        process.join()


def _serve(line: Connection) -> None:
    """Serve until the other end of `line` is closed. Sends the URL, or the ImportError; then, each time that something
    comes in, the requests since the last time."""
    try:
        import boto3
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server
    except ImportError as missing:
        line.send(missing)
        return
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = Counted(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, name="s3 server", daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    keys = {"aws_access_key_id": "bench", "aws_secret_access_key": "bench", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=url, **keys).create_bucket(Bucket=BUCKET)
    app.seen = Requests()
    line.send(url)
    with suppress(EOFError):
        while True:
            line.recv()
            seen, app.seen = app.seen, Requests()
            line.send(seen)


def bench_storage(
    questions: int = QUESTIONS, pair: str = PAIR, policies: str | None = None, detailed: bool = False
) -> list[dict[str, Any]]:
    """A row for each way on the object store. `policies`: names in `WAYS`, with commas; None: all. `detailed`: with the
    requests by folder of the run.

    Raises SettingsError for an unknown way, and RuntimeError if a run fails.
    """
    ways = tuple(WAYS) if policies is None else policies.split(",")
    unknown = [way for way in ways if way not in WAYS]
    if unknown:
        raise SettingsError(f"--policies: there is no {unknown[0]!r}, but {', '.join(WAYS)}")
    rows = []
    for way in ways:
        with s3_server() as store:
            out = f"s3://{BUCKET}/run"
            environ = store_environ(store.url)
            _run(out, [f"pair={pair}", f"benchmark.limit={questions}", *WAYS[way]], environ)
            seen = store.taken()
            described = _described(out, environ)
        rows.append(row_of(way, questions, seen, described, detailed))
    return rows


def row_of(way: str, questions: int, seen: Requests, described: Mapping[str, Any], detailed: bool) -> dict[str, Any]:
    """`described`: the content of `run.json`."""
    spent = described["time"]
    total = sum(seen.by_kind.values())
    row = {
        "way": way,
        "questions": questions,
        "requests": total,
        "a_question": round(total / questions, 2),
        "journal": seen.journal,
        **{kind: seen.by_kind[kind] for kind in KINDS},
        "routing_s": round(spent["wall"]["wall"], 1),
        "journal_s": round(spent["beside"]["journal"], 2),
        "journal_share": round(spent["beside"]["journal"] / spent["wall"]["wall"], 3),
    }
    return row | {"by_folder": dict(seen.keys.most_common())} if detailed else row


def store_environ(url: str) -> dict[str, str]:
    """The variables by which a process finds the server at `url`."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _run(out: str, settings: Sequence[str], environ: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "run", "--out", out, *(f"--set={value}" for value in settings)]
    local = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(command, stdout=said, stderr=subprocess.STDOUT, env={**local, **environ})
        if done.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}:\n{said.read()[-ERROR_CHARS:]}")


def _described(out: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """The content of `run.json`, read in a process of its own: AWS's client reads the variables once."""
    program = "import json, sys; from steer.storage.run_folder import RunFolder; "
    program += "print(json.dumps(RunFolder.open(sys.argv[1]).describe()))"
    command = [sys.executable, "-c", program, out]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environ})
    described: dict[str, Any] = json.loads(done.stdout)
    return described
