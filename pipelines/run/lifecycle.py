"""The lifecycle of a run, a sweep or the rollouts of a training: check, start and evaluate cells, in one folder.

    lifecycle = Lifecycle("run", config, policies, out, ...)    # checks; starts and writes nothing
    with lifecycle:                                             # starts Ray and asks for the pools' first nodes
        lifecycle.begin(benchmarks, cells)                      # makes the run folder and locks it
        lifecycle.evaluate(cells)                               # starts the models, if a cell is left to evaluate

Invariants: a configuration that cannot be used is refused before Ray starts. If the models do not start, no new folder
is left behind. A cell whose rows are all committed starts no model.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel

from actors.router.journal_folders import move_logs
from pipelines.report.summary import note_seconds
from pipelines.report.time_spent import note_time, spent
from pipelines.run.cells import Cell, refuse_uncuttable
from pipelines.run.evaluate import evaluate
from pipelines.run.ingest import Ingested
from pipelines.run.prewarm import prewarmed
from pipelines.run.progress import Progress
from pipelines.run.routers import router_of_groups
from pipelines.run.run_lock import run_lock_held, take_over_lock
from pipelines.run.session import Session, StartFailed, cluster, engine_cpus, session
from pipelines.run.supervisor import Supervisor
from steer.config.check import needed_roles, usable_pair
from steer.config.load import SettingsError, refusals_as_settings_errors
from steer.config.policy import PolicyConfig
from steer.config.run import PairConfig
from steer.config.secrets import MASK, hidden, masked, remember
from steer.config.shares import pool_shares
from steer.storage.run_folder import RunFolder
from steer.traces import Role

MAY_DIFFER = ("pools", "journal")
"""Keys of the configuration that may differ when a run is resumed."""
MUST_AGREE = ("pools.measures",)
"""Keys below those of `MAY_DIFFER` that may not differ, unless more is measured now than by an earlier version."""


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
        replica_class: type | None = None,
        verbose: bool = False,
    ):
        """`kind` and `seeds` are written to `run.json`. `config` must have `pair`, `pools`, `routing` and `journal`.
        `roles`: the roles to start. None: those that the policies need. `resume`: resume the run in `out`, or begin it
        if there is none. `replica_class`: see `actors.router.router.Router`.

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
                prepare_resuming(self.resumed, resolved(config, self._pair), out)

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
            self._stack = entered.pop_all()
        return self

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
            session, self._pair, self._config.pools, self._replica_class, self._roles, self._policies, journal
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
            self._supervisor.evaluate(left, evaluate_with_progress)
            self.run.update(engines=described(self._supervisor.session()))


def evaluate_with_progress(cells: Sequence[Cell], started: Session, run: RunFolder) -> None:
    """Route, grade and commit the cells, with progress on standard error. Writes the time it took to `run.json`."""
    before, started_s = started.stats(), time.monotonic()
    with Progress(started.stats, sys.stderr):
        grading_s = evaluate(cells, started.routers, run)
    wall_s = time.monotonic() - started_s
    note_seconds(run, [cell.name for cell in cells], wall_s)
    note_time(run, spent(before, started.stats(), wall_s, grading_s))


def described(started: Session) -> dict[str, Any]:
    """The entry of `run.json` about the engines and the router. A model that was never started is not in it."""
    stats = started.stats()
    return {
        **{
            role.label: {
                "model": info.model,
                "parameters": info.parameters,
                "max_model_len": info.max_model_len,
                **info.versions,
            }
            for role, info in started.infos.items()
        },
        "replaced_replicas": stats.replaced,
        "outstanding_s": {role.label: seconds for role, seconds in stats.outstanding_s.items()},
        "busy_s": {role.label: seconds for role, seconds in stats.busy_s.items()},
        "replica_s": {role.label: seconds for role, seconds in stats.replica_s.items()},
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


def prepare_resuming(run: RunFolder, wanted: dict[str, Any], out: str | Path) -> None:
    """Prepare a run folder for resuming: lock it and remove what a process that was cut off left behind.

    The run may have been on another machine and may have had other pools. Raises SettingsError, with the key, if
    `wanted` is another configuration.
    """
    changes = [
        (key, was, now)
        for key, was, now in changed(masked(run.describe()["config"]), masked(json.loads(json.dumps(wanted))))
        if MASK not in (was, now)  # A secret may be another one now, or come from the environment.
        and not key.startswith(tuple(f"{free}." for free in MAY_DIFFER))
        and key not in MAY_DIFFER
        or (key.startswith(MUST_AGREE) and not _measures_more(was, now))
    ]
    if changes:
        key, was, now = changes[0]
        raise SettingsError(
            f"{hidden(out)} was begun with {key} = {was!r}, not {now!r}: give the same configuration, or another folder"
        )
    take_over_lock(run)
    run.clean()


def changed(was: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, earlier value, present value) of every difference between two configurations as JSON values.

    A key that only one of them has counts as null there: a run that an earlier version began lacks keys that are new.
    """
    if isinstance(was, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*was, *now]):
            yield from changed(was.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif _are_objects(was) and _are_objects(now) and len(was) == len(now):
        for number, (earlier, present) in enumerate(zip(was, now, strict=True)):
            yield from changed(earlier, present, f"{key}.{number}")
    elif was != now:
        yield key, was, now


def _measures_more(was: Any, now: Any) -> bool:
    return isinstance(was, list) and isinstance(now, list) and set(was) < set(now)


def _are_objects(value: Any) -> bool:
    """Whether a value is a list of objects, such as a sweep's benchmarks and variants."""
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)
