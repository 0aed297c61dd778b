"""Seeds and coins: stable from process to process, distinct from step to step."""

import numpy as np

from steer.seeds import coin, sampling_seeds, trace_hash


def test_the_hash_is_the_same_in_every_process_and_version():
    assert trace_hash(0, "q1", 0) == 0x214568549CD02B22


def test_steps_attempts_samples_and_runs_have_seeds_of_their_own():
    hashes = np.array([trace_hash(run, f"q{q}", s) for run in (0, 1) for q in range(50) for s in (0, 1)], np.uint64)
    seeds = [sampling_seeds(hashes, step, attempt) for step in range(20) for attempt in (0, 1)]
    flat = np.concatenate(seeds)
    assert len(set(flat.tolist())) == len(flat)
    assert (flat >= 0).all()


def test_coins_are_uniform_and_independent_of_the_seeds():
    hashes = np.array([trace_hash(0, f"q{q}", 0) for q in range(4000)], np.uint64)
    tosses = coin(hashes, 3)
    assert abs(tosses.mean() - 0.5) < 0.03 and abs((tosses < 0.25).mean() - 0.25) < 0.03
    assert abs(np.corrcoef(tosses, coin(hashes, 4))[0, 1]) < 0.05
