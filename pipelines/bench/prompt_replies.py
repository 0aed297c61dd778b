"""The replica of `steer bench router`: it answers at once, with texts and token ids as large as those of a real model.

What a row draws depends on its seed alone. Texts and ids are drawn once, when the replica starts, so that its own work
is small beside the router's.
"""

from array import array

import numpy as np

from actors.simulated.instant import SimulatedReplica, simulated_scores
from steer.config.run import ModelConfig, PoolConfig
from steer.messages import WRITING, Ahead, Op, StepBatch, StepResults
from steer.traces import SCORES, Finish, Measured

STEPS = 8
"""Steps of every trace. There are enough of them that admission and retirement do not dominate the loop."""
STEP_TOKENS, STEP_CHARS = 57, 200
"""Tokens and characters of every step, as of models of 0.5B and 1.5B parameters on MATH-500. A pass of `STEPS` of them
is shorter than `routing.pass_tokens`, so it never comes back before its end."""
VOCABULARY = 151_000
"""Token ids are below this number, as those of Qwen2.5 are."""
UNSURE = 0.2
"""Share of the steps with a low confidence."""
DRAWN = 2_048
"""Different steps that are drawn, more than a message has rows."""
_LETTERS = "etaoinshrdlu0123456789=+  "
_NO_IDS = array("i")
_ANSWER = "The answer is \\boxed{7}."


class PromptReplies(SimulatedReplica):
    """It ignores the `engine` keys of its model's entry."""

    def __init__(self, name: str, model: ModelConfig, pool: PoolConfig, measures: tuple[str, ...]):
        super().__init__(name, model, pool, measures)
        rng = np.random.default_rng(0)
        letters = rng.choice(list(_LETTERS), (DRAWN, STEP_CHARS - 2)).tolist()
        self._texts = ["".join(drawn) + "\n\n" for drawn in letters]
        self._ids = [array("i", drawn) for drawn in rng.integers(0, VOCABULARY, (DRAWN, STEP_TOKENS)).tolist()]

    def _answer(self, batch: StepBatch) -> StepResults:
        finish_B, text_B, ids_B, more = [], [], [], {}
        columns = zip(batch.key_B, batch.op_B, batch.seed_B, batch.held_B, batch.new_B, strict=True)
        for i, (key, op, seed, held, new) in enumerate(columns):
            pieces = held + len(new)
            finish, text, ids = Finish.STEP, "", _NO_IDS
            if self._pieces.get(key, 0) < held:
                finish = Finish.MISSING
            elif op in WRITING:
                # The pieces are the prompt and the steps so far.
                left = max(STEPS + 1 - pieces, 1)
                steps = left if op in (Op.WHOLE, Op.AHEAD) else 1
                drawn = [(seed + step) % DRAWN for step in range(steps)]
                last = Finish.END if steps == left else Finish.STEP
                ending = _ANSWER if last == Finish.END else ""
                if op == Op.AHEAD and steps > 1:
                    text, ids = self._texts[drawn[0]], self._ids[drawn[0]]
                    further = [
                        Ahead(Finish.STEP.value, self._texts[d], self._ids[d], _scores(seed, d)) for d in drawn[1:]
                    ]
                    further[-1] = further[-1]._replace(finish=last.value, text=further[-1].text + ending)
                    more[i] = tuple(further)
                    pieces += steps
                else:
                    finish, text = last, "".join(self._texts[d] for d in drawn) + ending
                    ids = sum((self._ids[d] for d in drawn), _NO_IDS)
                    pieces += 1
            self._pieces[key] = pieces
            finish_B.append(finish.value)
            text_B.append(text)
            ids_B.append(ids)
        for key in batch.drop:
            self._pieces.pop(key, None)
        return StepResults(
            row_R=list(range(len(finish_B))),
            finish_R=finish_B,
            text_R=text_B,
            ids_R=ids_B,
            tokens_R=[len(ids) for ids in ids_B],
            prompt_tokens_R=[
                STEP_TOKENS * (held + len(new)) for held, new in zip(batch.held_B, batch.new_B, strict=True)
            ],
            cached_tokens_R=[STEP_TOKENS * held for held in batch.held_B],
            scores_RS=np.array([_scores(seed, 0) for seed in batch.seed_B]).reshape(-1, SCORES),
            seconds_R=[0.0] * len(finish_B),
            more_R=more,
            replica=self._name,
            busy_s=self._busy_s,
        )


def _scores(seed: int, step: int) -> Measured:
    """The scores of a step with a confidence around 0.95 or 0.55."""
    drawn = (seed >> 17) + 7919 * step
    confidence = 0.9 - 0.4 * (drawn % 1000 < 1000 * UNSURE) + 0.1 * (drawn // 1000 % 1000 / 1000)
    return simulated_scores(confidence, STEP_TOKENS)
