"""One frame of `steer top`: the counts of a run as text."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from pipelines.watch.live_file import ROUTED, STOPPED
from steer.config.run import PairConfig, PoolsConfig
from steer.costs.flops import flops_paper
from steer.costs.money import HOUR_S, gpu_hours_usd, gpu_seconds, prices_of, tokens_usd
from steer.traces import PAIR, Role

BAR_CHARS = 40
LATE_S = 30.0
"""Age of counts from which on it is said that their driver may be dead. A busy machine or disk delays a write by
seconds."""
LATE_WRITES = 4
"""Writes that must be missing, too."""


class Frame(NamedTuple):
    text: str
    over: bool
    """Whether nothing more will come: the run is finished or stopped."""


def duration(seconds: float | None) -> str:
    """`1:02:03`, `2:03`, or a dash for None."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def frame(
    root: str, described: Mapping[str, Any], live: Mapping[str, Any] | None, driver: bool, now_s: float | None = None
) -> Frame:
    """What is to be seen of a run. `described`: `run.json`. `live`: `live.json`; None: there is none. `driver`: a
    driver has the run lock, as far as the folder says. `now_s`: seconds since 1970; None: of this machine's clock."""
    head = f"{root} · {described['kind']} · "
    if described["finished"]:
        return Frame(f"{head}finished at {described['finished']} after {duration(described['seconds'])}", True)
    resume = f"go on with: steer {described['kind']} --resume {root}" if described["kind"] == "run" else "resume it"
    if live is None:
        if driver:
            return Frame(f"{head}no counts yet: the models start, or their driver was killed before they had", False)
        return Frame(f"{head}stopped before a model was loaded; {resume}", True)
    age_s = max((time.time() if now_s is None else now_s) - live["written_s"], 0.0)
    if live["state"] == STOPPED:
        state = f"stopped {duration(age_s)} ago; {resume}"
    elif live["state"] == ROUTED:
        state = "all traces are committed; the tables are being summed up, or the next cells prepared"
    elif age_s > max(LATE_S, LATE_WRITES * live["every_s"]):
        state = f"these counts are {duration(age_s)} old: the driver may be dead; {resume}"
    else:
        state = f"routing for {duration(live['seconds'])} · counts {age_s:.0f} s old"
    lines = [f"{head}{state}", "", *_traces(live), "", *_models(described, live), "", *_router(live)]
    return Frame("\n".join(lines), live["state"] == STOPPED)


def _traces(live: Mapping[str, Any]) -> list[str]:
    traces = live["traces"]
    done, total = traces["done"], traces["total"]
    share = min(done / total, 1.0) if total else 0.0
    bar = "█" * round(share * BAR_CHARS)
    return [
        f"{bar:░<{BAR_CHARS}} {100 * share:3.0f} %   ETA {duration(live['eta_s'])}",
        f"traces   done {done:,} of {total:,} · live {traces['live']:,} · queued {traces['queued']:,} · "
        f"error rows {traces['errors']:,}",
    ]


def _models(described: Mapping[str, Any], live: Mapping[str, Any]) -> list[str]:
    """A row a role that has a pool. Money by tokens stands in the rows, that of GPU-hours below them."""
    config = described["config"]
    pools, pair = PoolsConfig.model_validate(config["pools"]), PairConfig.model_validate(config["pair"])
    prices, known = prices_of(pair), {role.label: role for role in Role}
    roles = [known[label] for label in live["replicas"]]
    gpu_s = gpu_seconds({known[label]: held_s for label, held_s in live["replica_s"].items()}, pools)
    steps = sum(live["steps"].values())
    rows = [
        ["model", "replicas", "tokens", "steps", "% of steps", "prompt tokens", "TFLOPs", "GPU-hours", "$ by tokens"]
    ]
    for role in roles:
        label = role.label
        states = [f"{count} {state}" for state, count in live["replicas"][label].items() if count]
        tokens, role_steps = live["tokens"].get(label, 0), live["steps"].get(label, 0)
        prompt = live["prompt_tokens"].get(label, 0)
        flops = flops_paper(tokens, 0, live["parameters"].get(label, 0.0), 0.0)
        rows.append(
            [
                label,
                ", ".join(states) or "none",
                f"{tokens:,}" if role in PAIR else "",
                f"{role_steps:,}" if role in PAIR else "",
                f"{100 * role_steps / steps:.0f}" if role in PAIR and steps else "",
                f"{prompt:,}",
                f"{flops:,.3g}" if role in PAIR else "",
                f"{gpu_s.get(label, 0.0) / HOUR_S:,.2f}",
                f"{tokens_usd(prompt, tokens, prices[role]):,.2f}" if role in prices else "–",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_columns(row, widths) for row in rows]
    usd = gpu_hours_usd(gpu_s, pools)
    money = [] if usd is None else [f"GPU-hours so far cost ${usd:,.2f}"]
    return lines + money


def _columns(cells: list[str], widths: list[int]) -> str:
    """The cells below those of other rows: two columns of words, then numbers."""
    words = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
    numbers = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
    return "  ".join(words + numbers).rstrip()


def _router(live: Mapping[str, Any]) -> list[str]:
    lines = [
        f"speed    {live['tokens_per_s']:,.0f} tokens/s",
        f"router   loop {100 * live['loop_ratio']:.0f} % of a core · oldest round {live['oldest_round_s']:.1f} s · "
        f"fits {live['fit_s']:.1f} s · journal {live['journal_s']:.1f} s",
        f"deaths   {live['replaced']} replicas died and were replaced",
    ]
    return lines + [f"waiting  {label}: {what}" for label, what in live["waiting"].items()]
