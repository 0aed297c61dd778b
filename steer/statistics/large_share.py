"""Where in a trace the large model writes: the paper's Figure 5, by position, difficulty and verdict.

Invariant: a step counts once. A step that spans several tenths of its trace counts in each by its part.
"""

import numpy as np
import pandas as pd

from steer.statistics.frames import DECILES, KEYS, MIN_SCORES, by_row

MOST_BANDS = 6
"""Lines that a chart can tell apart. More difficulties than this are put together."""


def large_share(traces: pd.DataFrame, steps: pd.DataFrame, least: int = MIN_SCORES) -> pd.DataFrame:
    """Share of the kept steps that the large model wrote, for each tenth of the trace, difficulty and verdict.

    `position` is the middle of the tenth in percent. Step i of n covers i/n to (i + 1)/n of its trace and counts in
    each tenth by the part that lies there, so that short traces leave no tenth empty. `steps` is the sum of these
    parts. Left out are rows of the report without a trace that both models wrote, and difficulties with fewer than
    `least` traces of that verdict.
    """
    blocks = []
    for row, mine in by_row(traces):
        own = steps[steps["trace"].isin(mine.index)]
        whose = mine.index.get_indexer(pd.Index(own["trace"]))
        by_large = np.bincount(whose, own["large"], minlength=len(mine))
        if not ((by_large > 0) & (by_large < np.bincount(whose, minlength=len(mine)))).any():
            continue
        bands = difficulty_bands(mine["difficulty"].astype(str))
        group = bands.cat.codes.to_numpy()[whose].astype(int) * 2 + mine["correct"].to_numpy()[whose]
        groups = 2 * len(bands.cat.categories)
        step, of, large = (own[name].to_numpy() for name in ("step", "of", "large"))
        first, last = step / of * DECILES, (step + 1) / of * DECILES
        traces_in = np.bincount(group[step == 0], minlength=groups)
        lines = []
        for tenth in range(DECILES):
            part = (np.minimum(last, tenth + 1) - np.maximum(first, tenth)).clip(0) / (last - first)
            written = np.bincount(group, part, groups)
            written_large = np.bincount(group, part * large, groups)
            for g in np.flatnonzero((written > 1e-9) & (traces_in >= least)):
                found = {"difficulty": bands.cat.categories[g // 2], "correct": bool(g % 2), "position": tenth * 10 + 5}
                share = {"share_large": written_large[g] / written[g], "steps": written[g], "traces": traces_in[g]}
                lines.append((g, {**row._asdict(), **found, **share}))
        blocks += [line for _, line in sorted(lines, key=lambda pair: pair[0])]
    columns = [*KEYS, "difficulty", "correct", "position", "share_large", "steps", "traces"]
    return pd.DataFrame(blocks, columns=columns)


def difficulty_bands(difficulty: pd.Series) -> pd.Series:
    """The difficulties as an ordered category of at most `MOST_BANDS`.

    Numbers become ranges of about equally many traces. Of words the most frequent stay and the rest is `other`. A trace
    without a difficulty is `all`.
    """
    words = difficulty.where(difficulty != "", "all")
    names = list(words.unique())
    numbers = pd.to_numeric(words, errors="coerce")
    if len(names) > MOST_BANDS and numbers.notna().all():
        cut = pd.qcut(numbers, MOST_BANDS - 1, duplicates="drop")
        words = numbers.groupby(cut, observed=True).transform(lambda part: f"{part.min():g}–{part.max():g}").astype(str)
    elif len(names) > MOST_BANDS:
        kept = words.value_counts().index[: MOST_BANDS - 1]
        words = words.where(words.isin(kept), "other")
    return words.astype(pd.CategoricalDtype(sorted(words.unique(), key=_place), ordered=True))


def _place(name: str) -> tuple[int, float, str]:
    """Sort key: numbers by size and ranges by their lower end, then words, then `other`."""
    try:
        return (0, float(name.split("–")[0]), "")
    except ValueError:
        return (1, float(name == "other"), name)
