"""`rsd` and `spec_reason`: the small model drafts every step, and another model's signal keeps or refuses the draft."""

import numpy as np

from steer.policies.base import Act, Acts, Drafts, Floats, Indices, View
from steer.policies.signalled import Signalled


class DraftAndVerify(Signalled):
    """Below the threshold the large model writes a draft again. Its rewrite is kept without a check."""

    whole: bool = False
    drafts: Drafts = "every"

    def decide(self, view: View, ready_N: Indices) -> tuple[Acts, Floats]:
        unasked_N = view.draft_L[ready_N] & ~view.signalled_L[ready_N]
        refused_N = view.draft_L[ready_N] & ~self.trusted(view, ready_N)
        acts_N = np.select([unasked_N, refused_N], [Act.SIGNAL, Act.REWRITE], Act.SMALL)
        return acts_N.astype(np.int8), np.full(len(ready_N), np.nan)
