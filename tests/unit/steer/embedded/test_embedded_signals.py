"""The embedded reward model and judge: their labels and training data, the weights that ship, and their training."""

import json
import random
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer.embedded import tokenizer, weights_path
from steer.embedded.batches import cut
from steer.embedded.labels import parse, split_steps, step_labels, true_steps
from steer.embedded.mistakes import wrong_step
from steer.embedded.tasks import BENCHMARKS, PAIR_BENCHMARKS, STEP_DELIMITER, questions, training_stream

NAMES = ("prm", "judge")
QUESTIONS = 16
FLOORS = {"prm": 0.95, "judge": 0.8}
"""AUROC over the drafts of the first `QUESTIONS` validation questions, on each benchmark: below what was measured."""


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors are tiny: on a busy machine, threads that wait for each other take ten times as long."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def load(name, folder):
    """A trained model, from a folder in which only the auxiliary head is missing."""
    from safetensors.torch import load_file

    from steer.embedded.signals import SIGNALS

    model = SIGNALS[name]()
    lacking, unknown = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    assert not unknown and all(key.startswith("auxiliary.") for key in lacking)
    return model


# --- labels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_the_question_alone_gives_the_true_steps(benchmark):
    for task in questions(benchmark, "test", 200):
        assert true_steps(benchmark, task.question) == task.steps
        assert split_steps("".join(task.steps)) == task.steps
        assert all(step_labels(benchmark, task.question, task.steps))
        assert parse(benchmark, task.question)[2] == task.level


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_a_step_is_right_at_its_own_place_and_as_it_is_written_alone(benchmark):
    (task,) = questions(benchmark, "validation", 1)
    first, second = task.steps[:2]
    assert step_labels(benchmark, task.question, (second, second)) == [False, True]
    assert step_labels(benchmark, task.question, (first, first, task.steps[2])) == [True, False, True]
    assert step_labels(benchmark, task.question, (first.strip(), f" {second}")) == [False, False]
    assert step_labels(benchmark, task.question, (*task.steps, "more")) == [True] * len(task.steps) + [False]
    assert step_labels(benchmark, task.question, ()) == []


def test_other_questions_have_no_labels():
    (task,) = questions("hops", "test", 1)
    changed = (task.question.replace("Start: ", "Start: Sir "), task.question + " ", "", "What is 1+1?")
    for benchmark, question in (("chain_math", task.question), *(("hops", text) for text in changed)):
        with pytest.raises(ValueError, match=f"no question of {benchmark}"):
            true_steps(benchmark, question)
    with pytest.raises(ValueError, match="chain_math, mixed_chain, hops"):
        true_steps("math500", task.question)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.data())
def test_a_made_mistake_is_one_step_and_never_the_true_one(seed, data):
    task = next(training_stream("large", seed, BENCHMARKS))
    index = data.draw(st.integers(0, len(task.steps) - 1))
    wrong = wrong_step(random.Random(seed), task, index)
    assert split_steps(wrong) == (wrong,)
    assert step_labels(task.benchmark, task.question, (*task.steps[:index], wrong)) == [True] * index + [False]


# --- what the models read -------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 60)), st.integers(1, 300))
def test_rows_are_cut_into_batches_once_each_and_within_the_limit(lengths, most):
    lengths = sorted(lengths)
    parts = cut(lengths, most)
    assert [i for part in parts for i in range(len(lengths))[part]] == list(range(len(lengths)))
    for part in parts:
        rows = lengths[part]
        assert len(rows) * rows[-1] <= most or len(rows) == 1


def test_the_separator_is_one_token_after_all_others():
    plain, extended = tokenizer.build(), tokenizer.build((tokenizer.STEP_SEPARATOR,))
    assert extended.token_to_id(tokenizer.STEP_SEPARATOR) == plain.get_vocab_size()
    assert extended.get_vocab_size() == plain.get_vocab_size() + 1
    assert all(extended.token_to_id(text) == i for text, i in plain.get_vocab().items())
    for benchmark in BENCHMARKS:
        for task in questions(benchmark, "test", 40):
            text = tokenizer.prompt_text(task.question) + "".join(task.steps)
            assert extended.encode(text).ids == plain.encode(text).ids


@pytest.fixture(scope="module")
def shipped():
    """The two models that ship, in torch."""
    pytest.importorskip("torch")
    return {name: load(name, weights_path(name)) for name in NAMES}


def test_both_read_what_the_texts_encode_to_and_tell_there_alone(shipped):
    from steer.embedded.signals import RIGHT, WRONG, label

    prm, judge = shipped["prm"], shipped["judge"]
    rng = random.Random(0)
    for task in islice(training_stream("large", 0), 30):
        at = rng.randrange(len(task.steps))
        response = label(task, (*task.steps[:at], wrong_step(rng, task, at)))
        (row,) = prm.rows([response])
        prompt = tokenizer.prompt_text(task.question)
        separated = (step.removesuffix(STEP_DELIMITER) + tokenizer.STEP_SEPARATOR for step in response.steps)
        assert row.ids == prm.tokenizer.encode(prompt + "".join(separated)).ids
        told = [(i, t) for i, t in zip(row.ids, row.targets, strict=True) if t in (RIGHT, WRONG)]
        assert told == [(prm.separator, RIGHT)] * at + [(prm.separator, WRONG)]
        rows = judge.rows([response])
        assert len(rows) == at + 1
        assert rows[-1].ids == judge.tokenizer.encode(prompt + "".join(response.steps) + tokenizer.JUDGE_TURN).ids
        assert [row.targets[-1] for row in rows] == [RIGHT] * at + [WRONG]
        assert not {RIGHT, WRONG} & {target for row in rows for target in row.targets[:-1]}


# --- the models -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drafts():
    """The small model's drafts on the first validation questions of each benchmark."""
    pytest.importorskip("torch")
    from steer.embedded.train_signals import drafts

    return drafts(QUESTIONS)


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_model_tells_right_drafts(name, shipped, drafts):
    from steer.embedded.train_signals import figures

    for prefix, rated in drafts.items():
        for benchmark, levels in figures(shipped[name], rated).items():
            assert levels["overall"]["wrong"] >= 10 and levels["overall"]["right"] >= 50
            assert levels["overall"]["auroc"] >= FLOORS[name], (prefix, benchmark, levels)


def test_the_figures_beside_the_weights_are_of_these_models(shipped):
    report = json.loads((weights_path("prm").parent / "signals.json").read_text())
    assert set(report) == set(NAMES)
    for name, model in shipped.items():
        assert report[name]["parameters"] == sum(p.numel() for p in model.trained().values())


def test_drafts_are_rated_in_their_order(shipped, drafts):
    from steer.embedded.train_signals import ratings

    few = drafts["own_prefix"][:9] + drafts["true_prefix"][:9]
    for model in shipped.values():
        together = ratings(model, few)
        assert [len(values) for values in together] == [len(r.steps) - r.first for r in few]
        for response, values in zip(few, together, strict=True):
            assert ratings(model, [response])[0] == pytest.approx(values, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_training_is_the_same_again_and_writes_what_loads(name, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from steer.embedded import train_signals
    from steer.embedded.train_signals import train_signal

    monkeypatch.setattr(train_signals, "ROUND_RESPONSES", 40)
    models, reports = zip(
        *(train_signal(name, 3, tmp_path / run, tokens=5000, log=lambda line: None) for run in ("a", "b")), strict=True
    )
    assert reports[0]["tokens"] == reports[1]["tokens"] >= 5000
    first, second = ((tmp_path / run / "model.safetensors").read_bytes() for run in ("a", "b"))
    assert first == second
    loaded, shipped = load(name, tmp_path / "a").state_dict(), load(name, weights_path(name)).state_dict()
    assert all(
        torch.equal(loaded[key], value) for key, value in models[0].state_dict().items() if "auxiliary" not in key
    )
    assert {key: value.shape for key, value in loaded.items()} == {key: value.shape for key, value in shipped.items()}
    files = {path.name for path in (tmp_path / "a").iterdir()}
    assert files == {path.name for path in weights_path(name).iterdir() if path.is_file()}


def test_train_signals_trains_and_measures_both(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from steer.embedded import train_signals

    few = train_signals.drafts(4)
    monkeypatch.setattr(train_signals, "ROUND_RESPONSES", 40)
    monkeypatch.setattr(train_signals, "TOKENS", dict.fromkeys(NAMES, 2000))
    monkeypatch.setattr(train_signals, "drafts", lambda: few)
    report = train_signals.train_signals(1, tmp_path, log=lambda line: None)
    assert report == json.loads((tmp_path / "signals.json").read_text())
    for name in NAMES:
        assert (tmp_path / name / "config.json").exists() and report[name]["seed"] == 1
        for prefix in ("true_prefix", "own_prefix"):
            assert set(report[name][prefix]) == set(PAIR_BENCHMARKS)
            assert set(report[name][prefix]["hops"]) == {"overall", "1", "2", "3", "4"}
