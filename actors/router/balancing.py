"""Which replica a row goes to: home where its prefix is, as long as that has no more than its share; else the least full.

Shares follow measured speed. A round waits for its last answer, so a replica that needs ten times as long as its peers
is given a tenth, and no row of its own where the others are done sooner with all of them.
"""

from collections.abc import Mapping, Sequence

MIGRATE_ROWS = 8
"""A trace leaves its home when that has this many rows (and a quarter) more than its share: below, recomputing the
prefix's prefix elsewhere costs more than the wait."""
SLOWEST = 0.05
"""A replica counts as at least so fast, of the mean: it must be given rows to be measured again."""


def balanced(
    homes: Sequence[int], free: Mapping[int, int], load: Mapping[int, int], step_s: Mapping[int, float | None]
) -> tuple[dict[int, list[int]], list[int]]:
    """(positions in `homes` by replica, positions for which no credit is left).

    `homes`: the replica that holds each row's prefix; by replica: `free` credits, `load`, the rows out there, and
    `step_s`, what it takes for a batch (None: not known, as fast as the mean).
    """
    free, load = dict(free), dict(load)
    speed = _speeds(step_s)
    share = (sum(load.values()) + len(homes)) / sum(speed.values())
    limit = {n: 1.25 * share * speed[n] + MIGRATE_ROWS * min(speed[n], 1.0) for n in free}
    shares: dict[int, list[int]] = {n: [] for n in free}
    homeless, rest = [], []
    for i, home in enumerate(homes):
        if free.get(home, 0) > 0 and load[home] < limit[home]:
            shares[home].append(i)
            free[home] -= 1
            load[home] += 1
        else:
            homeless.append(i)
    for i in homeless:
        open_to = [n for n in free if free[n] > 0]
        if not open_to:
            rest.append(i)
            continue
        n = min(open_to, key=lambda n: (load[n] + 1) / speed[n])
        shares[n].append(i)
        free[n] -= 1
        load[n] += 1
    return {n: mine for n, mine in shares.items() if mine}, rest


def _speeds(step_s: Mapping[int, float | None]) -> dict[int, float]:
    """Speed of each replica, their mean being 1 (before the slowest are raised)."""
    known = [1 / s for s in step_s.values() if s]
    mean = sum(known) / len(known) if known else 1.0
    return {n: max(1 / s / mean, SLOWEST) if s else 1.0 for n, s in step_s.items()}
