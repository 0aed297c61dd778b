"""The printed tables: one a benchmark and split, in plain text that survives a log and a paste."""

import math
from collections.abc import Collection, Iterator, Sequence

from pipelines.report.summary import Summary
from steer.statistics.thresholds import Point, choose

UNITS = ((1.0, "TFLOP"), (1e-3, "GFLOP"), (1e-6, "MFLOP"), (1e-9, "kFLOP"))
"""(size in 1e12 FLOPs, name)."""

BAR_HEAD = "vs random_query"
PARETO_HEAD = "Pareto"
SHARE_HEAD, FULL_HEAD, USD_HEAD = "% of large", "in full", "$ %"
HEAD = (
    *("policy", "setting", "accuracy %", "95 % interval", "{unit}/question"),
    *(SHARE_HEAD, FULL_HEAD, "$/question", "$/right", USD_HEAD, "large steps %", BAR_HEAD, PARETO_HEAD),
)
FULL_NOTE = f"{FULL_HEAD}: % of large with prompts, re-prefill and scoring passes counted on both sides (flops_full)"
USD_NOTE = f"$: by the prices of tokens in run.json; $/right: a right answer; {USD_HEAD}: $/question in % of large's"
BAR_NOTE = f"{BAR_HEAD}: points of accuracy above sending random questions to the large model at equal FLOPs"
PARETO_NOTE = f"{PARETO_HEAD}: no other row is as accurate and as cheap in full, and better in one of the two"
GAP_HEAD = ("policy", "APGR", "CPT(50) %", "CPT(80) %")
GAP_NOTE = (
    "APGR: share of the gap from small to large recovered, mean over the cost in full between them (random routing: "
    "0.5); CPT(x): least cost that recovers x % of it, 0 % small alone, 100 % large alone"
)
MARK_NOTE = "*: threshold chosen on the validation split"


def first_of(reasons: Sequence[str], most: int) -> list[str]:
    """The first `most` reasons, a line each, and how many are left out."""
    left = len(reasons) - most
    return [*(f"  {reason}" for reason in reasons[:most]), *([f"  and {left} more"] if left > 0 else [])]


def refused(benchmarks: Sequence[dict]) -> str:
    """A line for each benchmark and split with questions that could not be asked; empty if there are none.

    `benchmarks`: the entries of `run.json`.
    """
    lines = []
    for read in benchmarks:
        if read.get("refused"):
            why = f": {read['refusal']}" if read.get("refusal") else ""
            lines.append(
                f"{read['benchmark']}, {read['split']} split: {read['refused']:,} of {read['traces']:,} traces "
                f"could not be asked and count as wrong{why}"
            )
    return "\n".join(lines)


def unit_at(flops: float) -> tuple[float, str]:
    """The largest unit in which so many 1e12 FLOPs are at least 1: (size in 1e12 FLOPs, name)."""
    return next(((size, name) for size, name in UNITS if flops >= size), UNITS[-1])


def unit_for(rows: Sequence[Summary]) -> tuple[float, str]:
    """The unit of the dearest row."""
    return unit_at(max((row.flops_paper for row in rows), default=0.0))


def tables(rows: Sequence[Summary], chosen: Collection[tuple] = (), split: str | None = None) -> str:
    """One table a benchmark and split; with `split`, only of that one. Rows whose (benchmark, policy, setting) is in
    `chosen` are marked."""
    blocks, notes = [], {}
    for benchmark, part in dict.fromkeys((r.benchmark, r.split) for r in rows):
        if split in (None, part):
            mine = [r for r in rows if (r.benchmark, r.split) == (benchmark, part)]
            marked = [(r.benchmark, r.policy, r.setting) in chosen for r in mine]
            blocks.append(_table(f"{benchmark}, {part} split, {_size(mine)}", mine, marked))
            notes[FULL_NOTE] = notes.get(FULL_NOTE, False) or any(r.policy == "large" for r in mine)
            notes[USD_NOTE] = notes.get(USD_NOTE, False) or any(not math.isnan(r.usd_tokens) for r in mine)
            notes[BAR_NOTE] = notes.get(BAR_NOTE, False) or _has_bar(mine)
            notes[PARETO_NOTE] = notes.get(PARETO_NOTE, False) or any(r.pareto for r in mine)
            notes[GAP_NOTE] = notes.get(GAP_NOTE, False) or any(not math.isnan(r.apgr) for r in mine)
            notes[MARK_NOTE] = notes.get(MARK_NOTE, False) or any(marked)
    return "\n\n".join(blocks + ["\n".join(note for note, needed in notes.items() if needed)]).rstrip()


def best_on_test(rows: Sequence[Summary]) -> list[Summary]:
    """For each benchmark and policy its most accurate row on test, as the paper reports.

    Optimistic: the threshold is chosen on the questions that it is judged by."""
    best = []
    for benchmark, policy in dict.fromkeys((r.benchmark, r.policy) for r in rows if r.split == "test"):
        mine = [r for r in rows if (r.benchmark, r.split, r.policy) == (benchmark, "test", policy)]
        point = choose([Point(r.setting, r.accuracy, r.flops_paper) for r in mine], "accuracy")
        best.append(next(r for r in mine if r.setting == point.setting))
    return best


def _size(rows: Sequence[Summary]) -> str:
    seeds, n, clusters = (max(getattr(r, key) for r in rows) for key in ("seeds", "n", "clusters"))
    shared = f" in {clusters:,} clusters that share a rule or a passage" if 0 < clusters < n else ""
    return f"{n:,} questions{shared}, {seeds} sampling seed{'s' * (seeds > 1)}"


def _table(title: str, rows: Sequence[Summary], marked: Sequence[bool]) -> str:
    size, unit = unit_for(rows)
    large = next((r for r in rows if r.policy == "large"), None)
    lines = [[name.format(unit=unit) for name in HEAD]]
    lines += [_cells(row, mark, size, large) for row, mark in zip(rows, marked, strict=True)]
    said = [i for i in range(len(HEAD)) if any(line[i] for line in lines[1:])]
    shown = [title, *_aligned([[line[i] for i in said] for line in lines]), *_oracle(rows[0], large), *_recovered(rows)]
    return "\n".join(shown)


def _oracle(row: Summary, large: Summary | None) -> list[str]:
    """The line of the oracle, which all rows of a benchmark and split share."""
    if math.isnan(row.oracle_accuracy):
        return []
    cost = f" at {_share(row.oracle_flops_full, large.flops_full)} % of large in full" if large else ""
    return [f"oracle (each question to the model that is right on it): {100 * row.oracle_accuracy:.1f} %{cost}"]


def _recovered(rows: Sequence[Summary]) -> list[str]:
    """A table of APGR and CPT, a line a policy, after an empty line; nothing if no policy has them."""
    found = {r.policy: r for r in rows if not math.isnan(r.apgr)}
    lines = [[r.policy, f"{r.apgr:.2f}", f"{100 * r.cpt_50:.0f}", f"{100 * r.cpt_80:.0f}"] for r in found.values()]
    return ["", *_aligned([GAP_HEAD, *lines])] if lines else []


def _has_bar(rows: Sequence[Summary]) -> bool:
    return any(not math.isnan(r.random_query_accuracy) for r in rows)


def _cells(row: Summary, marked: bool, size: float, large: Summary | None) -> list[str]:
    above = 100 * (row.accuracy - row.random_query_accuracy)
    return [
        row.policy,
        row.setting + " *" * marked,
        f"{100 * row.accuracy:.1f}",
        f"{100 * row.accuracy_low:.1f}–{100 * row.accuracy_high:.1f}",
        f"{row.flops_paper / size:.3g}" if row.flops_paper < 100 * size else f"{row.flops_paper / size:,.0f}",
        _share(row.flops_paper, large and large.flops_paper),
        _share(row.flops_full, large and large.flops_full),
        dollars(row.usd_tokens),
        dollars(row.usd_tokens_correct),
        "" if math.isnan(row.usd_tokens) else _share(row.usd_tokens, large and large.usd_tokens),
        f"{100 * row.share_large:.0f}",
        "" if math.isnan(above) else f"{above:+.1f}".replace("-0.0", "+0.0"),
        "✓" * row.pareto,
    ]


def dollars(usd: float) -> str:
    """Dollars with cents, or with three digits that are not 0; empty for NaN."""
    if math.isnan(usd):
        return ""
    return f"{usd:,.{max(2, 2 - math.floor(math.log10(usd))) if usd > 0 else 0}f}"


def _share(flops: float, large: float | None) -> str:
    return f"{100 * flops / large:.0f}" if large else ""


def _aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines with words aligned to the left and numbers to the right, and a rule under the head."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    words = [head in ("policy", "setting") for head in lines[0]]
    for number, line in enumerate(lines):
        columns = zip(line, widths, words, strict=True)
        yield "  ".join(text.ljust(width) if word else text.rjust(width) for text, width, word in columns).rstrip()
        if number == 0:
            yield "─" * (sum(widths) + 2 * (len(widths) - 1))
