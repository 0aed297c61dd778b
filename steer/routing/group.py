"""The live traces of one routing group: a state machine without I/O.

`decide` asks the policy about the ready traces and returns the rows to dispatch. `apply` takes a replica's answers.
`lost` takes back rows whose replica died. `take_finished` hands over the traces that have ended. While a group runs, it
changes by these calls alone, so `steer.routing.replay` rebuilds a group by repeating them.

Invariants: every admitted trace leaves through `take_finished` exactly once. A trace has at most one row out at a time;
with `write_on` there may be a row that scores beside the one that writes, and rows that are being cut. A trace leaves
when its cut rows have said what they had written. The tokens of a failed try are never counted.
"""

from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

from steer.config.run import RoutingOptions
from steer.messages import Ids, Op, StepResults
from steer.policies import Act, Policy
from steer.policies.base import Acts, Floats, Indices
from steer.routing.accounting import Accounting, Pending
from steer.routing.decisions import Decisions
from steer.routing.rows import ALONE, KeptPiece, Row, as_asked, asked_of, writing_ops
from steer.routing.scores import Scores
from steer.routing.thinking import Thinking
from steer.seeds import sampling_seeds, trace_hash
from steer.traces import Finish, Measured, Model, Question, Role, Status, Trace, score_index

_LARGE, _SMALL = int(Model.LARGE), int(Model.SMALL)
_ENTROPY = score_index("entropy")
# Loops over rows compare with plain values: to look up a member of an enumeration costs as much as the rest of a loop.
_STEP, _CUT, _MISSING, _ERROR = (f.value for f in (Finish.STEP, Finish.CUT, Finish.MISSING, Finish.ERROR))
_PEEK, _SCORE, _WHOLE, _WRITE_ON = (int(op) for op in (Op.PEEK, Op.SCORE, Op.WHOLE, Op.WRITE_ON))
_KEEP, _TO_SMALL, _REWRITE = (int(act) for act in (Act.KEEP, Act.SMALL, Act.REWRITE))
_ASKING = (int(Act.PEEK), int(Act.SIGNAL))
_LABELS = tuple(model.label for model in Model)


class Group:
    """The traces [L] of one group. Columns that a policy reads are arrays; columns that only rows touch are lists."""

    def __init__(
        self,
        number: int,
        questions: Sequence[Question],
        policy: Policy,
        options: RoutingOptions,
        seed: int,
        *,
        tokenizers: Sequence[str] = ("", ""),
        closing_tags: Sequence[str] = ("", ""),
        judge: Role = Role.JUDGE,
        name: str = "0",
        cell: str = "",
    ):
        """`tokenizers`, `closing_tags`: by model, the fingerprint, and what ends its thought (empty: it has none)."""
        n = len(questions)
        self.name, self.cell, self.seed = name, cell, seed
        self.questions, self.policy, self.options = list(questions), policy, options
        self._signal = asked_of(policy, judge)
        self.strict = policy.barrier and options.barrier == "strict"
        self._writing_on = bool(options.write_on) and not (policy.whole or policy.peeks or policy.signal)
        self._ops = writing_ops(policy, self._writing_on)
        self.hash_L = np.array([trace_hash(seed, q.id, q.sample) for q in self.questions], np.uint64)
        self.live_L, self.busy_L = np.ones(n, bool), np.zeros(n, bool)
        self.last_L = np.zeros(n, bool)
        """Out for its last pass. No trace waits for it at the barrier."""
        self.step_L = np.full(n, -1, np.int32)
        self.draft_L, self.signalled_L = np.zeros(n, bool), np.zeros(n, bool)
        self.peek_L, self.signal_L = np.full(n, np.nan), np.full(n, np.nan)
        self.scores = Scores(n, policy)
        self.live = n

        self.key_L = [f"{number}.{i}" for i in range(n)]
        self.prefix_L = [as_asked(question) for question in self.questions]
        self._tokenizers = tokenizers
        self._accounting = Accounting(self.questions)
        self._thinking = Thinking(closing_tags, options.thought_tokens, self.prefix_L)
        self._pending_L: list[Pending | None] = [None] * n
        self._attempt_L = [0] * n
        self._tries_L = [0] * n
        self._used_L = [sum(tokens for _, tokens in question.begun_steps) for question in self.questions]
        self._ahead: dict[int, deque[tuple[Ids, Pending]]] = {}
        """By trace: steps that one model has written already, after the one that is to be decided on."""
        self._finished: list[tuple[int, Trace]] = []
        self._again: list[Row] = []
        self._out: dict[tuple[int, int], Row] = {}
        """By trace and role: rows that are out at a pool, but for those that are being cut."""
        self._cut: dict[tuple[int, int, int], Row] = {}
        """By trace, role and seed: rows that were told to stop and have not said what they had written."""
        self._cuts: dict[int, int] = {}
        """By trace: how many rows of it are in `_cut`."""
        self._to_cut: list[Row] = []
        self._ending: dict[int, tuple[Status, str]] = {}
        """Traces that have ended but for their cut rows."""
        self._suspect: dict[int, int] = {}
        """By trace: the `Row.suspect` of its next step."""
        self.decisions = Decisions()

    @property
    def out(self) -> int:
        """Rows that were dispatched and are neither answered to their end nor lost."""
        return len(self._out) + len(self._cut)

    def row_out(self, trace: int, role: int, seed: int) -> Row:
        """The row of a trace that is out, whether it is being cut or not. KeyError if there is none."""
        return self._cut.get((trace, role, seed)) or self._out[trace, role]

    def take_cuts(self) -> list[Row]:
        """The rows that are to stop writing, since the last call. Their last answers are still to come."""
        to_cut, self._to_cut = self._to_cut, []
        return to_cut

    # --- decide ---------------------------------------------------------------------------------------------------

    def decide(self) -> list[Row]:
        """Rows to dispatch now: those that the policy decides on, and those that must be asked again."""
        rows, self._again = self._again, []
        more = True
        while more:
            ready_N = np.flatnonzero(self.live_L & ~self.busy_L)
            if not len(ready_N) or (self.strict and (self.busy_L & ~self.last_L).any()):
                break
            acts_N, posterior_N, seconds = self.decisions.ask(self.policy, self, ready_N)
            self._accounting.charge_seconds(ready_N.tolist(), seconds / len(ready_N))
            to_dispatch, written_ahead = self._carry_out(ready_N, acts_N, posterior_N)
            rows += to_dispatch
            for trace in written_ahead:
                self._take_ahead(trace)
            more = bool(written_ahead)
            if self.strict and self.live:
                self.scores.forget_before(int(self.step_L[self.live_L].min()) - 1)
        rows += self._again
        self._again = []
        self._out.update(((row.trace, row.role), row) for row in rows)
        return rows

    def _carry_out(self, ready_N: Indices, acts_N: Acts, posterior_N: Floats) -> tuple[list[Row], list[int]]:
        """Rows to dispatch, and the traces whose next step is written already."""
        rewrite_N = acts_N == Act.REWRITE
        goes_on_N = (acts_N == Act.SMALL) | (acts_N == Act.LARGE)
        step_N = self.step_L[ready_N] + goes_on_N
        seed_N = np.where(
            rewrite_N,
            sampling_seeds(self.hash_L[ready_N], step_N, 1),
            # A peek samples with the seed of the step that it looks into, so it sees the first token of that step.
            sampling_seeds(self.hash_L[ready_N], self.step_L[ready_N] + (~rewrite_N), 0),
        )
        decided_N = ready_N[acts_N != Act.SIGNAL]
        self.draft_L[decided_N] = False
        rows: list[Row] = []
        busy: list[int] = []
        last: list[bool] = []
        to_write: list[int] = []
        written_ahead: list[int] = []
        asked = {int(Act.PEEK): (_SMALL, _PEEK)}
        if self._signal is not None:
            asked[int(Act.SIGNAL)] = (int(self._signal.role), int(self._signal.op))
        columns = (column_N.tolist() for column_N in (ready_N, acts_N, posterior_N, seed_N))
        for trace, act, posterior, seed in zip(*columns, strict=True):
            if act == _KEEP:
                continue
            pending = self._pending_L[trace]
            if act in _ASKING:
                if self._writing_on:  # of a policy that does not say that it peeks
                    self._drop_ahead(trace)
                    self._cut_off(trace)
                role, op = asked[act]
                rows.append(Row(trace, role, op, seed, 1))
                busy.append(trace)
                last.append(False)
                continue
            if act == _REWRITE:
                self._discard(trace, pending, posterior)
                self._attempt_L[trace] = 1
                model = _LARGE
            else:
                model = _SMALL if act == _TO_SMALL else _LARGE
                if pending is not None and not self._accept(trace, pending, posterior, model):
                    continue
                self._attempt_L[trace] = 0
                to_write.append(trace)
                ahead = self._ahead.get(trace)
                if ahead and ahead[0][1].model == model:
                    written_ahead.append(trace)
                    continue
                if self._writes_on(trace, model):
                    busy.append(trace)
                    last.append(False)
                    continue
            self._drop_ahead(trace)
            self._cut_off(trace)
            rows.append(self._tested(Row(trace, model, self._ops[model], seed, self._most(trace, model))))
            busy.append(trace)
            last.append(model == _LARGE and self.policy.finishes)
        self.busy_L[busy] = True
        self.last_L[busy] = last
        self.step_L[to_write] += 1
        self.peek_L[to_write] = np.nan
        if self._signal is not None and not self.policy.whole:  # a signal on the question holds for the whole pass
            self.signalled_L[decided_N] = False
            self.signal_L[decided_N] = np.nan
        return rows, written_ahead

    def _writes_on(self, trace: int, model: int) -> bool:
        """Whether a row of the trace is out that goes on writing as `model`."""
        row = self._out.get((trace, model)) if self._writing_on else None
        return row is not None and row.op == _WRITE_ON

    def _cut_off(self, trace: int) -> None:
        """Have the row of the trace that writes on stop."""
        for role in (_SMALL, _LARGE):
            if self._writes_on(trace, role):
                row = self._out.pop((trace, role))
                self._cut[trace, role, row.seed] = row
                self._cuts[trace] = self._cuts.get(trace, 0) + 1
                self._to_cut.append(row)

    def _tested(self, row: Row) -> Row:
        """The row, or the trace's next step alone, together with other suspects, if a replica died on the trace."""
        if row.trace not in self._suspect:
            return row
        return row._replace(op=int(Op.STEP), suspect=self._suspect.pop(row.trace))

    def _accept(self, trace: int, pending: Pending, posterior: float, model: int) -> bool:
        """Keep the pending step. False: the trace ends with it."""
        over = pending.finish != _STEP
        full = self.step_L[trace] + 1 >= self.options.max_steps or self._used_L[trace] >= self._limit(trace)
        decision = "end" if over or full else _LABELS[model]
        self._record(trace, pending, posterior, decision)
        if decision == "end":
            self._retire(trace, Status.ANSWERED if pending.finish == Finish.END else Status.LENGTH)
        return decision != "end"

    def _discard(self, trace: int, pending: Pending, posterior: float) -> None:
        """Throw away the pending draft, which the large model will write again."""
        self._record(trace, pending, posterior, "rewrite")
        self.prefix_L[trace].pop()
        self._thinking.dropped(trace, len(self.prefix_L[trace]))
        self._used_L[trace] -= pending.tokens
        self._accounting.discard(trace, pending.tokens)
        self.scores.take_out(trace, int(self.step_L[trace]))

    def _record(self, trace: int, pending: Pending, posterior: float, decision: str) -> None:
        step = int(self.step_L[trace])
        confidence = self.scores.confidence(trace, step)
        self._accounting.record(trace, step, pending, confidence, posterior, float(self.signal_L[trace]), decision)
        self._pending_L[trace] = None
        if decision in _LABELS and (text := self._thinking.end_spent(trace, self._used_L[trace], self.prefix_L[trace])):
            self._accounting.add_text(trace, text)
            self._drop_ahead(trace)
            self._cut_off(trace)

    # --- collect --------------------------------------------------------------------------------------------------

    def apply(self, rows: Sequence[Row], results: StepResults) -> None:
        """Take a replica's answers. `rows` [R] are the rows that they answer, in the order of the message."""
        ready: list[int] = []
        scores_RS = list(map(tuple, results.scores_RS.tolist()))
        for i, row in enumerate(rows):
            trace, finish = row.trace, results.finish_R[i]
            if self._cut and (trace, row.role, row.seed) in self._cut:
                self._take_cut(row, results, i)
                continue
            if i not in results.open_R:
                del self._out[trace, row.role]
            if not self.live_L[trace]:  # a row that scores, of a trace that has failed since
                continue
            if finish == _MISSING:
                self._ask_again(row, "the replica dropped its prefix every time")
                continue
            if finish == _ERROR:
                self._fail(trace, results.error_R.get(i, "the engine gave no reason"))
                continue
            if self._signal is not None and row.op == self._signal.op:
                self._accounting.charge_signal(trace, row.role, results, i)
                self._accounting.charge_seconds([trace], results.seconds_R[i])
                self.signal_L[trace], self.signalled_L[trace] = results.signal_R[i], True
                self._tries_L[trace] = 0
                ready.append(trace)
                continue
            self._accounting.charge(trace, row.role, results, i)
            measured = scores_RS[i]
            if row.op in (_PEEK, _SCORE):
                self._accounting.charge_seconds([trace], results.seconds_R[i])
            if finish == _CUT:  # the replica is leaving
                self._accounting.discard(trace, results.tokens_R[i])
                self._go_on_elsewhere(row)
                continue
            if row.op == _PEEK:
                self._accounting.discard(trace, 1)
                self.peek_L[trace] = -measured[_ENTROPY]
            elif row.op == _SCORE:
                pending = self._pending_L[trace]
                assert pending is not None, "only a written step is scored"
                scored = pending._replace(by_small=measured, tokens_by_small=results.token_scores_R.get(i))
                self._pending_L[trace] = scored
                self.scores.put(trace, int(self.step_L[trace]), scored)
            elif not self._write(row, results, i, measured):
                continue
            self._tries_L[trace] = 0
            if self.live_L[trace]:
                ready.append(trace)
        self.busy_L[ready] = False

    def _write(self, row: Row, results: StepResults, i: int, measured: Measured) -> bool:
        """Take a written step. False: it is not to be decided on yet, or its pass goes on."""
        trace, model = row.trace, row.role
        pending = Pending.answered(model, self._attempt_L[trace], results, i, measured)
        if row.op == _WRITE_ON and self._pending_L[trace] is not None:
            self._ahead.setdefault(trace, deque()).append((results.ids_R[i], pending))
            return False
        if i in results.more_R:
            more = results.more_R[i]
            self._ahead[trace] = deque((step.ids, Pending.ahead(step, results.replica)) for step in more)
            self._accounting.charge_ahead(trace, model, sum(len(step.ids) for step in more))
        pending = self._thinking.as_it_counts(trace, pending, self._used_L[trace])
        if row.op == _WHOLE and pending.finish == _STEP:
            return self._go_on(trace, results.ids_R[i], pending, still_written=i in results.open_R)
        return self._put(trace, results.ids_R[i], pending)

    def _take_ahead(self, trace: int) -> None:
        """Take the next step that is written already, as if the replica had answered it now."""
        ahead = self._ahead[trace]
        ids, pending = ahead.popleft()
        if not ahead:
            del self._ahead[trace]
        pending = self._thinking.as_it_counts(trace, pending, self._used_L[trace])
        self.busy_L[trace] = not self._put(trace, ids, pending._replace(attempt=self._attempt_L[trace]))

    def _drop_ahead(self, trace: int) -> None:
        """Throw away what is written ahead."""
        self._accounting.discard(trace, sum(pending.tokens for _, pending in self._ahead.pop(trace, ())))

    def _take_cut(self, row: Row, results: StepResults, i: int) -> None:
        """Charge what a cut row had written past the cut."""
        self._accounting.charge(row.trace, row.role, results, i)
        self._accounting.discard(row.trace, results.tokens_R[i])
        if i not in results.open_R:
            self._end_cut(row)

    def _end_cut(self, row: Row) -> None:
        """Note that a cut row has given its last answer."""
        trace = row.trace
        del self._cut[trace, row.role, row.seed]
        self._cuts[trace] -= 1
        if not self._cuts[trace]:
            del self._cuts[trace]
            if trace in self._ending:
                self._close(trace, *self._ending.pop(trace))

    def _go_on_elsewhere(self, row: Row) -> None:
        """The row that was writing is gone. If the trace waits for its next step, ask for it anew."""
        if self._pending_L[row.trace] is None:
            self._again.append(self._tested(self._anew(row)))

    def _anew(self, row: Row) -> Row:
        """A row that writes on from where the trace is now, with the seed of its next step: noise never repeats."""
        return row._replace(seed=self._seed(row.trace), max_tokens=self._most(row.trace, row.role), suspect=0)

    def _most(self, trace: int, model: int) -> int:
        """Tokens that a row of the trace may write now."""
        used = self._used_L[trace]
        return self._thinking.most(trace, model, used, self._limit(trace) - used)

    def _limit(self, trace: int) -> int:
        """Tokens that the trace may keep."""
        return self.options.max_new_tokens

    def _seed(self, trace: int) -> int:
        """The seed of the step that a trace is to write."""
        at = slice(trace, trace + 1)
        return int(sampling_seeds(self.hash_L[at], self.step_L[at], self._attempt_L[trace])[0])

    def _append(self, trace: int, ids: Ids, pending: Pending) -> None:
        self.prefix_L[trace].append(KeptPiece(self._tokenizers[pending.model], ids, pending.text))
        self._thinking.kept(trace, pending.model, self.prefix_L[trace])
        self._used_L[trace] += pending.tokens
        self._pending_L[trace] = pending

    def _go_on(self, trace: int, ids: Ids, pending: Pending, still_written: bool) -> bool:
        """Keep the part of a pass that has come, and ask for the rest unless its row is still writing that. False: the
        pass goes on. The policy decided on the pass as a whole, so `max_steps` does not cut it.
        """
        self._append(trace, ids, pending)
        left = self._limit(trace) - self._used_L[trace]
        self._record(trace, pending, float("nan"), _LABELS[pending.model] if left > 0 else "end")
        if left <= 0:
            self._retire(trace, Status.LENGTH)
            return True
        self._attempt_L[trace] = self._tries_L[trace] = 0
        if still_written:
            return False
        self.step_L[trace] += 1
        self._again.append(Row(trace, pending.model, _WHOLE, self._seed(trace), self._most(trace, pending.model)))
        return False

    def _put(self, trace: int, ids: Ids, pending: Pending) -> bool:
        """Append a written step to its trace. False: the small model has still to score it."""
        model, finish = pending.model, pending.finish
        self._append(trace, ids, pending)
        drafts = self.policy.drafts
        drafted = model == _SMALL and pending.attempt == 0
        drafted &= drafts == "every" or (drafts == "first" and self.step_L[trace] == 0)
        self.draft_L[trace] = drafted
        over = finish != _STEP
        if self.policy.scored_by_small and model == _LARGE and not over:
            self._again.append(Row(trace, _SMALL, _SCORE, 0, 1))
            return False
        self.scores.put(trace, int(self.step_L[trace]), pending)
        if over and not drafted:
            self._accept(trace, pending, float("nan"), model)
        return True

    # --- failures -------------------------------------------------------------------------------------------------

    def lost(self, rows: Sequence[Row], reason: str) -> None:
        """Take back rows on which a replica died. Ask each again with its seed, up to `options.tries` times.

        What was answered stays. Of a WRITE_ON row the next step alone is asked for. Rows with a `suspect` are no try.
        """
        for row in rows:
            if (row.trace, row.role, row.seed) in self._cut:
                self._end_cut(row)
                continue
            del self._out[row.trace, row.role]
            if not self.live_L[row.trace]:
                continue
            if row.op == Op.WRITE_ON:
                self._suspect[row.trace] = row.suspect
                self._go_on_elsewhere(row)
            elif row.op == Op.WHOLE and row.suspect > 0:
                self._again.append(self._anew(row)._replace(suspect=row.suspect))
            else:
                again = self._anew(row) if row.op == Op.WHOLE else row
                self._ask_again(again._replace(suspect=ALONE), reason)

    def _ask_again(self, row: Row, reason: str) -> None:
        self._tries_L[row.trace] += 1
        if self._tries_L[row.trace] >= self.options.tries:
            self._fail(row.trace, f"step {self.step_L[row.trace]} failed {self.options.tries} times: {reason}")
        else:
            self._again.append(row)

    def _fail(self, trace: int, reason: str) -> None:
        if (pending := self._pending_L[trace]) is not None:
            self._record(trace, pending, float("nan"), "end")
        self._retire(trace, Status.ERROR, reason)

    # --- retire ---------------------------------------------------------------------------------------------------

    def _retire(self, trace: int, status: Status, error: str = "") -> None:
        """End a trace: at once, or when its cut rows have given their last answers."""
        self._drop_ahead(trace)
        self._cut_off(trace)
        self.live_L[trace] = self.busy_L[trace] = False
        self.prefix_L[trace], self._pending_L[trace] = [], None
        if trace in self._cuts:
            self._ending[trace] = (status, error)
        else:
            self._close(trace, status, error)

    def _close(self, trace: int, status: Status, error: str) -> None:
        thought = self._thinking.tag(trace), self._thinking.was_cut(trace)
        closed = self._accounting.close(trace, status, error, self.cell, self.name, self.seed, *thought)
        self._finished.append((trace, closed))
        self.live -= 1

    def take_finished(self) -> list[tuple[int, Trace]]:
        """(index, trace) of the traces that ended since the last call."""
        finished, self._finished = self._finished, []
        return finished

    # --- resume in another process ----------------------------------------------------------------------------------

    def move_to_router(self, number: int, tokenizers: Sequence[str]) -> None:
        """Continue under a new router, whose replicas hold no prefix. Ask rows that were out again with their seeds.

        A row that was writing on begins after the trace's last step in the journal, with the seed of the next one. What
        it and the cut rows had written besides is not known, and not charged.
        """
        self.key_L, self._tokenizers = [f"{number}.{i}" for i in range(len(self.questions))], tokenizers
        out, self._out = self._out.values(), {}
        for row in out:
            if row.op == Op.WRITE_ON:
                self._go_on_elsewhere(row)
            else:
                self._again.append(row)
        self._to_cut = []
        for row in list(self._cut.values()):
            self._end_cut(row)

    def withdraw(self, trace_ids: Iterable[str]) -> None:
        """Drop live traces that the run has committed already. Call this only while none of their rows is out."""
        committed = set(trace_ids)
        for trace in np.flatnonzero(self.live_L).tolist():
            if self.questions[trace].trace_id in committed:
                self._retire(trace, Status.ERROR)
                self._finished.pop()
        self._again = [row for row in self._again if self.live_L[row.trace]]
