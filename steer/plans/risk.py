"""Risk control: a bound on P(policy wrong where the large model is right) that holds after choosing.

Clopper and Pearson (1934) bound one share from its count. Choosing the cheapest of several settings by such bounds
would spend the guarantee; fixed-sequence testing does not: settings are tested in an order that was fixed beforehand,
from safe to cheap, and the first that fails ends it. Then the chance that any accepted setting is above the limit is at
most 1 - confidence (Angelopoulos et al., Learn then Test, arXiv 2110.01052). Invariant: the order and the settings must
not depend on the answers that are counted.
"""

from collections.abc import Sequence
from math import ceil, log

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from steer.plans.table import Bools

CONFIDENCE = 0.95


def upper_bound(lost: int, questions: int, confidence: float = CONFIDENCE) -> float:
    """One-sided Clopper-Pearson upper bound on a share of which `lost` of `questions` were seen. ValueError if `lost`
    is not in 0 to `questions`, or there are no questions."""
    if not (0 <= lost <= questions and questions):
        raise ValueError(f"{lost} questions lost of {questions}")
    return 1.0 if lost == questions else float(beta.ppf(confidence, lost + 1, questions - lost))


def lost_questions(correct: npt.ArrayLike, large_correct_Q: npt.ArrayLike) -> Bools:
    """Where the policy is wrong and the large model right; one answer to a question each. [..., Q]"""
    lost: Bools = (np.asarray(correct) < 0.5) & (np.asarray(large_correct_Q) >= 0.5)
    return lost


def fixed_sequence(lost: Sequence[int], questions: int, alpha: float, confidence: float = CONFIDENCE) -> int:
    """How many of the settings, ordered from safe to cheap, are certified to lose at most `alpha` of the questions.

    `lost`: questions that each setting lost. The certified ones are the first of them; 0: not even the safest.
    """
    for position, count in enumerate(lost):
        if upper_bound(count, questions, confidence) > alpha:
            return position
    return len(lost)


def fewest_questions(alpha: float, confidence: float = CONFIDENCE) -> int:
    """Questions without a loss that it takes to certify `alpha`."""
    return ceil(log(1.0 - confidence) / log(1.0 - alpha))
