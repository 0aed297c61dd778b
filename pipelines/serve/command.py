"""`steer serve`: an endpoint on this machine or on the cluster that RAY_ADDRESS names.

Invariant: however the command ends, its engines and Serve are gone.
"""

import argparse
import contextlib
import ipaddress
import os
import signal
import socket
import sys
import time
from typing import Any

from pipelines.arguments import API_KEY, VERBOSE, configured

HOST, PORT = "127.0.0.1", 8000
LOOK_S = 0.5
"""Seconds between two looks at a loading or serving endpoint."""
SAY_S = 10.0
"""Seconds between two lines while the models load."""


def add_command(commands: Any) -> None:
    serve = commands.add_parser("serve", help="answer requests as an OpenAI server does, routed as in a run")
    configured(serve)
    serve.add_argument("--plan", metavar="PLAN", help="route as `steer tune` planned: its folder or plan.yaml")
    serve.add_argument(
        "--host", default=HOST, metavar="HOST", help="address to listen on (127.0.0.1); others need " + API_KEY
    )
    serve.add_argument("--port", type=port, default=PORT, metavar="PORT", help="port to listen on (8000)")
    serve.add_argument("--verbose", action="store_true", help=VERBOSE)
    serve.set_defaults(command=run)


def port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"{text[:30]} is no port: give a number from 1 to 65535")
    return int(text)


def run(args: argparse.Namespace) -> None:
    """Serve until Ctrl-C or SIGTERM, then let live requests end. A second signal ends at once."""
    from pipelines.serve.config import load_served
    from steer.config.load import SettingsError

    key = os.environ.get(API_KEY) or None
    if key is None and not is_loopback(args.host):
        raise SettingsError(
            f"--host {args.host}: everybody who reaches this address could use the models: set {API_KEY} to a key "
            "that clients must send, or listen on 127.0.0.1"
        )
    what = load_served(args.config, args.plan, args.sets)
    refuse_taken(args.host, args.port)

    from pipelines.run.session import StartFailed, cluster, engine_cpus
    from steer.config.check import needed_roles

    roles = needed_roles([what.policy], what.pair)
    with cluster(args.verbose, engine_cpus(what.config.pools, roles)), _serve(args.host, args.port):
        from ray import serve

        from pipelines.cluster.autoscaler import refuse_unplaceable

        # Serve's own actors take no CPU (its controller and proxies), so the cluster's nodes are all the models'.
        refuse_unplaceable(what.config.pools, roles, own=not os.environ.get("RAY_ADDRESS"))

        from pipelines.serve.app import NAME, application

        # Of several routers each must be loaded before Serve sends it requests. One alone says itself that it loads.
        wait = what.config.pools.routers > 1
        try:
            handle = serve.run(application(what, key, wait), name=NAME, route_prefix="/")
        except RuntimeError as failure:  # Serve's own, when constructors have failed again and again
            raise StartFailed(f"the models did not start: {failure}") from failure
        said = _Events(handle)
        _wait_until_loaded(handle, said, StartFailed)
        shown = f"[{args.host}]" if ":" in args.host else args.host
        print(f"http://{shown}:{args.port}/v1 answers; models: steer/{what.name}, its /small and /large", flush=True)
        try:
            while True:
                time.sleep(LOOK_S)
                said.tell()
                status = handle.status.remote().result()
                if status["status"] == "broken":
                    raise StartFailed(f"the endpoint broke: {status.get('reason', 'no reason is known')}")
        except KeyboardInterrupt:
            within_s = what.config.endpoint.drain_s
            print(f"stopping: live requests have {within_s:g} s to end", file=sys.stderr, flush=True)
            left = handle.drain.remote(within_s).result()
            if left:
                print(f"{left} requests were cut off", file=sys.stderr)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def refuse_taken(host: str, port: int) -> None:
    """Raise SettingsError if the address cannot be listened on."""
    from steer.config.load import SettingsError

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError as failure:
            reason = failure.strerror or str(failure)
            raise SettingsError(f"--host {host} --port {port}: {reason}: give another --port or --host") from None


@contextlib.contextmanager
def _serve(host: str, port: int):
    """Ray Serve on this address, for as long as the block runs."""
    from ray import serve

    from pipelines.serve.app import LOGGING

    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": host, "port": port},
        logging_config=LOGGING,
    )
    try:
        yield
    finally:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            serve.shutdown()
        finally:
            signal.signal(signal.SIGINT, before[0])
            signal.signal(signal.SIGTERM, before[1])


class _Events:
    """What happens to the replicas, on standard error."""

    def __init__(self, handle: Any):
        self._handle = handle
        self._next: dict[str, int] = {}
        """By router: the number of its next event."""

    def tell(self) -> None:
        """Print what is new, of one of the routers: Serve chooses which answers."""
        from pipelines.cluster.events import line

        router, events = self._handle.events.remote(self._next).result()
        for event in events:
            self._next[router] = event.number + 1
            print(f"steer: {line(event)}", file=sys.stderr, flush=True)


def _wait_until_loaded(handle: Any, events: _Events, failed: type[Exception]) -> None:
    began_s = said_s = time.monotonic()
    while True:
        events.tell()
        status = handle.status.remote().result()
        if status["status"] == "ready":
            return
        if status["status"] == "broken":
            raise failed(f"the models did not start: {status.get('reason', 'no reason is known')}")
        if time.monotonic() - said_s >= SAY_S:
            said_s = time.monotonic()
            waiting = "; ".join(f"{role}: {what}" for role, what in status.get("waiting", {}).items())
            print(f"[{said_s - began_s:.0f} s] loading the models {waiting}".rstrip(), file=sys.stderr, flush=True)
        time.sleep(LOOK_S)
