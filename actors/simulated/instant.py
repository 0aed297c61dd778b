"""A replica without a model. It answers by rule, so that the loop around it can be tested and measured alone.

It has the interface of `actors.engine.replica.EngineReplica`. As with sampling, what a row draws depends on its seed
alone. The options are the model entry's `engine` keys. The entry's `path` is only a name.
"""

import asyncio
import contextlib
import math
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import ray

from actors.engine.in_flight import STREAM_S
from steer.config.run import ModelConfig, PoolConfig
from steer.messages import PROMPT_TOO_LONG, WRITING, CallAnswers, EngineInfo, Op, StepBatch, StepResults
from steer.traces import AGGREGATES, MEASURES, SCORES, Finish, Measured

WRITE_ON_S = 0.005
"""Seconds of a further step of a row that writes on, if a step takes no time. The router decides in about as long."""
SCALES = (20.0, 1.0, 1.0, 10.0)
"""What each measure of a confidence is, in the order of `MEASURES`, times that confidence. Entropy is one less."""
_ANSWER = "The answer is \\boxed{7}."


def simulated_scores(confidence: float, tokens: int) -> Measured:
    """The scores [S] of a step whose tokens are all as sure as this, 0 to 1."""
    max_logit, entropy, max_prob, margin = (scale * confidence for scale in SCALES)
    return (*(max_logit, entropy - 1.0, max_prob, margin) * len(AGGREGATES), float(tokens))


class SimulatedReplica:
    """A WHOLE pass writes one step and ends the trace. If `pass_tokens` is at most a step's tokens, the pass comes back
    after that step instead, and the trace goes on.

    Options, with their defaults:
    `steps` (8): mean number of steps of a trace; `exact` (false): every trace has exactly `steps` steps.
    `thought` (0): steps of a trace's thought; the last of them ends with the model's closing tag.
    `tokens` (10): tokens of a step. `max_len`: a prompt with more characters ends as an error.
    `sure` (0.9): least confidence of a sure step, the largest is 0.1 higher. Half of the steps are unsure: 0.4 lower.
    `start_s` (0): seconds to load. `unusable`: the model cannot be loaded.
    `step_s` (0): seconds of a call. `row_s` (0): seconds of a row; the pool's `max_num_seqs` rows run at once.
    `slow`: name of a replica whose calls take ten times as long.
    `end_mark`: a file. While it is not there, no trace ends.
    `die_mark`: a file. While it is not there, a process that has got `die_after` rows makes it and dies.
    `poison`: part of a prompt on which the process always dies. `fault`: the same, but the call raises.
    `refuse`: part of a prompt that is refused while the file `refuse_mark` is not there.
    `log`: a file that gets the seed of every text that is begun.
    """

    def __init__(self, name: str, model: ModelConfig, pool: PoolConfig, measures: tuple[str, ...]):
        options = {
            "steps": 8,
            "exact": False,
            "thought": 0,
            "tokens": 10,
            "step_s": 0.0,
            "row_s": 0.0,
            "slow": None,
            "start_s": 0.0,
            "sure": 0.9,
            "max_len": 1 << 30,
            **model.engine,
        }
        self._name, self._model, self._measures, self._options = name, model, measures, options
        self._factor = 10 if name == options["slow"] else 1
        self._engine = asyncio.Semaphore(pool.max_num_seqs)
        self._pieces: dict[str, int] = {}
        """Number of pieces of the prefix that is held here, by trace key."""
        self._outbox: asyncio.Queue[CallAnswers | Exception] = asyncio.Queue()
        self._tasks: set[asyncio.Task] = set()
        self._cut: set[tuple[int, int]] = set()
        """Rows that are to stop writing, by call and position in the batch."""
        self._rows = 0
        """Rows that have come so far."""
        self._busy_s = 0.0

    def __repr__(self) -> str:
        """The name of the actor in Ray's logs and dashboard."""
        return self._name

    async def describe(self) -> EngineInfo:
        await asyncio.sleep(self._options["start_s"])
        if self._options.get("unusable"):
            raise RuntimeError(f"replica {self._name} cannot load {self._model.path}: it is simulated so")
        return EngineInfo(
            replica=self._name,
            model=self._model.path,
            parameters=self._model.parameters or 1.0,
            tokenizer="simulated",
            max_model_len=self._options["max_len"],
            measures=self._measures,
            pid=os.getpid(),
            node=ray.get_runtime_context().get_node_id(),
        )

    async def submit(self, call: int, batch: StepBatch) -> None:
        task = asyncio.create_task(self._serve(call, batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def cut(self, rows: list[tuple[int, int]]) -> None:
        self._cut.update(rows)

    async def answers(self) -> AsyncIterator[list[CallAnswers]]:
        until_s = time.monotonic() + STREAM_S
        while (left_s := until_s - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    message = [await self._outbox.get()]
                while not self._outbox.empty():
                    message.append(self._outbox.get_nowait())
                for answers in message:
                    if isinstance(answers, Exception):
                        raise answers
                yield message

    async def _serve(self, call: int, batch: StepBatch) -> None:
        """Answer a batch. Rows that write on write a step each in every further round."""
        try:
            results = await self._round(batch)
            places, going = list(range(len(batch.key_B))), [op == Op.WRITE_ON for op in batch.op_B]
            while True:
                ends = [finish != Finish.STEP for finish in results.finish_R]
                open_R = frozenset(r for r, place in enumerate(places) if going[place] and not ends[r])
                row_R = list(places)
                self._outbox.put_nowait(CallAnswers(call, replace(results, row_R=row_R, open_R=open_R)))
                places = [place for r, place in enumerate(places) if r in open_R]
                if not places:
                    return
                if not (self._options["step_s"] or self._options["row_s"]):
                    await asyncio.sleep(WRITE_ON_S)
                cut = [place for place in places if (call, place) in self._cut]
                if cut:
                    self._cut.difference_update((call, place) for place in cut)
                    self._outbox.put_nowait(CallAnswers(call, self._cut_off(cut)))
                    places = [place for place in places if place not in cut]
                none = [0] * len(places)  # they have read their prompts
                further = await self._round(self._further(batch, places))
                results = replace(further, prompt_tokens_R=none, cached_tokens_R=none)
        except Exception as error:
            self._outbox.put_nowait(error)

    async def _round(self, batch: StepBatch) -> StepResults:
        started = time.monotonic()
        self._log_seeds(batch)
        if self._options["step_s"]:
            await asyncio.sleep(self._options["step_s"] * self._factor)
        if self._options["row_s"]:
            await asyncio.gather(*(self._row() for _ in batch.key_B))
        self._perhaps_die(batch)
        results = self._answer(batch)
        self._busy_s += time.monotonic() - started
        return results

    def _further(self, batch: StepBatch, places: list[int]) -> StepBatch:
        """The next round of these rows: each goes on from what it has written, with a seed drawn from its last."""
        held_B = [self._pieces.get(batch.key_B[place], 0) for place in places]
        seeds = (f"{batch.seed_B[place]} {held}" for place, held in zip(places, held_B, strict=True))
        return replace(
            batch,
            key_B=[batch.key_B[place] for place in places],
            op_B=[batch.op_B[place] for place in places],
            seed_B=[int.from_bytes(blake2b(seed.encode(), digest_size=8).digest(), "big") >> 1 for seed in seeds],
            max_tokens_B=[batch.max_tokens_B[place] for place in places],
            held_B=held_B,
            new_B=[()] * len(places),
            drop=(),
        )

    def _cut_off(self, places: list[int]) -> StepResults:
        """The last answers of rows that were cut, as if each had written half a step more."""
        n = len(places)
        return StepResults(
            row_R=places,
            finish_R=[Finish.CUT.value] * n,
            text_R=[""] * n,
            ids_R=[()] * n,
            tokens_R=[self._options["tokens"] // 2] * n,
            prompt_tokens_R=[0] * n,
            cached_tokens_R=[0] * n,
            scores_RS=np.full((n, SCORES), np.nan),
            seconds_R=[0.0] * n,
            replica=self._name,
            busy_s=self._busy_s,
        )

    def _log_seeds(self, batch: StepBatch) -> None:
        if "log" in self._options:
            seeds = [seed for op, seed in zip(batch.op_B, batch.seed_B, strict=True) if op in WRITING]
            with open(self._options["log"], "a") as file:
                file.write("".join(f"{seed}\n" for seed in seeds))

    async def _row(self) -> None:
        """Take one row's time, once the row is among those that the engine runs at once."""
        async with self._engine:
            await asyncio.sleep(self._options["row_s"] * self._factor)

    def _perhaps_die(self, batch: StepBatch) -> None:
        self._rows += len(batch.key_B)
        mark = self._options.get("die_mark")
        if mark and self._rows >= self._options["die_after"] and not os.path.exists(mark):
            open(mark, "w").close()
            os._exit(1)
        if self._meets("poison", batch):
            os._exit(1)
        if self._meets("fault", batch):
            raise RuntimeError("a simulated fault")

    def _refuses(self, prompt: str) -> bool:
        part = self._options.get("refuse")
        return part is not None and part in prompt and not os.path.exists(self._options["refuse_mark"])

    def _meets(self, option: str, batch: StepBatch) -> bool:
        """Whether a prompt in the batch contains the option's text."""
        part = self._options.get(option)
        return part is not None and any(part in getattr(pieces[0], "user", "") for pieces in batch.new_B if pieces)

    def _answer(self, batch: StepBatch) -> StepResults:
        n = len(batch.key_B)
        seed_B = np.array(batch.seed_B, np.uint64)
        ends_B = ((seed_B >> np.uint64(7)) % np.uint64(997)) / 997.0 < 1.0 / self._options["steps"]
        spread_B = ((seed_B >> np.uint64(17)) % np.uint64(991)) / 991.0
        unsure_B = (seed_B >> np.uint64(27)) % np.uint64(2) == 0
        conf_B = self._options["sure"] - 0.4 * unsure_B + 0.1 * spread_B
        measures_B4 = np.outer(conf_B, SCALES)
        measures_B4[:, MEASURES.index("entropy")] -= 1.0
        measures_B4[:, [m not in self._measures for m in MEASURES]] = np.nan
        length, exact_steps = self._options["tokens"], self._options["steps"] if self._options["exact"] else 0
        scores_BS = np.hstack([np.tile(measures_B4, len(AGGREGATES)), np.full((n, 1), float(length))])
        finish_B, text_B, ids_B, tokens_B, cached_B, errors = [], [], [], [], [], {}
        ids = tuple(range(length))
        one_piece = length < (batch.sampling.pass_tokens or math.inf)  # a pass is not cut after its first step
        columns = zip(batch.key_B, batch.op_B, batch.held_B, batch.new_B, ends_B.tolist(), strict=True)
        may_end = os.path.exists(self._options.get("end_mark", os.curdir))
        for i, (key, op, held, new, ends) in enumerate(columns):
            have = self._pieces.get(key, 0)
            if exact_steps:  # the pieces are the prompt and the steps so far
                ends = held + len(new) >= exact_steps
            ends = ends and may_end
            finish, text, new_ids, tokens = Finish.STEP, "", (), 0
            if have < held:
                finish = Finish.MISSING
            elif held == 0 and len(new[0].user) > self._options["max_len"]:
                finish = Finish.ERROR
                length, most = len(new[0].user), self._options["max_len"]
                errors[i] = f"{PROMPT_TOO_LONG} {length} tokens, the model's context {most}"
            elif held == 0 and self._refuses(new[0].user):
                finish, errors[i] = Finish.ERROR, "the row is refused: it is simulated so"
            elif op in (Op.PEEK, Op.JUDGE):
                tokens = 1
            elif op not in (Op.SCORE, Op.REWARD, Op.SOLVE):
                finish = Finish.END if ends or (op == Op.WHOLE and one_piece) else Finish.STEP
                text, new_ids, tokens = (_ANSWER if finish == Finish.END else "a step\n\n"), ids, length
                if self._model.thinks is not None and held + len(new) == self._options["thought"]:
                    text = f"a step\n{self._model.thinks.close}\n\n"
            self._pieces[key] = held + len(new) + (1 if new_ids else 0)
            finish_B.append(finish.value)
            text_B.append(text)
            ids_B.append(new_ids)
            tokens_B.append(tokens)
            cached_B.append(length * held)
        for key in batch.drop:
            self._pieces.pop(key, None)
        prompt_B = [length * (held + len(new)) for held, new in zip(batch.held_B, batch.new_B, strict=True)]
        return StepResults(
            row_R=list(range(n)),
            finish_R=finish_B,
            text_R=text_B,
            ids_R=ids_B,
            tokens_R=tokens_B,
            prompt_tokens_R=prompt_B,
            cached_tokens_R=cached_B,
            scores_RS=scores_BS,
            seconds_R=[0.0] * n,
            signal_R=(conf_B * np.where(np.array(batch.op_B) == Op.JUDGE, 9.0, 1.0)).tolist(),
            error_R=errors,
            replica=self._name,
            busy_s=self._busy_s,
        )
