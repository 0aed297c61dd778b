"""Pickles of plain data: what can be read from a folder that others may write to.

A pickle names classes and functions, and calls them. Python's own reader resolves any name, so a pickle of somebody
else's runs his code. `loads` resolves the names that it is given and no other, by a table: it imports nothing and
follows no dotted name. NumPy's own reconstruction is not in the table, because it takes a pickle's word for the layout
of memory. `dumps` writes an array as its dtype, shape and bytes, and `loads` checks them.

Invariants: of what a pickle says, only the constructors of the given classes run, and they keep what they get. A pickle
can set attributes of objects, also of a class itself: a class that has changed is restored and the pickle refused. An
attribute of an object can be another object, but never code that is not in the table.
"""

import array
import copyreg
import io
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

Reducers = dict[type, Any]
"""By type: the function that takes an object apart, with the answer of `object.__reduce__`."""

Functions = dict[tuple[str, str], Callable[..., Any]]

_KINDS = "biufc"
"""Kinds of dtypes that arrays may have: numbers and booleans, whose bytes may be anything."""
_NUMBERS = (np.bool_, *np.sctypeDict.values())
"""NumPy's scalar types; some are there several times."""


_CACHED = "__slotnames__"
"""What `copyreg` keeps in a class when an object of it is pickled for the first time, perhaps in another thread."""
_ABSENT = object()


class NotPlain(pickle.PicklingError, pickle.UnpicklingError):
    """A pickle holds, or would hold, what is no plain data of the given classes."""


def dumps(value: Any, reducers: Reducers) -> bytes:
    """Pickle a value. `reducers`: `REDUCERS` and others.

    Raises NotPlain for an array of objects or texts, and what pickle raises.
    """
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=5)
    # By type, because `persistent_id` is asked about every object: that took a third of a round's time.
    pickler.dispatch_table = reducers
    pickler.dump(value)
    return file.getvalue()


def loads(data: bytes, classes: Iterable[type], functions: Functions | None = None) -> Any:
    """The value that `dumps` was given.

    `classes`: those whose instances it may hold. `functions`: what stands for the functions that the `reducers` of
    `dumps` name, by module and name. Raises NotPlain for any other name, and for a pickle that changes a class.
    """
    table: dict[tuple[str, str], Any] = {(cls.__module__, cls.__qualname__): cls for cls in (*_PLAIN, *classes)}
    table["array", "_array_reconstructor"] = array._array_reconstructor  # type: ignore[attr-defined]
    # Functions of this call alone: a pickle may set the attributes of what it names.
    for (module, name), function in (_OWN | (functions or {})).items():
        table[module, name] = _called(function)
    with _unchanged({cls for cls in table.values() if isinstance(cls, type)}):
        return _Unpickler(data, table).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, table: Mapping[tuple[str, str], Any]):
        super().__init__(io.BytesIO(data))
        self._table = table

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._table[module, name]
        except KeyError:
            raise NotPlain(f"it names {module}.{name}, which no such file holds") from None


@contextmanager
def _unchanged(classes: Iterable[type]) -> Iterator[None]:
    """Raise NotPlain if the block changes an attribute of one of the classes, after setting it back."""
    before = [(cls, dict(vars(cls))) for cls in classes]
    changed = ""
    try:
        yield
    finally:
        for cls, held in before:
            now = vars(cls)
            for name in {*now, *held} - {_CACHED}:
                if now.get(name, _ABSENT) is held.get(name, _ABSENT):
                    continue
                changed = f"{cls.__qualname__}.{name}"
                if name in held:
                    type.__setattr__(cls, name, held[name])
                else:
                    type.__delattr__(cls, name)
    if changed:
        raise NotPlain(f"it sets {changed}, an attribute of a class")


def _called(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: function(*arguments)


def _array(dtype: str, shape: tuple[int, ...], data: bytes) -> npt.NDArray[Any]:
    return np.frombuffer(bytearray(data), _checked(dtype)).reshape(shape)


def _number(dtype: str, data: bytes) -> Any:
    return np.frombuffer(data, _checked(dtype))[0]


def _checked(dtype: str) -> np.dtype[Any]:
    """Raises NotPlain for a dtype whose bytes must not be taken from anybody."""
    found = np.dtype(str(dtype))
    if found.kind not in _KINDS or found.fields or found.subdtype:
        raise NotPlain(f"it holds an array of {found}, which is none of numbers")
    return found


def _reduced_array(value: npt.NDArray[Any]) -> tuple[Any, ...]:
    return _array, (_checked(value.dtype.str).str, value.shape, value.tobytes())


def _reduced_number(value: np.generic) -> tuple[Any, ...]:
    return _number, (_checked(value.dtype.str).str, value.tobytes())


_OWN: Functions = {(__name__, "_array"): _array, (__name__, "_number"): _number}
_PLAIN = (deque, array.array)
"""Containers beside those that pickle has codes for."""
REDUCERS: Reducers = copyreg.dispatch_table | {
    np.ndarray: _reduced_array,
    **{kind: _reduced_number for kind in _NUMBERS if np.dtype(kind).kind in _KINDS},
}
