"""Batches of rows of similar length, so that little of a batch is padding."""

from collections.abc import Sequence


def cut(lengths: Sequence[int], most_tokens: int) -> list[slice]:
    """Slices of rows that are sorted by length.

    Padded to its longest row, a slice has at most `most_tokens`. A longer row is a slice of its own.
    """
    slices, first = [], 0
    while first < len(lengths):
        last = first + 1
        while last < len(lengths) and (last - first + 1) * lengths[last] <= most_tokens:
            last += 1
        slices.append(slice(first, last))
        first = last
    return slices
