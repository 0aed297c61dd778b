"""Arguments that several commands share.

Invariant: nothing heavy is imported before the arguments are parsed.
"""

import argparse

NEW_FOLDER = "new folder for tables, summary.json and run.json"
VERBOSE = "show the logs of Ray and of the engines"
API_KEY = "STEER_API_KEY"
"""Environment variable that holds the key which clients of an endpoint must send."""


def configured(command: argparse.ArgumentParser) -> None:
    command.add_argument("config", nargs="?", metavar="CONFIG.yaml", help="configuration; none: the defaults")
    settable(command, "override one key, for example --set policy.gamma=0.3; may be repeated")


def settable(command: argparse.ArgumentParser, about: str) -> None:
    command.add_argument("--set", dest="sets", metavar="KEY=VALUE", action="append", default=[], help=about)


def seed(text: str) -> int:
    from steer.config.strict import SEEDS

    if not text.isdecimal() or len(text) > 19 or int(text) >= SEEDS:
        raise argparse.ArgumentTypeError(f"{text[:30]} is no seed: give a whole number from 0 on, less than 2^63")
    return int(text)


def count(text: str) -> int:
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text[:30]} is no count: give a whole number from 1 on")
    return int(text)


def into_folder(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", required=True, metavar="DIR", help=NEW_FOLDER)
    command.add_argument("--verbose", action="store_true", help=VERBOSE)


def seed_pairs(command: argparse.ArgumentParser) -> None:
    command.add_argument("pairs", metavar="PAIRS", help="folder that `steer train-pair` wrote")
    configured(command)
    into_folder(command)


ERROR_KINDS = ("replica", "engine", "prompt")
"""The kinds of error rows that can be asked again: `steer.error_kinds.ASKABLE`."""


def retried(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--retry-errors",
        nargs="*",
        choices=ERROR_KINDS,
        metavar="KIND",
        help="with --resume: ask error rows again, those of these kinds: replica, engine, prompt (replica engine)",
    )
