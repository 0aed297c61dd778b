"""The commands `steer prefixes | search | tune | tune-pairs`, with their options.

Invariant: nothing heavy is imported before the arguments are parsed.
"""

import argparse
from typing import Any

from pipelines.arguments import configured, count, into_folder, seed, seed_pairs


def add_commands(commands: Any) -> None:
    """Add them to a parser's subcommands."""
    prefixes = commands.add_parser(
        "prefixes", help="what the large model makes of every step of the small one's answers"
    )
    configured(prefixes)
    into_folder(prefixes)
    prefixes.add_argument("--resume", action="store_true", help="go on in DIR where an earlier call was cut off")
    prefixes.set_defaults(command=_prefixes)

    search = commands.add_parser("search", help="price routing settings on a prefix table, without a model")
    search.add_argument("folder", metavar="DIR", help="folder that `steer prefixes` wrote")
    _folded(search)
    search.add_argument("--json", metavar="FILE", help="also write the frontier to FILE")
    search.set_defaults(command=_search)

    tune = commands.add_parser("tune", help="plan the setting for a budget, an accuracy or a risk: plan.yaml")
    configured(tune)
    tune.add_argument("--sweep", metavar="RUN", help="choose among the settings that a sweep ran on validation")
    tune.add_argument("--prefixes", metavar="DIR", help="choose on the prefix table that `steer prefixes` wrote")
    knob = tune.add_mutually_exclusive_group(required=True)
    knob.add_argument("--budget", type=_budget, metavar="SHARE", help="most FLOPs, of the large model's: 50%% or 0.5")
    knob.add_argument("--accuracy-within", type=_points, metavar="POINTS", help="points below the large model: 1")
    knob.add_argument("--risk", type=_risk, metavar="SHARE", help="questions lost against the large model: 2%% or 0.02")
    _folded(tune)
    tune.add_argument("--hand-back", action="store_true", help="CONFIG: run settings that return traces, too")
    tune.add_argument("--no-confirm", action="store_true", help="CONFIG: do not run the plan")
    into_folder(tune)
    tune.set_defaults(command=_tune)

    tuned = commands.add_parser("tune-pairs", help="tune all trained seed pairs; whether the plans hold on test")
    seed_pairs(tuned)
    tuned.set_defaults(command=_tune_pairs)


def _prefixes(args: argparse.Namespace) -> None:
    from steer.config.load import load_config

    config = load_config(args.config, args.sets)

    from pipelines.tune.prefixes import write_prefixes

    print(f"\n{write_prefixes(config, args.out, verbose=args.verbose, resume=args.resume).text()}")
    print(f"{args.out}: traces/ steps/ run.json")


def _search(args: argparse.Namespace) -> None:
    from pipelines.tune.search import run_search

    print(run_search(args.folder, args.folds, args.seed, args.benchmark, args.json))
    print(f"\n{args.folder}: search.parquet search.json")


def _tune(args: argparse.Namespace) -> None:
    from steer.config.load import SettingsError, load_config

    knob = args.budget or args.accuracy_within or args.risk
    if (args.sweep or args.prefixes) and (args.config or args.sets):
        raise SettingsError("--sweep and --prefixes choose among what was measured: leave CONFIG and --set out")
    if not (args.sweep or args.prefixes):
        config = load_config(args.config, args.sets)

        from pipelines.tune.pair import Tuning, tune_pair

        tuning = Tuning(args.folds, args.seed, args.hand_back, not args.no_confirm, verbose=args.verbose)
        tune_pair(config, knob, args.out, tuning)
        print(f"\n{args.out}: plan.yaml prefixes/")
        return

    from pipelines.tune.tune import tune

    tune(
        knob,
        args.out,
        prefixes=args.prefixes,
        sweep=args.sweep,
        benchmark=args.benchmark,
        folds=args.folds,
        seed=args.seed,
    )
    print(f"\n{args.out}: plan.yaml")


def _tune_pairs(args: argparse.Namespace) -> None:
    from steer.config.load import load
    from steer.config.sweep import SweepConfig

    config = load(SweepConfig, args.config, args.sets)

    from pipelines.tune.seed_pairs import tune_pairs

    tune_pairs(args.pairs, config, args.out, verbose=args.verbose)


def _folded(command: argparse.ArgumentParser) -> None:
    command.add_argument("--benchmark", metavar="NAME", help="which one, if the folder has several")
    command.add_argument("--folds", type=count, default=5, metavar="N", help="folds of the cross-validation (5)")
    command.add_argument("--seed", type=seed, default=0, metavar="N", help="seed of folds, halves and bootstrap (0)")


def _budget(text: str):
    return _knob("budget", text, 1.0, "50% or 0.5")


def _points(text: str):
    return _knob("accuracy_within", text, 0.01, "1 for one point of accuracy")


def _risk(text: str):
    return _knob("risk", text, 1.0, "2% or 0.02")


def _knob(name: str, text: str, unit: float, example: str):
    """`unit`: what 1 without a percent sign stands for."""
    from steer.plans.knobs import Knob

    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        return Knob(name=name, value=float(number) * (0.01 if percent else unit))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:30]} is no share that can be asked for: give {example}") from None
