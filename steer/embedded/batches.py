"""Rows of similar length together, so that little of a batch is padding."""

from collections.abc import Sequence


def cut(lengths: Sequence[int], most_tokens: int) -> list[slice]:
    """Slices of rows in order of length, each of at most `most_tokens` once padded to its longest row (or one row)."""
    slices, first = [], 0
    while first < len(lengths):
        last = first + 1
        while last < len(lengths) and (last - first + 1) * lengths[last] <= most_tokens:
            last += 1
        slices.append(slice(first, last))
        first = last
    return slices
