"""`steer` as a program that prints its progress every half second, so that a test need not wait for it."""

import sys
from functools import partial

from pipelines import cli
from pipelines.run import run
from pipelines.run.progress import Progress

if __name__ == "__main__":
    run.Progress = partial(Progress, line_s=0.5)
    sys.exit(cli.main())
