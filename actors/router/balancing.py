"""Load balancing: which replica a row goes to.

A row goes to its home, the replica that holds its trace's prefix, unless the home has more than its share of the rows.
Then it goes to the replica that is least full for its speed.

A replica's share follows its measured speed, because a round waits for its last answer. A replica that is ten times as
slow as the others gets a tenth of the rows, or none if the others finish all of them sooner.
"""

from collections.abc import Mapping, Sequence

MIGRATE_ROWS = 8
"""A trace leaves its home if the home has a quarter more rows than its share, and this many besides. Below that,
computing the prefix again on another replica costs more than the wait."""
SLOWEST = 0.05
"""Least speed that a replica counts with, as a share of the mean: a replica must be given rows to be measured again."""


def balanced(
    homes: Sequence[int], free: Mapping[int, int], load: Mapping[int, int], step_s: Mapping[int, float | None]
) -> tuple[dict[int, list[int]], list[int]]:
    """(positions in `homes` by replica, positions for which no credit is left).

    `homes`: for each row the replica that holds its prefix. By replica: `free` is how many more rows it may take,
    `load` how many rows are out there, and `step_s` the seconds that it needs for a batch (None: not known; it counts
    as fast as the mean).
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
    """Speed of each replica. The mean is 1, before the slowest are raised to `SLOWEST`."""
    known = [1 / s for s in step_s.values() if s]
    mean = sum(known) / len(known) if known else 1.0
    return {n: max(1 / s / mean, SLOWEST) if s else 1.0 for n, s in step_s.items()}
