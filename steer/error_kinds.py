"""Why traces ended as errors, by kind: `steer run --retry-errors` asks for some kinds again."""

import re
from enum import StrEnum

from steer.messages import REFUSED_PROMPTS

_TRIED = re.compile(r"step \d+ failed \d+ times: ")
"""How the reason begins of a trace whose rows were lost as often as `routing.tries` allows (`steer.routing.group`)."""


class ErrorKind(StrEnum):
    """A kind of error row."""

    REPLICA = "replica"
    """Replicas died on it or dropped its prefix, `routing.tries` times: a bad node, or too little memory."""
    ENGINE = "engine"
    """An engine refused or ended the request for another reason."""
    PROMPT = "prompt"
    """The prompt does not fit the model's context, or cannot be encoded."""
    INPUT = "input"
    """The row of the benchmark cannot be asked. It was never asked, and asking again gives the same."""


RETRIED = (ErrorKind.REPLICA, ErrorKind.ENGINE)
"""Kinds that are asked again unless others are named: a retry can help where the rows and the models stay the same."""
ASKABLE = (*RETRIED, ErrorKind.PROMPT)
"""Kinds that may be named."""


def error_kind(error: str, unaskable: bool) -> ErrorKind:
    """The kind of an error row. `error`: its reason. `unaskable`: whether its question says that it cannot be asked."""
    if unaskable:
        return ErrorKind.INPUT
    if _TRIED.match(error):
        return ErrorKind.REPLICA
    return ErrorKind.PROMPT if error.startswith(REFUSED_PROMPTS) else ErrorKind.ENGINE
