"""`RUN/summary.json`: a run's rows, each with its accuracy and interval, its compute, and the bar at equal compute.

The file is a list of rows with the keys of `Summary`; docs/tables.md describes them. The numbers are those of the
report: both come from `steer.statistics.curves`.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from steer.config.run import TokenPrices
from steer.costs.money import TOKEN_COLUMNS, recorded_prices, traces_usd
from steer.statistics.clusters import clusters
from steer.statistics.curves import curve
from steer.statistics.frames import KEYS
from steer.statistics.oracle import oracles
from steer.storage.run_folder import RunFolder
from steer.traces import Role

COLUMNS = (
    *("cell", "question_id", "seed", "correct", "status", "flops_paper", "flops_full", "steps", "steps_large"),
    *("tokens_discarded", "labels"),
)


class Entry(NamedTuple):
    """A row to be computed: what it is called, and which cells of the run belong to it."""

    benchmark: str
    split: str
    policy: str
    setting: str
    cells: tuple[str, ...]
    """One a sampling seed."""
    bar: bool
    """Whether the row is a point of the random_query bar, by its policy's name; the label `policy` may differ."""


class Summary(NamedTuple):
    """One row of `summary.json`."""

    benchmark: str
    split: str
    policy: str
    """Label of the row: the policy's name, or the sweep variant's."""
    setting: str
    """The threshold, as `gamma=0.5`; empty where the policy has none."""
    seeds: int
    """How many sampling seeds were run."""
    n: int
    """Questions; each was answered once a sample and seed."""
    accuracy: float
    """Share of right answers over all questions, samples and seeds, 0 to 1; a question without an answer is wrong."""
    accuracy_low: float
    accuracy_high: float
    """Ends of the 95 % interval. The unit is the question, or the cluster of questions that share a rule or a passage:
    with several answers a unit, a bootstrap over units; with one, Wilson's."""
    flops_paper: float
    """1e12 FLOPs a question: 2N for every generated token, discarded drafts included."""
    flops_full: float
    """The same with prompt tokens, re-prefill after a switch, and scoring passes."""
    share_large: float
    """Share of the kept steps that the large model wrote."""
    random_query_accuracy: float
    """Accuracy of sending random questions to the large model at the same `flops_paper`; NaN (null) where fewer than
    two points of the bar were measured."""
    seconds: float
    """Wall time of the pipelines the row's cells ran in, each shared among its cells by the time their steps took."""
    clusters: int = 0
    """Units that the interval rests on: `n`, or fewer where questions share a rule or a passage. 0 in a file of an
    earlier version, as are the keys below."""
    pareto: bool = False
    """Whether no row of this benchmark and split is as accurate and as cheap (`flops_full`), and better in one."""
    apgr: float = math.nan
    """Average performance gap recovered by the row's policy over all of its settings (RouteLLM); 0.5: random routing.
    NaN (null) for `small` and `large`, and where these were not run or none of its settings lies between in cost."""
    cpt_50: float = math.nan
    """The least cost, from 0 (small alone) to 1 (large alone) by `flops_full`, at which the policy recovers half of the
    gap between the two."""
    cpt_80: float = math.nan
    oracle_accuracy: float = math.nan
    """Of this benchmark and split: the accuracy of sending each question to the model that is right on it; NaN (null)
    where `small` or `large` was not run."""
    oracle_flops_paper: float = math.nan
    oracle_flops_full: float = math.nan
    usd_tokens: float = math.nan
    """US dollars a question by the prices of tokens in `run.json`; NaN (null) where they have none."""
    usd_tokens_correct: float = math.nan
    """The same a right answer: what all questions cost, by the number of right answers."""


def cells_with_seconds(run: RunFolder, cells: Sequence[str], seconds: float) -> list[dict]:
    """The cells of `run.json` with the wall time of one pipeline (`evaluate` call) added to those of `cells`, shared
    among them by the time that their steps took."""
    took = _step_seconds(run.read_unsorted("steps", cells=list(cells), columns=["cell", "seconds"]))
    whole = sum(took.values())
    share = {name: took.get(name, 0.0) / whole if whole else 1 / len(cells) for name in cells}
    listed = run.describe()["cells"]
    return [_longer(c, share[c["name"]] * seconds) if c["name"] in share else c for c in listed]


def _longer(cell: dict, seconds: float) -> dict:
    """The cell with these seconds added to those it had before its run was cut off."""
    return cell | {"seconds": cell.get("seconds", 0.0) + seconds}


def _step_seconds(steps: pa.Table) -> dict[str, float]:
    sums = steps.group_by("cell").aggregate([("seconds", "sum")]).to_pydict()
    return dict(zip(sums["cell"], (s or 0.0 for s in sums["seconds_sum"]), strict=True))


def summarise(run: RunFolder, entries: Sequence[Entry]) -> list[Summary]:
    """The rows of a run, in the order of `entries`; none for none (a sweep with nothing to choose on validation).

    Raises ValueError if an entry has no traces, or if its questions have different numbers of answers."""
    if not entries:
        return []
    traces = _traces(run, entries)
    counts = traces.groupby([*KEYS, "question_id"], sort=False).size().groupby(KEYS, sort=False).nunique()
    for entry in entries:
        where = f"{entry.policy} {entry.setting} on {entry.benchmark} {entry.split}"
        if entry[:4] not in counts.index:
            raise ValueError(f"no traces of {where}")
        if counts[entry[:4]] > 1:
            raise ValueError(f"{where}: questions have different numbers of answers: the run is not whole")
    bar = {entry.policy for entry in entries if entry.bar}
    points = curve(traces, bar_labels=bar).set_index(KEYS)
    best = oracles(traces, bar).set_index(KEYS[:2])[["accuracy", "flops_paper", "flops_full"]]
    # If a pipeline was cut off after its last trace, the time of its cells is not known.
    took = {cell["name"]: cell.get("seconds", 0.0) for cell in run.describe()["cells"]}
    unknown = (math.nan, math.nan, math.nan)
    at_best = {place: tuple(map(float, values)) for place, *values in best.itertuples(name=None)}
    return [_row(entry, points.loc[entry[:4]], took, at_best.get(entry[:2], unknown)) for entry in entries]


def write_json(run: RunFolder, rows: Iterable[Summary]) -> None:
    records = [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row._asdict().items()} for row in rows
    ]
    run.write_file("summary.json", (json.dumps(records, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(run: RunFolder) -> list[Summary] | None:
    """The rows of `summary.json`; None if the run did not get so far."""
    data = run.read_file("summary.json")
    if data is None:
        return None
    records = json.loads(data)
    return [Summary(**{k: math.nan if v is None else v for k, v in record.items()}) for record in records]


def _traces(run: RunFolder, entries: Sequence[Entry]) -> pd.DataFrame:
    """The entries' traces, with `KEYS`. A trace without a verdict counts as wrong."""
    of_cell = {name: entry for entry in entries for name in entry.cells}
    prices = recorded_prices(run.describe()["config"])
    columns = [*COLUMNS, *(TOKEN_COLUMNS if prices else ())]
    traces = priced(run.read("traces", cells=list(of_cell), columns=columns).to_pandas(), prices)
    for place, key in enumerate(KEYS):
        traces[key] = traces["cell"].map({name: entry[place] for name, entry in of_cell.items()})
    traces["correct"] = traces["correct"].fillna(False).astype(bool)
    traces["cluster"] = clusters(traces)
    return traces


def priced(traces: pd.DataFrame, prices: Mapping[Role, TokenPrices]) -> pd.DataFrame:
    """The traces with column `usd_tokens` at these prices, in place of `TOKEN_COLUMNS`; as they are without prices."""
    if not prices:
        return traces
    counts = [traces[name].to_numpy() for name in TOKEN_COLUMNS]
    return traces.drop(columns=list(TOKEN_COLUMNS)).assign(usd_tokens=traces_usd(*counts, prices))


def _row(entry: Entry, point: pd.Series, took: dict[str, float], at_best: tuple[float, ...]) -> Summary:
    """`at_best`: accuracy, flops_paper and flops_full of the oracle."""
    return Summary(
        *entry[:4],
        seeds=len(entry.cells),
        n=int(point["questions"]),
        accuracy=float(point["accuracy"]),
        accuracy_low=float(point["accuracy_low"]),
        accuracy_high=float(point["accuracy_high"]),
        flops_paper=float(point["flops_paper"]),
        flops_full=float(point["flops_full"]),
        # Where no step was kept, the large model wrote none.
        share_large=0.0 if math.isnan(point["share_large"]) else float(point["share_large"]),
        random_query_accuracy=float(point["bar"]),
        seconds=sum(took.get(name, 0.0) for name in entry.cells),
        clusters=int(point["clusters"]),
        pareto=bool(point["pareto"]),
        apgr=float(point["apgr"]),
        cpt_50=float(point["cpt_50"]),
        cpt_80=float(point["cpt_80"]),
        oracle_accuracy=at_best[0],
        oracle_flops_paper=at_best[1],
        oracle_flops_full=at_best[2],
        usd_tokens=float(point.get("usd_tokens", math.nan)),
        usd_tokens_correct=float(point.get("usd_tokens_correct", math.nan)),
    )
