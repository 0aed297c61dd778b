"""Sampling seeds and coin flips.

Invariant: a seed depends on what is sampled, never on batch position, replica or order of arrival. Seeds come from a
stable hash (Python's own `hash` changes from process to process) and SplitMix64 (Steele et al., 2014).
"""

import hashlib

import numpy as np
import numpy.typing as npt

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def trace_hash(run_seed: int, question_id: str, sample: int) -> int:
    """64-bit hash of what identifies a trace in a run."""
    text = f"{run_seed}\x00{question_id}\x00{sample}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * _MIX1
        x = (x ^ (x >> np.uint64(27))) * _MIX2
        mixed: npt.NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed


def _stream(hash_L: npt.NDArray[np.uint64], step_L: npt.ArrayLike, stream: int) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        position = np.asarray(step_L).astype(np.uint64) * np.uint64(8) + np.uint64(stream + 1)
        return _mix(_mix(hash_L.astype(np.uint64)) + position * _GAMMA)


def sampling_seeds(hash_L: npt.NDArray[np.uint64], step_L: npt.ArrayLike, attempt: int) -> npt.NDArray[np.int64]:
    """Seeds [L] in [0, 2**63) for step `step_L`. Attempt 0 is the first text of a step, 1 its rewrite.

    A step that was lost with its replica is asked for again with the same seed, so a failure changes no answer.
    """
    return (_stream(hash_L, step_L, attempt) >> np.uint64(1)).astype(np.int64)


def coin(hash_L: npt.NDArray[np.uint64], step_L: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Uniform numbers [L] in [0, 1), one for each trace and step. `step_L = 0` gives one for each question.

    A trace draws the same number whatever probability p it is compared with, so a larger p only adds traces.
    """
    return _stream(hash_L, step_L, 6).astype(np.float64) / 2.0**64
