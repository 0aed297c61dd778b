"""`query_router`: the whole question to the model that a probe on its prompt calls for."""

import numpy as np

from steer.policies.base import Act, View
from steer.policies.signalled import Signalled


class RouteByQuestion(Signalled):
    """Each question wholly to the model that the signal on its prompt calls for."""

    whole = True
    drafts = "never"

    def decide(self, view: View, ready_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        acts_N = np.where(self.trusted(view, ready_N), Act.SMALL, Act.LARGE)
        acts_N[~view.signalled_L[ready_N]] = Act.SIGNAL
        return acts_N.astype(np.int8), np.full(len(ready_N), np.nan)
