"""`query_router`: a probe on the prompt says which model answers the whole question."""

import numpy as np

from steer.policies.base import Act, Acts, Drafts, Floats, Indices, View
from steer.policies.signalled import Signalled


class RouteByQuestion(Signalled):
    """Where the signal on the prompt is below the threshold, the large model answers; else the small model does."""

    whole: bool = True
    drafts: Drafts = "never"

    def decide(self, view: View, ready_N: Indices) -> tuple[Acts, Floats]:
        acts_N = np.where(self.trusted(view, ready_N), Act.SMALL, Act.LARGE)
        acts_N[~view.signalled_L[ready_N]] = Act.SIGNAL
        return acts_N.astype(np.int8), np.full(len(ready_N), np.nan)
