"""Ports for clusters that tests start."""

import random
import socket
from contextlib import ExitStack

BELOW_EPHEMERAL = range(20_000, 32_768)
"""Between the ports that Ray gives its workers (10,002 to 19,999) and those that the system gives to whoever connects
(from 32,768 on Linux). A port of the latter that is free now is another process's a moment later."""


def free_ports(count: int) -> list[int]:
    """`count` ports that nobody listens on."""
    with ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            port = random.choice(BELOW_EPHEMERAL)
            try:
                held.enter_context(socket.create_server(("", port)))
            except OSError:
                continue
            ports.append(port)
        return ports
