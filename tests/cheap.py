"""A bound on work that no busy machine breaks, for text made to be expensive."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

LIMIT_S = 20.0
"""Text of 1e5 characters takes about a second; what reads all of it again for every character takes minutes."""


@contextmanager
def cheap() -> Iterator[None]:
    """Fails for work that grows faster than its input. CPU time of this thread: others run in a test's process too."""
    started = time.thread_time()
    yield
    assert time.thread_time() - started < LIMIT_S
