"""The lifecycle of a run, a sweep or the rollouts of a training: check, start and evaluate cells, in one folder.

    lifecycle = Lifecycle("run", config, policies, out, ...)    # checks; starts and writes nothing
    with lifecycle:                                             # starts Ray and asks for the pools' first nodes
        lifecycle.begin(benchmarks, cells)                      # makes the run folder and locks it
        lifecycle.evaluate(cells)                               # starts the models, if a cell is left to evaluate

Invariants: a configuration that cannot be used is refused before Ray starts. If the models do not start, no new folder
is left behind. A cell whose rows are all committed starts no model.
"""

import json
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel

from actors.router.journal_folders import move_logs, remove_logs
from pipelines.cluster.autoscaler import refuse_unplaceable
from pipelines.report.totals import Meter, add_uncounted
from pipelines.run.cells import Cell, refuse_uncuttable
from pipelines.run.evaluate import evaluate
from pipelines.run.ingest import Ingested
from pipelines.run.prewarm import prewarmed
from pipelines.run.progress import Progress
from pipelines.run.routers import router_of_groups
from pipelines.run.run_lock import has_lock, run_lock_held, take_over_lock
from pipelines.run.session import Session, StartFailed, cluster, engine_cpus, session
from pipelines.run.supervisor import Supervisor
from pipelines.watch.live_file import LiveFile
from steer.config.check import needed_roles, usable_pair
from steer.config.load import SettingsError, refusals_as_settings_errors
from steer.config.policy import PolicyConfig
from steer.config.resume import refused_changes, with_prices
from steer.config.run import PairConfig, PoolsConfig
from steer.config.secrets import MASK, hidden, masked, remember
from steer.config.shares import pool_shares
from steer.error_kinds import ErrorKind
from steer.storage.retry import mark_errors, take_out_marked
from steer.storage.run_folder import RunFolder
from steer.traces import Role


class Lifecycle:
    def __init__(
        self,
        kind: str,
        config: BaseModel,
        policies: Sequence[PolicyConfig],
        out: str | Path,
        *,
        seeds: list[int],
        roles: Sequence[Role] | None = None,
        resume: bool = False,
        retry: Collection[ErrorKind] | None = None,
        replica_class: type | None = None,
        verbose: bool = False,
    ):
        """`kind` and `seeds` are written to `run.json`. `config` must have `pair`, `pools`, `routing` and `journal`.
        `roles`: the roles to start. None: those that the policies need. `resume`: resume the run in `out`, or begin it
        if there is none. `retry`: kinds of error rows that a resumed run asks again.
        `replica_class`: see `actors.router.router.Router`.

        Raises SettingsError for a configuration that contradicts itself, for a folder in use, and for a run of another
        configuration.
        """
        self._kind, self._config, self._policies, self._out, self._seeds = kind, config, policies, out, seeds
        self._replica_class, self._verbose = replica_class, verbose
        self._stack = ExitStack()
        self._run: RunFolder | None = None
        self._supervisor: Supervisor | None = None
        self._finished: set[str] = set()
        with refusals_as_settings_errors():
            self._pair = usable_pair(config, policies)
            remember(self._pair.model_dump(mode="json"))  # A pair may come from a file of its own.
            self._roles = needed_roles(policies, self._pair) if roles is None else tuple(roles)
            pool_shares(config.pools, self._roles)
            _refuse_idle_routers(config)
            self.resumed = held_run(out, kind) if resume else None
            """The run that is resumed. None: this is a new run."""
            if self.resumed is None:
                RunFolder.refuse_used(out)
            else:
                prepare_resuming(self.resumed, resolved(config, self._pair), out, retry)

    @property
    def pair(self) -> PairConfig:
        return self._pair

    @property
    def run(self) -> RunFolder:
        """The run's folder, after `begin`."""
        assert self._run is not None, "begin() comes first"
        return self._run

    def __enter__(self) -> Self:
        with ExitStack() as entered:
            entered.enter_context(cluster(self._verbose, engine_cpus(self._config.pools, self._roles)))
            entered.enter_context(prewarmed(self._config.pools, self._roles))
            if self.resumed is None:
                self._refuse_unplaceable()
            self._stack = entered.pop_all()
        return self

    def _refuse_unplaceable(self) -> None:
        """Refuse pools for which the cluster can never have a place. A run that is resumed may wait for its nodes."""
        own = not os.environ.get("RAY_ADDRESS")
        refuse_unplaceable(self._config.pools, self._roles, own, may_wait=self.resumed is not None and not own)

    def __exit__(self, *failure: Any) -> bool | None:
        return self._stack.__exit__(*failure)

    def begin(self, benchmarks: Sequence[Ingested], cells: Sequence[Cell] = ()) -> None:
        """Make the folder of a new run, and lock the folder.

        `benchmarks` are described in `run.json`. Give none if the run that is resumed describes them already. Raises
        SettingsError for `cells` that cannot be cut into groups, and for a benchmark without a question that can be
        asked, before the folder is made.
        """
        new = self.resumed is None
        with refusals_as_settings_errors():
            for benchmark in benchmarks:
                benchmark.refuse_unaskable()
            for cell in cells:
                refuse_uncuttable(cell)
            config = resolved(self._config, self._pair)
            run = self.resumed or RunFolder.create(self._out, self._kind, config, self._seeds)
            if benchmarks and (new or not run.describe()["cells"]):
                run.update(benchmarks=[benchmark.described() for benchmark in benchmarks])
        self._run = run
        self._finished = run.finished_cells()
        journal = run.journal if self._config.journal else None
        if journal is not None and not new:
            routers = self._config.pools.routers
            move_logs(journal, routers, router_of_groups(run.describe()["cells"], routers))
        start = partial(
            session,
            self._pair,
            self._config.pools,
            self._replica_class,
            self._roles,
            self._policies,
            journal,
            run.name,
            run.write_events,
        )
        self._supervisor = Supervisor(run, start)
        if new:
            self._stack.enter_context(self._removed_if_not_started(run))
        # The lock goes inside: if the folder vanished while the lock is held, it would seem that another driver has it.
        self._stack.enter_context(run_lock_held(run))
        self._stack.enter_context(self._supervisor)

    @contextmanager
    def _removed_if_not_started(self, run: RunFolder) -> Iterator[None]:
        """Remove the folder if the models do not start, so that the corrected command can use the same one."""
        try:
            yield
        except StartFailed:
            if self._supervisor is not None and not self._supervisor.started:
                run.remove()
            raise

    def evaluate(self, cells: Sequence[Cell]) -> None:
        """Route, grade and commit the cells whose rows are not all in the run's tables."""
        assert self._supervisor is not None, "begin() comes first"
        left = [cell for cell in cells if cell.name not in self._finished]
        if left:
            if self.resumed is not None and not self._supervisor.started:
                self._refuse_unplaceable()
            self._supervisor.evaluate(left, partial(evaluate_with_progress, pools=self._config.pools))


def evaluate_with_progress(cells: Sequence[Cell], started: Session, run: RunFolder, pools: PoolsConfig) -> None:
    """Route, grade and commit the cells, with progress on standard error. Adds what it took to the run's totals, also
    if it is stopped."""
    meter = Meter(run, [cell.name for cell in cells], started.stats, pools, started.counted[-1])
    grading_s = 0.0
    try:
        with Progress(meter, sys.stderr), LiveFile(run, started.stats):
            grading_s = evaluate(cells, started.routers, run)
    except BaseException:
        # A driver that has taken the run over writes to run.json by now. What stopped the pipeline is reported, not
        # that the totals could not be written.
        if has_lock(run):
            with suppress(Exception):
                started.events.flush()
                meter.end()
        raise
    started.events.flush()  # the totals count the deaths in its table
    started.counted.append(meter.end(grading_s))
    run.update(engines=run.describe()["engines"] | described(started))


def described(started: Session) -> dict[str, Any]:
    """The entries of `engines` in `run.json` about the models. A model that was never started has none."""
    return {
        role.label: {
            "model": info.model,
            "parameters": info.parameters,
            "max_model_len": info.max_model_len,
            **info.versions,
        }
        for role, info in started.infos.items()
    }


def _refuse_idle_routers(config: BaseModel) -> None:
    routers, in_flight = config.pools.routers, config.routing.groups_in_flight
    if in_flight < routers:
        raise ValueError(
            f"routing.groups_in_flight = {in_flight} is fewer than pools.routers = {routers}: a router without a group "
            f"has nothing to do; set routing.groups_in_flight to at least {routers}, or pools.routers to {in_flight}"
        )


def resolved(config: BaseModel, pair: PairConfig) -> dict[str, Any]:
    """The configuration as it is run: the pair's models stand in the place of its name."""
    return {**config.model_dump(mode="json"), "pair": pair.model_dump(mode="json")}


# --- resuming ---------------------------------------------------------------------------------------------------------


def held_run(out: str | Path, kind: str) -> RunFolder | None:
    """The run in a folder. None: there is none. Raises SettingsError if the run is of another kind."""
    try:
        run = RunFolder.open(out)
    except FileNotFoundError:
        return None
    held = run.describe()["kind"]
    if held != kind:
        raise SettingsError(f"{out} holds a {held}, not a {kind}: go on by `steer {held}`, or give another folder")
    return run


def prepare_resuming(
    run: RunFolder, wanted: dict[str, Any], out: str | Path, retry: Collection[ErrorKind] | None = None
) -> None:
    """Prepare a run folder for resuming: lock it, add up what a process that was cut off took and remove what it left
    behind, and take out the error rows of the kinds `retry`.

    The run may have been on another machine and may have had other pools. Raises SettingsError, with the key, if
    `wanted` is another configuration.
    """
    held, wanted = run.describe()["config"], json.loads(json.dumps(wanted))
    changes = [
        (key, was, now)
        for key, was, now in refused_changes(masked(held), masked(wanted))
        if MASK not in (was, now)  # A secret may be another one now, or come from the environment.
    ]
    if changes:
        key, was, now = changes[0]
        raise SettingsError(
            f"{hidden(out)} was begun with {key} = {was!r}, not {now!r}: give the same configuration, or another folder"
        )
    take_over_lock(run)
    run.clean()
    priced = with_prices(held, wanted)
    if priced != held:
        run.update(config=priced)
    add_uncounted(run)
    forget = partial(remove_logs, run.journal)
    take_out_marked(run, forget)
    if retry is not None:
        found = mark_errors(run, retry)
        note = take_out_marked(run, forget)
        print(f"steer: {_retry_said(note, found)}", file=sys.stderr, flush=True)
    run.retries = len(run.describe().get("retried", []))


def _retry_said(note: dict[str, Any] | None, found: dict[str, int]) -> str:
    """What is asked again and what stays, by kind. `found`: error rows of each kind before."""
    asked = note["kinds"] if note else {}
    stay = {kind: count for kind, count in found.items() if kind not in asked}
    again, left = (", ".join(f"{kind} {count:,}" for kind, count in sorted(counts.items())) for counts in (asked, stay))
    said = f"error rows that are asked again: {again or 'none'}"
    return f"{said}; that stay: {left}" if left else said
