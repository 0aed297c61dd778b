"""`rsd` and `spec_reason`: every step is drafted, and kept where another model's word is high."""

import numpy as np

from steer.policies.base import Act, View
from steer.policies.signalled import Signalled


class DraftAndVerify(Signalled):
    """The small model drafts every step; below the threshold the large model writes it again, kept without a check."""

    whole = False
    drafts = "every"

    def decide(self, view: View, ready_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        unasked_N = view.draft_L[ready_N] & ~view.signalled_L[ready_N]
        refused_N = view.draft_L[ready_N] & ~self.trusted(view, ready_N)
        acts_N = np.select([unasked_N, refused_N], [Act.SIGNAL, Act.REWRITE], Act.SMALL)
        return acts_N.astype(np.int8), np.full(len(ready_N), np.nan)
