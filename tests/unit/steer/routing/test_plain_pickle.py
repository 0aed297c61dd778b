"""Pickles from a folder that somebody else may write to: plain data comes back, and no code of theirs runs."""

import builtins
import os
import pickle
from array import array
from collections import deque
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import pytest

from steer.routing.plain_pickle import REDUCERS, NotPlain, dumps, loads


@dataclass
class Held:
    value: object = None

    def decide(self):
        return "ours"


class Kind(IntEnum):
    ONE = 1


CLASSES = (Held, Kind)


class Calls:
    """Is pickled as a call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class Sets:
    """Is pickled as attributes that are set of another object, or of a class."""

    def __init__(self, target, state):
        self.target, self.state = target, state


class Pickler(pickle._Pickler):
    """Writes `Sets`, which no `__reduce__` can say of a class."""

    def save(self, value, *arguments, **options):
        if isinstance(value, Sets):
            super().save(value.target)
            super().save(value.state)
            self.write(pickle.BUILD)
        else:
            super().save(value, *arguments, **options)


def written(value, tmp_path):
    with (tmp_path / "written").open("wb") as file:
        Pickler(file, 4).dump(value)
    return (tmp_path / "written").read_bytes()


@pytest.mark.parametrize(
    "value",
    [
        np.arange(12.0).reshape(3, 4)[:, ::2],
        np.array([], bool),
        np.array(7, np.uint64),
        np.float32(1.5),
        np.bool_(True),
        array("i", [1, 2, 3]),
        deque([1, (2, {3})]),
        {"a": Held([Kind.ONE, None, b"x", "y"])},
    ],
)
def test_plain_data_comes_back_as_it_was(value):
    again = loads(dumps(value, REDUCERS), CLASSES)
    assert type(again) is type(value)
    np.testing.assert_equal(again, value)
    if isinstance(value, np.ndarray):
        assert again.dtype == value.dtype and again.flags.writeable


def test_objects_that_were_one_stay_one():
    shared = [1]
    first, second = loads(dumps((Held(shared), Held(shared)), REDUCERS), CLASSES)
    assert first.value is second.value


@pytest.mark.parametrize("wrapped", [lambda x: x, lambda x: [x], lambda x: Held(x), lambda x: {Kind.ONE: Held([x])}])
def test_no_function_of_a_pickle_is_called(wrapped, tmp_path):
    touched = tmp_path / "touched"
    for call in (
        Calls(os.system, f"touch {touched}"),
        Calls(eval, f"open({str(touched)!r}, 'w')"),
        Calls(builtins.getattr, Calls(__import__, "os"), "system"),
        Calls(pickle.loads, pickle.dumps(Calls(os.system, f"touch {touched}"))),
        Calls(__import__, "antigravity"),
    ):
        with pytest.raises(NotPlain, match="which no such file holds"):
            loads(written(wrapped(call), tmp_path), CLASSES)
    assert not touched.exists()


@pytest.mark.parametrize("name", ["Held.decide", "Held.__init__", "os.system", "REDUCERS", "Calls", "__builtins__"])
def test_names_that_lead_on_from_an_allowed_one_are_refused(name):
    data = pickle.PROTO + b"\x04"
    for text in (__name__, name):
        data += pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode()
    with pytest.raises(NotPlain, match="which no such file holds"):
        loads(data + pickle.STACK_GLOBAL + pickle.STOP, CLASSES)


def test_numpys_own_reconstruction_is_refused(tmp_path):
    """It would take the layout of memory from the file."""
    for value in (np.arange(3), np.float64(1), np.dtype("f8")):
        with pytest.raises(NotPlain):
            loads(pickle.dumps(value, 5), CLASSES)


@pytest.mark.parametrize("value", [np.array([object()]), np.array(["text"]), np.zeros(2, [("a", "f8")])])
def test_arrays_of_anything_but_numbers_are_neither_written_nor_read(value, tmp_path):
    with pytest.raises(NotPlain):
        dumps(value, REDUCERS)
    module = "steer.routing.plain_pickle"
    call = pickle.PROTO + b"\x04" + f"c{module}\n_array\n(V{value.dtype.str}\n(I1\ntC\x08".encode()
    with pytest.raises((NotPlain, TypeError)):
        loads(call + b"\0" * 8 + b"tR.", CLASSES)


def test_a_class_that_a_pickle_changes_is_set_back_and_the_pickle_refused(tmp_path):
    before = dict(vars(Held))
    for state in ((None, {"decide": Kind}), (None, {"more": 1, "__init__": deque})):
        with pytest.raises(NotPlain, match="an attribute of a class"):
            loads(written(Sets(Held, state), tmp_path), CLASSES)
    assert dict(vars(Held)) == before
    assert Held().decide() == "ours"


def test_what_a_pickle_does_to_a_function_ends_with_it(tmp_path):
    from steer.routing.plain_pickle import _array

    with_defaults = Sets(_array, (None, {"__defaults__": ("f8", (1,), b"x" * 8), "more": 1}))
    loads(written(with_defaults, tmp_path), CLASSES)
    assert _array.__defaults__ is None and not vars(_array)
