"""The command line: `steer run | top | sweep | prefixes | search | tune | serve | experiment | report | tables |
grade | regrade | data | show-prompt | sweep-pairs | tune-pairs | bench | train-pair | train-signals | train-router |
show-config`.

Invariant: nothing heavy is imported before the arguments are parsed. Exit codes: 0 done, 1 failed, 2 bad configuration
or usage, 130 stopped by Ctrl-C or SIGTERM.
"""

import argparse
import sys
import traceback
from collections.abc import Sequence

from pipelines.arguments import NEW_FOLDER, VERBOSE, configured, count, into_folder, retried, seed, seed_pairs, settable
from pipelines.serve.command import add_command as add_serving
from pipelines.tables.command import add_command as add_tables
from pipelines.tune.commands import add_commands as add_tuning
from pipelines.watch.top import add_command as add_watching

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
ROUTER_KEYS = ("live", "policies", "routers")
SERVE_KEYS = ("pair", "clients", "turns")
STORAGE_KEYS = ("pair", "policies")
OVERHEAD_KEYS = ("pair", "data", "benchmark", "field", "gpus", "max_new_tokens", "turns", "settings")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script. Returns the exit code; argparse itself exits with 2 on bad usage."""
    args = parser().parse_args(argv)
    try:
        args.command(args)
        return OK
    except KeyboardInterrupt:
        print("steer: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED
    except Exception as failure:
        return _report(failure)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="steer", description="Route each reasoning step to a small or a large language model by its confidence."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="evaluate one policy on one benchmark")
    configured(run)
    folder = run.add_mutually_exclusive_group(required=True)
    folder.add_argument("--out", metavar="DIR", help=NEW_FOLDER)
    folder.add_argument(
        "--resume",
        metavar="DIR",
        help="go on with the run in DIR, on other pools if you like; with CONFIG, or begin it",
    )
    retried(run)
    run.add_argument("--plan", metavar="PLAN", help="route as `steer tune` planned: its folder or plan.yaml")
    run.add_argument("--verbose", action="store_true", help=VERBOSE)
    run.set_defaults(command=_run)

    sweep = commands.add_parser("sweep", help="compare policies: thresholds on validation, the chosen ones on test")
    configured(sweep)
    into_folder(sweep)
    sweep.add_argument("--test-grid", action="store_true", help="run the whole grid on test too (best-on-test figure)")
    sweep.add_argument("--plan", metavar="PLAN", nargs="+", help="run what `steer tune` planned, too: its folders")
    sweep.add_argument("--resume", action="store_true", help="go on in DIR where an earlier call was cut off")
    retried(sweep)
    sweep.set_defaults(command=_sweep)

    add_watching(commands)
    add_tuning(commands)
    add_serving(commands)

    prompt = commands.add_parser("show-prompt", help="print a question as the models are asked it")
    _benchmark(prompt)
    prompt.add_argument("--row", type=int, default=1, metavar="N", help="which question of the split, from 1")
    prompt.add_argument("--pair", metavar="PAIR", help="show the text that this pair's chat templates make of it")
    prompt.set_defaults(command=_show_prompt)

    data = commands.add_parser("data", help="describe a benchmark: rows, splits, difficulty, lengths, refused rows")
    _benchmark(data)
    data.add_argument("--pair", metavar="PAIR", help="measure prompts in tokens of this pair's models too")
    data.add_argument("--check-grading", action="store_true", help="grade every gold, for its row and others")
    data.set_defaults(command=_data)

    grade = commands.add_parser("grade", help="grade answers of any system: a file with columns text and gold")
    grade.add_argument("file", metavar="FILE", nargs="+", help="parquet, jsonl, json or csv file, folder, glob or URL")
    grade.add_argument("--grader", help="math, aime, choice, qa, kor or exact; none: each row's column grader")
    grade.add_argument("--text", default="text", metavar="FIELD", help="field of the response (text)")
    grade.add_argument("--gold", default="gold", metavar="FIELD", help="field of the right answer (gold)")
    grade.add_argument("--answers", choices=("any", "all"), help="what a list of golds is: each right, or all together")
    grade.add_argument("--choice-official", action="store_true", help="choices by the ACPBench harness's own rule")
    grade.add_argument("--out", metavar="FILE.parquet", help="write a verdict for each row to this new file")
    grade.add_argument("--verbose", action="store_true", help="show the logs of Ray")
    grade.set_defaults(command=_grade)

    regrade = commands.add_parser("regrade", help="renew a run's verdicts by today's rules, without generating")
    regrade.add_argument("run", metavar="RUN", help="folder of a run or a sweep")
    regrade.add_argument("--verbose", action="store_true", help="show the logs of Ray")
    regrade.set_defaults(command=_regrade)

    report = commands.add_parser(
        "report", help="a page, figures and tables of a run; of several, the first against each"
    )
    report.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run or a sweep")
    report.add_argument("--out", required=True, metavar="DIR", help="new folder for report.html, figures/ and tables/")
    report.set_defaults(command=_write_report)

    add_tables(commands)

    experiment = commands.add_parser("experiment", help="the paper's tables and figures; called again it goes on")
    experiment.add_argument("name", choices=("paper",))
    configured(experiment)
    experiment.add_argument("--pair", metavar="PAIR", help="name or YAML file of the model pair (embedded)")
    experiment.add_argument("--benchmarks", nargs="+", metavar="BENCHMARK", help="(chain_math hops)")
    into_folder(experiment)
    experiment.set_defaults(command=_experiment)

    pairs = commands.add_parser("sweep-pairs", help="compare variants over all trained seed pairs, on validation")
    seed_pairs(pairs)
    pairs.set_defaults(command=_sweep_pairs)

    bench = commands.add_parser("bench", help="measure the system's speed")
    bench.add_argument(
        "name", choices=("overhead", "router", "mixture", "grading", "loop", "elastic", "scale", "serve", "storage")
    )
    bench.add_argument("--trace", metavar="FILE", help="loop: step lengths from a run's steps/ (none: drawn ones)")
    bench.add_argument(
        "--questions",
        metavar="N",
        type=count,
        help="overhead, scale, serve, storage: questions (200, 100000, 400, 100)",
    )
    bench.add_argument("--text-bytes", metavar="N", type=count, help="scale: length of each question (2000)")
    bench.add_argument(
        "--pair", metavar="PAIR", help="overhead, serve, storage: name or YAML file of the pair (embedded)"
    )
    bench.add_argument("--data", metavar="PATH", help="overhead: files of questions (validation of chain_math)")
    bench.add_argument("--benchmark", metavar="NAME", help="overhead: ask as this benchmark does; PATH has its files")
    bench.add_argument("--field", metavar="FIELD", help="overhead: field of PATH to ask (question, problem or prompt)")
    bench.add_argument("--gpus", metavar="N", type=count, help="overhead: cards for both models (none: the CPU)")
    bench.add_argument("--max-new-tokens", metavar="N", type=count, help="overhead: longest answer (256)")
    bench.add_argument("--turns", metavar="N", type=count, help="overhead, serve: how often all is measured (4, 2)")
    bench.add_argument("--settings", nargs="+", metavar="TEXT", help="overhead: settings whose names contain it (all)")
    bench.add_argument("--live", metavar="N,N", help="router: numbers of live traces (1000,10000,100000)")
    bench.add_argument(
        "--policies", metavar="NAME,NAME", help="router, storage: some of the ways that they measure (all)"
    )
    bench.add_argument("--routers", metavar="N", type=count, help="router: routers that share the groups (1)")
    bench.add_argument("--clients", metavar="N,N", help="serve: numbers of clients that ask at a time (1,4,16,64)")
    bench.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    bench.set_defaults(command=_bench)

    train = commands.add_parser("train-pair", help="train an embedded pair again from nothing, on the CPU")
    train.add_argument("--seeds", type=seed, nargs="+", default=[0, 1, 2], help="training seeds of each size")
    train.add_argument(
        "--benchmarks",
        nargs="+",
        default=["chain_math", "hops"],
        choices=("chain_math", "hops", "mixed_chain"),
        help="embedded benchmarks to train on (chain_math hops); mixed_chain has a pair of its own",
    )
    train.add_argument("--out", required=True, metavar="DIR", help="folder for the checkpoints")
    train.set_defaults(command=_train_pair)

    signals = commands.add_parser("train-signals", help="train the embedded reward model and judge again, on the CPU")
    signals.add_argument("--seed", type=seed, default=0, metavar="N", help="training seed (0, which is shipped)")
    signals.add_argument("--out", required=True, metavar="DIR", help="folder for both models and signals.json")
    signals.set_defaults(command=_train_signals)

    router = commands.add_parser("train-router", help="train the probe that the policy query_router routes by")
    configured(router)
    into_folder(router)
    router.set_defaults(command=_train_router)

    show = commands.add_parser("show-config", help="print the resolved configuration and start nothing")
    configured(show)
    kind = show.add_mutually_exclusive_group()
    kind.add_argument("--sweep", action="store_true", help="CONFIG is a sweep's")
    kind.add_argument("--serve", action="store_true", help="CONFIG is an endpoint's")
    show.set_defaults(command=_show_config)
    return top


def _benchmark(command: argparse.ArgumentParser) -> None:
    command.add_argument("benchmark", metavar="BENCHMARK", help="name of a benchmark, or any name with --source PATH")
    command.add_argument("--source", metavar="SOURCE", help="hub, embedded, or the PATH, glob or URL of its files")
    command.add_argument("--split", choices=("validation", "test", "all"), default="test")
    settable(command, "a key of benchmark:, for example --set question=problem; may be repeated")


def _run(args: argparse.Namespace) -> None:
    from steer.config.load import load_config

    out = args.out or args.resume
    config = load_config(args.config, args.sets) if args.config or args.out else _held_config(out, args.sets)
    if args.plan:
        from pipelines.tune.apply import with_plan

        config = with_plan(config, args.plan)

    from pipelines.run.run import run_one
    from steer.config.secrets import hidden

    run_one(config, out, verbose=args.verbose, resume=bool(args.resume), retry=_retry(args))
    print(f"\n{hidden(out)}: traces/ steps/ mixtures/ run.json summary.json")


def _retry(args: argparse.Namespace):
    """The kinds of error rows that are asked again. None: no row is."""
    if args.retry_errors is None:
        return None

    from steer.config.load import SettingsError
    from steer.error_kinds import RETRIED, ErrorKind

    if not args.resume:
        raise SettingsError("--retry-errors asks rows of an earlier call again: give --resume too")
    return [ErrorKind(kind) for kind in args.retry_errors] or RETRIED


def _held_config(folder: str, sets: Sequence[str]):
    """The configuration of the run in a folder, with `sets` laid over it: they may change its pools."""
    from pipelines.run.lifecycle import held_run
    from steer.config.code_keys import code_keys
    from steer.config.load import SettingsError, load
    from steer.config.run import RunConfig

    run = held_run(folder, "run")
    if run is None:
        raise SettingsError(f"{folder} holds no run to go on with: give CONFIG to begin one there")
    held = run.describe()["config"]
    if keys := code_keys(held):
        raise SettingsError(
            f"{folder}/run.json: {', '.join(keys)} loads code, which whoever can write to that folder could choose: "
            f"give the configuration too, `steer run CONFIG --resume {folder}`"
        )
    return load(RunConfig, f"{folder}/run.json", sets, held)


def _sweep(args: argparse.Namespace) -> None:
    from steer.config.load import load
    from steer.config.sweep import SweepConfig

    sets = [*args.sets, "test_grid=true"] if args.test_grid else args.sets
    config = load(SweepConfig, args.config, sets)
    if args.plan:
        from pipelines.tune.apply import sweep_with_plans

        config = sweep_with_plans(config, args.plan)

    from pipelines.sweep.sweep import run_sweep
    from steer.config.secrets import hidden

    run_sweep(config, args.out, verbose=args.verbose, resume=args.resume, retry=_retry(args))
    print(f"\n{hidden(args.out)}: traces/ steps/ mixtures/ run.json summary.json curve.png curve.svg")


def _experiment(args: argparse.Namespace) -> None:
    from pipelines.sweep.paper import PaperConfig, run_paper
    from steer.config.load import load

    named = [f"pair={args.pair}"] if args.pair else []
    named += [f"benchmarks=[{','.join(args.benchmarks)}]"] if args.benchmarks else []
    config = load(PaperConfig, args.config, named + args.sets)
    print(f"\n{run_paper(config, args.out, verbose=args.verbose)}")


def _benchmark_config(args: argparse.Namespace):
    from steer.config.load import load_config

    given = {"name": args.benchmark, "source": args.source, "split": args.split}
    sets = [f"{key}={value}" for key, value in given.items() if value is not None] + args.sets
    return load_config(None, [f"benchmark.{item}" for item in sets]).benchmark


def _show_prompt(args: argparse.Namespace) -> None:
    config = _benchmark_config(args)

    from pipelines.grade.data import show_prompt

    print(show_prompt(config, args.row, args.pair))


def _data(args: argparse.Namespace) -> None:
    config = _benchmark_config(args)

    from pipelines.grade.data import describe_data

    print(describe_data(config, args.pair))
    if args.check_grading:
        from pipelines.grade.check import check_grading

        print(f"\n{check_grading(config)}")


def _grade(args: argparse.Namespace) -> None:
    from pathlib import Path

    from pipelines.grade.grade import Fields, grade_file

    fields = Fields(args.text, args.gold, args.grader, args.choice_official, args.answers)
    print(grade_file(args.file, fields, Path(args.out) if args.out else None, args.verbose))


def _regrade(args: argparse.Namespace) -> None:
    from pipelines.grade.regrade import regrade

    print(regrade(args.run, args.verbose))


def _write_report(args: argparse.Namespace) -> None:
    from pipelines.report.write import write_report

    print(write_report(args.runs, args.out))


def _sweep_pairs(args: argparse.Namespace) -> None:
    from steer.config.load import load
    from steer.config.sweep import SweepConfig

    config = load(SweepConfig, args.config, args.sets)

    from pipelines.sweep.seed_pairs import sweep_pairs

    sweep_pairs(args.pairs, config, args.out, verbose=args.verbose)


def _bench(args: argparse.Namespace) -> None:
    from pathlib import Path

    from pipelines.bench import bench

    bench.run(
        args.name,
        Path(args.json) if args.json else None,
        Path(args.trace) if args.trace else None,
        args.questions,
        args.text_bytes,
        {key: value for key in OVERHEAD_KEYS if (value := getattr(args, key)) is not None},
        {key: value for key in ROUTER_KEYS if (value := getattr(args, key)) is not None},
        {key: value for key in SERVE_KEYS if (value := getattr(args, key)) is not None},
        {key: value for key in STORAGE_KEYS if (value := getattr(args, key)) is not None},
    )


def _train_pair(args: argparse.Namespace) -> None:
    from pathlib import Path

    from steer.embedded.train import train_pair

    train_pair(args.seeds, Path(args.out), args.benchmarks)


def _train_signals(args: argparse.Namespace) -> None:
    from pathlib import Path

    from steer.embedded.train_signals import train_signals

    train_signals(args.seed, Path(args.out))


def _train_router(args: argparse.Namespace) -> None:
    import json

    from pipelines.train.router import TrainRouterConfig, train_router
    from steer.config.load import load

    report = train_router(load(TrainRouterConfig, args.config, args.sets), args.out, verbose=args.verbose)
    print(json.dumps(report, indent=2))
    print(f"\n{args.out}: probe.safetensors probe.json training.json rollouts/")


def _show_config(args: argparse.Namespace) -> None:
    from steer.config.load import load, to_yaml

    if args.sweep:
        from steer.config.sweep import SweepConfig as Config
    elif args.serve:
        from pipelines.serve.config import ServeConfig as Config
    else:
        from steer.config.run import RunConfig as Config
    print(to_yaml(load(Config, args.config, args.sets)), end="")


def _report(failure: Exception) -> int:
    """Print the message of a failure that a person can mend, and return the exit code. Raise any other failure again,
    so that its stack trace is printed."""
    from steer.config.load import SettingsError
    from steer.config.secrets import hidden

    if isinstance(failure, SettingsError):
        print(f"steer: {hidden(failure)}", file=sys.stderr)
        return USAGE
    from pipelines.run.run_lock import Superseded
    from pipelines.run.session import StartFailed

    if isinstance(failure, StartFailed | Superseded):
        print(f"steer: {hidden(failure)}", file=sys.stderr)
        return FAILED
    from pipelines.run.failures import message_of

    message = message_of(failure)
    if message is not None:
        print(f"steer: {hidden(message)}", file=sys.stderr)
        return FAILED
    trace = "".join(traceback.format_exception(failure))
    if hidden(trace) == trace:
        raise failure
    print(hidden(trace), file=sys.stderr, end="")
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
