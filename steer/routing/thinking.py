"""Which live traces of a group are inside their thought, and how many tokens they may still write there.

A row is given no more tokens than its trace's thought has left, so a thought never exceeds its budget. The step that
reaches the budget is decided on like any other. If it is kept, the group ends the thought in its place: it appends the
closing tag as text that no model wrote.

Invariant: what is known here follows from the kept pieces of the prefixes alone, so a discarded draft leaves no trace.
"""

from collections.abc import Sequence

from steer.routing.accounting import Pending
from steer.routing.rows import KeptPiece
from steer.thoughts import answer_start, closing_text
from steer.traces import Finish, Model

_LENGTH, _STEP = Finish.LENGTH.value, Finish.STEP.value


class Thinking:
    """Traces are named by their index in the group."""

    def __init__(self, closing_tags: Sequence[str], budget: int | None, prefixes: Sequence[Sequence[KeptPiece]] = ()):
        """`closing_tags`: by model, empty for one that does not think. `budget`: most tokens of a thought; None: as
        many as the trace. `prefixes`: of each trace, what it begins with; a step of it may be there already."""
        self._tags, self._budget = tuple(closing_tags), budget
        self._tag: dict[int, str] = {}
        """By trace: the closing tag of the model that wrote its first step, if that model thinks."""
        self._ended: dict[int, int] = {}
        """By trace: how many pieces its prefix had when its thought ended."""
        self._bounded: set[int] = set()
        """Traces whose row was given fewer tokens than the trace has left."""
        self._cut: set[int] = set()
        """Traces whose thought was ended for them."""
        for trace, pieces in enumerate(prefixes):
            for kept in range(2, len(pieces) + 1):
                # Another trace of the pair wrote these steps: models that think and models that do not never share one.
                self.kept(trace, int(Model.SMALL), pieces[:kept])

    def tag(self, trace: int) -> str:
        """The closing tag of the trace; empty if it does not think, or has no step yet."""
        return self._tag.get(trace, "")

    def was_cut(self, trace: int) -> bool:
        """Whether the thought of the trace was ended for it."""
        return trace in self._cut

    def most(self, trace: int, model: int, used: int, left: int) -> int:
        """Tokens that a row of `model` may write. `used`: those of the trace's kept steps; `left`: those that the trace
        may still have."""
        self._bounded.discard(trace)
        thinks = self._tag[trace] if trace in self._tag else self._tags[model]
        if self._budget is None or not thinks or trace in self._ended or self._budget - used >= left:
            return left
        self._bounded.add(trace)
        return self._budget - used

    def as_it_counts(self, trace: int, pending: Pending, used: int) -> Pending:
        """The step, whose trace goes on if it ended at the budget of the thought alone. `used`: tokens before it."""
        if pending.finish != _LENGTH or trace not in self._bounded:
            return pending
        assert self._budget is not None, "a row was bounded by it"
        return pending._replace(finish=_STEP) if used + pending.tokens >= self._budget else pending

    def kept(self, trace: int, model: int, pieces: Sequence[KeptPiece]) -> None:
        """Note a step that `model` wrote, the last of `pieces`. The first of these is the prompt."""
        if len(pieces) == 2:
            self._tag[trace] = self._tags[model]
        tag = self._tag.get(trace, "")
        if not tag or trace in self._ended:
            return
        # Looked for where it can be new, because the whole text is long. (It may lie across two pieces.)
        before = pieces[-2].text[-len(tag) :]
        if tag in before + pieces[-1].text and answer_start("".join(p.text for p in pieces), tag) is not None:
            self._ended[trace] = len(pieces)

    def dropped(self, trace: int, pieces: int) -> None:
        """Note that the last piece is gone, so that there are `pieces` left."""
        if self._ended.get(trace, 0) > pieces:
            del self._ended[trace]
        if pieces == 1:
            self._tag.pop(trace, None)

    def forget(self, trace: int) -> None:
        """Begin anew for another question that has taken the trace's place."""
        self._tag.pop(trace, None)
        self._ended.pop(trace, None)
        self._bounded.discard(trace)
        self._cut.discard(trace)

    def end_spent(self, trace: int, used: int, pieces: list[KeptPiece]) -> str:
        """Append what ends the thought of the trace to its `pieces`, if its budget is used up. Returns that text; empty
        if the thought is over, or may go on."""
        tag = self._tag.get(trace, "")
        if not tag or self._budget is None or used < self._budget or trace in self._ended:
            return ""
        text = closing_text(pieces[-1].text, tag)
        pieces.append(KeptPiece("", text, text))
        self._ended[trace] = len(pieces)
        self._cut.add(trace)
        return text
