"""How steps end, what becomes of rows that cannot be written, and what a replica keeps of a trace."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from tiny_models import EOS, EOT, FIRST, ask, conversation, messages, prompt_ids, rows

from actors.engine.writer import MAX_EMPTY_STEPS
from steer.messages import Ahead, Op, Prompt, StepBatch
from steer.traces import SCORES

pytestmark = pytest.mark.engine
PROMPT = Prompt("count to four")
ENDS = {FIRST.token_to_id(EOS), FIRST.token_to_id(EOT)}
BLANK, DOT_BLANK = (FIRST.encode(text, add_special_tokens=False).ids[0] for text in ("\n\n", ".\n\n"))


@pytest.fixture(scope="module")
def many(small):
    """300 first steps: enough for every way to end."""
    return ask(small, rows(Op.STEP, [f"many-{i}" for i in range(300)], 0, (PROMPT,), max_tokens=16))


def test_steps_end_at_delimiter_end_of_sequence_or_length(many):
    assert set(many.finish_R) == {"step", "end", "length"}
    for finish, text, ids, tokens in zip(many.finish_R, many.text_R, many.ids_R, many.tokens_R, strict=True):
        assert tokens == len(ids)
        assert text == FIRST.decode(list(ids), skip_special_tokens=True)
        visible = text.lstrip()
        assert (finish == "step") == ("\n\n" in visible), "the step ends with the first delimiter after visible text"
        assert "\n\n" not in FIRST.decode(list(ids[:-1])).lstrip(), "and with the token that completes it"
        assert (finish == "end") == (ids[-1] in ENDS)
        assert finish != "length" or tokens == 16
        assert not ENDS & set(ids[:-1])


def test_both_ends_of_sequence_end_a_trace(many):
    """The tokenizer's, and the one that only the generation config names (vLLM gives it a reason, the other none)."""
    last = {ids[-1] for finish, ids in zip(many.finish_R, many.ids_R, strict=True) if finish == "end"}
    assert last == ENDS


def test_a_token_that_merges_text_with_the_delimiter_is_kept_whole(many):
    merged = [i for i, ids in enumerate(many.ids_R) if ids[-1] == DOT_BLANK]
    assert merged
    assert all(many.finish_R[i] == "step" and many.text_R[i].endswith(".\n\n") for i in merged)


def test_a_delimiter_spread_over_two_tokens_ends_a_step(many):
    """`.\\n` + `\\n`, or two newlines: the text decides, not the tokens."""
    newline = FIRST.token_to_id("Ċ")
    spread = [i for i, ids in enumerate(many.ids_R) if ids[-2:] == (newline, newline)]
    assert any(many.text_R[i].strip() for i in spread)
    assert all(many.finish_R[i] == "step" for i in spread if many.text_R[i].strip())


def test_steps_without_visible_text_are_merged_into_the_next(many, small):
    opened_blank = [i for i, ids in enumerate(many.ids_R) if ids[0] == BLANK and len(ids) > 1]
    assert opened_blank
    for i in opened_blank:
        assert many.text_R[i].strip() or many.finish_R[i] in ("end", "length")
    i = next(i for i in opened_blank if many.finish_R[i] == "step")
    assert np.isfinite(many.scores_RS[i]).all()
    again = ask(small, rows(Op.STEP, ["merged again"], 0, (PROMPT,), seeds=[i], max_tokens=16))
    assert again.ids_R[0] == many.ids_R[i], "the seeds of what follows an empty step derive from the step's"


def test_a_model_that_never_says_anything_ends_as_length(silent):
    answer = ask(silent, rows(Op.STEP, ["silent"], 0, (PROMPT,), max_tokens=100))
    assert answer.finish_R == ["length"]
    assert answer.ids_R[0] == (BLANK,) * MAX_EMPTY_STEPS


def test_the_token_budget_covers_merged_steps(silent):
    answer = ask(silent, rows(Op.STEP, ["budget"], 0, (PROMPT,), max_tokens=3))
    assert answer.finish_R == ["length"] and answer.tokens_R == [3]


def test_a_whole_trace_runs_over_delimiters(small):
    answer = ask(small, rows(Op.WHOLE, [f"whole-{i}" for i in range(60)], 0, (PROMPT,), max_tokens=60))
    assert set(answer.finish_R) == {"end", "length"}
    assert any(BLANK in ids[:-1] for ids in answer.ids_R)


@pytest.fixture(scope="module")
def ahead(small):
    return ask(small, rows(Op.AHEAD, [f"ahead-{i}" for i in range(60)], 0, (PROMPT,), max_tokens=60))


def every_step(answer, i):
    first = Ahead(answer.finish_R[i], answer.text_R[i], answer.ids_R[i], tuple(answer.scores_RS[i]))
    return [first, *answer.more_R.get(i, ())]


def test_writing_ahead_is_the_whole_pass_cut_where_steps_end(small, ahead):
    whole = ask(small, rows(Op.WHOLE, [f"alone-{i}" for i in range(60)], 0, (PROMPT,), max_tokens=60))
    assert any(len(every_step(ahead, i)) > 2 for i in range(60))
    for i in range(60):
        steps = every_step(ahead, i)
        assert sum((step.ids for step in steps), ()) == whole.ids_R[i]
        assert [step.finish for step in steps] == ["step"] * (len(steps) - 1) + [whole.finish_R[i]]
        for step in steps[:-1]:
            assert "\n\n" in step.text.lstrip() and "\n\n" not in FIRST.decode(list(step.ids[:-1])).lstrip()
    assert ahead.tokens_R == [len(ids) for ids in ahead.ids_R]


def test_steps_written_ahead_are_scored_and_held_like_steps_written_alone(small, ahead):
    i = next(i for i in range(60) if len(every_step(ahead, i)) > 3)
    steps = every_step(ahead, i)
    for n in range(1, len(steps)):
        alone = ask(small, rows(Op.SCORE, [f"scored {n}"], 0, (PROMPT, *(step.ids for step in steps[:n]))))
        assert alone.scores_RS[0] == pytest.approx(steps[n - 1].scores, abs=1e-4)
    kept = ask(small, rows(Op.STEP, [f"ahead-{i}"], 3, (), max_tokens=16))
    assert kept.finish_R != ["missing"]
    anew = ask(small, rows(Op.STEP, ["anew"], 0, (PROMPT, steps[0].ids, steps[1].ids), max_tokens=16))
    assert kept.ids_R == anew.ids_R


@pytest.mark.parametrize("op", [Op.WHOLE, Op.AHEAD])
def test_a_pass_comes_back_at_the_end_of_a_step_and_goes_on_from_there(small, op):
    keys = [f"{op.name} in pieces {i}" for i in range(60)]
    answer = ask(small, rows(op, keys, 0, (PROMPT,), max_tokens=60, pass_tokens=8))
    cut = [i for i in range(60) if every_step(answer, i)[-1].finish == "step"]
    assert len(cut) > 10
    for i in range(60):
        steps = every_step(answer, i)
        written = sum((step.ids for step in steps), ())
        if i in cut:
            assert len(written) >= 8 and "\n\n" in steps[-1].text.lstrip()
            # No step was begun behind the eighth token, but where the delimiter itself goes over that border.
            assert op == Op.WHOLE or len(written) - len(steps[-1].ids) < 8 + 2
        assert FIRST.decode(list(written)) == "".join(step.text for step in steps)
    held = 1 + len(every_step(answer, cut[0]))
    further = ask(small, rows(op, [keys[cut[0]]], held, (), max_tokens=40, pass_tokens=8))
    assert further.finish_R[0] != "missing" and further.tokens_R[0] > 0
    prefix = (PROMPT, *(step.ids for step in every_step(answer, cut[0])))
    anew = ask(small, rows(op, [f"{op.name} anew"], 0, prefix, max_tokens=40, pass_tokens=8))
    assert anew.ids_R == further.ids_R


def test_a_pass_without_a_step_ends_as_length(silent):
    answer = ask(silent, rows(Op.WHOLE, ["silent pass"], 0, (PROMPT,), max_tokens=100, pass_tokens=8))
    assert answer.finish_R == ["length"] and answer.ids_R[0] == (BLANK,) * (8 + MAX_EMPTY_STEPS - 1)


def test_bytes_that_are_no_text_do_not_stop_a_step(many):
    assert any("\N{REPLACEMENT CHARACTER}" in text for text in many.text_R)


def test_a_prompt_longer_than_the_context_is_an_error_of_its_row(small):
    long, exact = Prompt("x" * 400), Prompt("x" * (256 - len(prompt_ids(FIRST, Prompt("")))))
    assert len(prompt_ids(FIRST, exact)) == 256
    for op in (Op.STEP, Op.WHOLE, Op.PEEK):
        batch = rows(op, ["long", "exact", "fits"], 0, [(long,), (exact,), (PROMPT,)])
        answer = ask(small, batch)
        assert answer.finish_R[:2] == ["error", "error"] and answer.finish_R[2] != "error"
        assert set(answer.error_R) == {0, 1} and "context" in answer.error_R[0]
        assert answer.ids_R[0] == () and np.isnan(answer.scores_RS[:2]).all()
    scored = ask(small, rows(Op.SCORE, ["long", "fits"], 0, [(long, (97, 98)), (PROMPT, (97, 98))]))
    assert scored.finish_R == ["error", "step"]


def test_a_trace_that_fills_the_context_ends_as_length(small):
    room = 256 - len(prompt_ids(FIRST, PROMPT))
    nearly, full = (97,) * (room - 1), (97,) * room
    answer = ask(small, rows(Op.WHOLE, ["nearly"], 0, (PROMPT, nearly), max_tokens=100, seeds=[2]))
    assert answer.finish_R == ["length"] and answer.tokens_R == [1]
    answer = ask(small, rows(Op.STEP, ["full"], 0, (PROMPT, full)))
    assert answer.finish_R == ["length"] and answer.tokens_R == [0]
    scored = ask(small, rows(Op.SCORE, ["full", "over"], 0, [(PROMPT, full), (PROMPT, (*full, 97))]))
    assert scored.finish_R == ["step", "step"]
    assert np.isfinite(scored.scores_RS[0]).all() and np.isnan(scored.scores_RS[1]).all()


def test_what_vllm_refuses_is_an_error_of_its_row(small):
    batch = rows(Op.STEP, ["unknown token", "good"], 0, [(PROMPT, (10**6,)), (PROMPT, (97,))])
    answer = ask(small, batch)
    assert answer.finish_R[0] == "error" and answer.error_R[0]
    assert answer.finish_R[1] != "error"
    no_prompt = ask(small, rows(Op.STEP, ["no prompt"], 0, ((97,),)))
    assert no_prompt.finish_R == ["error"]
    spent = ask(small, rows(Op.STEP, ["spent"], 0, (PROMPT,), max_tokens=0))
    assert spent.finish_R == ["length"] and spent.tokens_R == [0]


def test_a_prefix_that_is_not_held_is_missing(small):
    assert ask(small, rows(Op.STEP, ["never seen"], 1, ())).finish_R == ["missing"]
    ask(small, rows(Op.STEP, ["seen"], 0, (PROMPT,)))
    assert ask(small, rows(Op.STEP, ["seen"], 3, ())).finish_R == ["missing"], "fewer pieces are held than that"
    assert ask(small, rows(Op.PEEK, ["seen"], 2, ())).finish_R == ["step"]
    answer = ask(small, rows(Op.PEEK, ["seen"], 2, (), drop=["seen"]))
    assert answer.finish_R == ["missing"], "dropped before the rows are read"


def test_a_discarded_draft_leaves_no_trace(small):
    ask(small, rows(Op.STEP, ["draft"], 0, (PROMPT,), seeds=[7]))
    rewrite = (97, 98, BLANK)
    after_draft = ask(small, rows(Op.STEP, ["draft"], 1, (rewrite,), seeds=[8]))
    fresh = ask(small, rows(Op.STEP, ["no draft"], 0, (PROMPT, rewrite), seeds=[8]))
    assert after_draft.ids_R == fresh.ids_R
    np.testing.assert_allclose(after_draft.scores_RS, fresh.scores_RS, atol=1e-4)


def test_what_a_replica_wrote_is_held_as_one_piece(small):
    first = ask(small, rows(Op.STEP, ["held"], 0, (PROMPT,), seeds=[9]))
    went_on = ask(small, rows(Op.STEP, ["held"], 2, (), seeds=[10]))
    sent_whole = ask(small, rows(Op.STEP, ["sent"], 0, (PROMPT, first.ids_R[0]), seeds=[10]))
    assert went_on.ids_R == sent_whole.ids_R
    assert went_on.prompt_tokens_R[0] == len(prompt_ids(FIRST, PROMPT)) + len(first.ids_R[0])


def test_one_seed_gives_the_same_tokens_in_any_batch(small, many):
    chosen = [3, 50, 120, 299]
    alone = [ask(small, rows(Op.STEP, [f"alone-{i}"], 0, (PROMPT,), seeds=[i], max_tokens=16)) for i in chosen]
    assert [answer.ids_R[0] for answer in alone] == [many.ids_R[i] for i in chosen]
    assert many.ids_R[3] != many.ids_R[50]


def test_flush_answers_in_parts_every_row_once(small):
    keys = [f"flush-{i}" for i in range(200)]
    parts = messages(small, rows(Op.WHOLE, keys, 0, (PROMPT,), max_tokens=200, flush_s=0.02))
    assert len(parts) > 1 and all(part.row_R for part in parts)
    assert sorted(row for part in parts for row in part.row_R) == list(range(200))
    assert all(part.replica == "small-0" for part in parts)


def test_batches_in_flight_together_do_not_mix(small):
    batches = [rows(Op.STEP, [f"both-{b}-{i}" for i in range(20)], 0, (PROMPT,), seeds=range(20)) for b in range(2)]
    (left,), (right,) = asyncio.run(conversation(small, batches))
    ids = [dict(zip(answer.row_R, answer.ids_R, strict=True)) for answer in (left, right)]
    assert ids[0] == ids[1]


def written_on(parts, row):
    """(finish, ids, scores, whether more follows) of every answer to a row that writes on."""
    return [
        (part.finish_R[r], part.ids_R[r].tolist(), part.scores_RS[r].tolist(), r in part.open_R)
        for part in parts
        for r, answered in enumerate(part.row_R)
        if answered == row
    ]


@pytest.mark.parametrize("name", ["small", "small_max_logit"])
def test_a_row_that_writes_on_answers_each_step_of_the_same_pass(request, name):
    """With the recorder, and by vLLM's public API alone."""
    replica = request.getfixturevalue(name)
    keys = [f"on-{i}" for i in range(40)]
    passes = ask(replica, rows(Op.AHEAD, [f"whole-{i}" for i in range(40)], 0, (PROMPT,), max_tokens=120))
    parts = messages(replica, rows(Op.WRITE_ON, keys, 0, (PROMPT,), max_tokens=120, flush_s=0.005))
    several = 0
    for row in range(40):
        steps = written_on(parts, row)
        expected = every_step(passes, row)
        assert [ids for _, ids, _, _ in steps if ids] == [list(step.ids) for step in expected]
        for (finish, _, scores, more), step in zip(steps, expected, strict=False):
            np.testing.assert_allclose(scores, step.scores, atol=1e-5)
            assert more == (finish == "step") or finish == step.finish
        assert [more for *_, more in steps] == [True] * (len(steps) - 1) + [False]
        several += len(steps) > 2
    assert several > 5
    first = [part.prompt_tokens_R[r] for part in parts for r, row in enumerate(part.row_R) if row == 0]
    assert first[0] == len(prompt_ids(FIRST, PROMPT)) and not any(first[1:]), "a row reads its prompt once"


def test_a_row_that_is_cut_says_what_it_had_written_and_leaves_the_steps_it_answered(small):
    cut_at = {}

    async def cut_after_the_first_step(replica, numbers, at, results):
        for r, row in enumerate(results.row_R):
            if r in results.open_R and row not in cut_at:
                cut_at[row] = results.ids_R[r]
                await replica.cut([(numbers[at], row)])

    keys = [f"cut-{i}" for i in range(20)]
    batch = rows(Op.WRITE_ON, keys, 0, (PROMPT,), max_tokens=200, flush_s=0.001)
    (parts,) = asyncio.run(conversation(small, [batch], cut_after_the_first_step))
    last = {row: (part.finish_R[r], part.tokens_R[r]) for part in parts for r, row in enumerate(part.row_R)}
    cut = [row for row in cut_at if last[row][0] == "cut"]
    assert cut, "none was still writing when it was told to stop"
    assert sum(last[row][1] for row in cut) > 0, "what was written past the cut is charged"
    again = ask(small, rows(Op.STEP, [keys[row] for row in cut], 2, ()))
    assert set(again.finish_R) <= {"step", "end", "length"}, "prompt and first step are held"
    elsewhere = [(PROMPT, cut_at[row]) for row in cut]
    sent = ask(small, rows(Op.STEP, [f"sent-{row}" for row in cut], 0, elsewhere))
    assert again.ids_R == sent.ids_R


def test_cutting_a_row_that_has_ended_changes_nothing(small):
    async def cut_all(replica, numbers, at, results):
        await replica.cut([(numbers[at], row) for r, row in enumerate(results.row_R) if r not in results.open_R])

    batch = rows(Op.WRITE_ON, [f"ended-{i}" for i in range(20)], 0, (PROMPT,), max_tokens=60, flush_s=0.001)
    (parts,) = asyncio.run(conversation(small, [batch], cut_all))
    assert "cut" not in {finish for part in parts for finish in part.finish_R}


@pytest.mark.parametrize("pass_tokens", [None, 30])
def test_a_pass_that_is_answered_in_parts_is_the_same_pass(small, pass_tokens):
    whole = ask(
        small, rows(Op.WHOLE, [f"one-{i}" for i in range(40)], 0, (PROMPT,), max_tokens=120, pass_tokens=pass_tokens)
    )
    batch = rows(
        Op.WHOLE, [f"part-{i}" for i in range(40)], 0, (PROMPT,), max_tokens=120, pass_tokens=pass_tokens, flush_s=0.005
    )
    parts = messages(small, replace(batch, sampling=replace(batch.sampling, stream=True)))
    several = 0
    for row in range(40):
        answers = written_on(parts, row)
        assert [i for _, ids, _, _ in answers for i in ids] == list(whole.ids_R[row])
        assert [more for *_, more in answers] == [True] * (len(answers) - 1) + [False]
        assert answers[-1][0] == whole.finish_R[row]
        assert {finish for finish, *_ in answers[:-1]} <= {"step"}
        several += len(answers) > 2
    assert several > 5


@pytest.mark.parametrize("op", [Op.STEP, Op.AHEAD, Op.WHOLE])
def test_any_row_that_writes_can_be_cut(small, op):
    """One row of the batch ends at once, and the other is then told to stop."""
    keys = [f"stop-{op.name}-{i}" for i in range(30)]

    async def cut_the_others(replica, numbers, at, results):
        await replica.cut([(numbers[at], row) for row in range(30)])

    batch = rows(op, keys, 0, (PROMPT,), max_tokens=[1, *[400] * 29], flush_s=0.001)
    (parts,) = asyncio.run(conversation(small, [batch], cut_the_others))
    last = {
        row: (part.finish_R[r], part.tokens_R[r], part.ids_R[r]) for part in parts for r, row in enumerate(part.row_R)
    }
    assert len(last) == 30
    cut = [tokens for finish, tokens, ids in last.values() if finish == "cut" and not len(ids)]
    assert len(cut) > (0 if op == Op.STEP else 5) and all(tokens < 400 for tokens in cut)
    assert op == Op.STEP or sum(cut) > 0, "what they had written is charged"


def test_an_empty_batch_only_drops(small):
    (answer,) = messages(small, StepBatch(rows(Op.STEP, [], 0, ()).sampling, [], [], [], [], [], [], drop=("held",)))
    assert answer.row_R == [] and answer.scores_RS.shape == (0, SCORES)


def test_a_model_that_cannot_be_loaded_says_so_without_its_secrets(tmp_path, capfd):
    from actors.engine.replica import EngineReplica
    from steer.config.run import ModelConfig, PoolConfig
    from steer.traces import MEASURES

    model = ModelConfig(path=str(tmp_path / "made-up-token"), engine={"hf_token": "made-up-token"})
    replica = EngineReplica("lost-0", model, PoolConfig(), MEASURES)
    with pytest.raises(RuntimeError, match="lost-0 cannot load") as failure:
        asyncio.run(replica.describe())
    printed = "".join(capfd.readouterr())
    assert "Traceback" in printed
    assert "made-up-token" not in printed + str(failure.value)
